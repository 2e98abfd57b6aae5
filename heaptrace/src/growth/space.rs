//! One process image's address space, call by call.
//!
//! Calls come in the order in which they returned. The kernel does them in another order at times: a thread's munmap
//! may return after another thread's mmap was given the same addresses. Such an mmap is told by what it lies over,
//! and the addresses are then owed to the munmap that is still to come, which began before the mmap was over.

use super::intervals::{Intervals, Kind, Removed};
use crate::process::maps::Mapping;
use std::path::Path;

/// A call that succeeded. Lengths are whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The break, in bytes.
    Brk {
        old: u64,
        new: u64,
    },
    /// `fixed`: in place of what was there.
    Mmap {
        at: u64,
        length: u64,
        kind: Kind,
        fixed: bool,
    },
    Munmap {
        at: u64,
        length: u64,
    },
    /// The pages are given back, as far as there are any, and stay mapped. `lazily`: only when memory is short.
    GiveBack {
        at: u64,
        length: u64,
        lazily: bool,
    },
    /// `keeps_old`: the old mapping stays (MREMAP_DONTUNMAP, or an old length of 0).
    Mremap {
        old: u64,
        old_length: u64,
        new: u64,
        length: u64,
        keeps_old: bool,
        fixed: bool,
    },
}

/// When a call was under way; `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct When {
    pub entered_ns: u64,
    pub left_ns: u64,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// By how many bytes more is mapped. Of a give-back: how many were, negative.
    pub delta: i64,
    /// Where.
    pub at: u64,
    pub kind: Kind,
}

/// Addresses that were mapped anew before word came that they had been unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owed {
    start: u64,
    end: u64,
    since_ns: u64,
    kind: Kind,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Space {
    page: u64,
    mapped: Intervals,
    /// Calls that began before this may be in what was read of the process already.
    read_ns: u64,
    owed: Vec<Owed>,
}

impl Space {
    /// The space of an image of which nothing is known.
    pub fn new(page: u64) -> Self {
        Self { page, mapped: Intervals::default(), read_ns: 0, owed: Vec::new() }
    }

    /// The space of a child, in which no call of its parent's is under way.
    pub fn forked(&self) -> Self {
        Self { owed: Vec::new(), ..self.clone() }
    }

    /// Takes what `/proc/PID/maps` said at `read_ns`, after all calls that had returned by then were applied. What
    /// calls have mapped is known better: only the gaps are filled. What holds one of `stack_pointers` is a stack.
    pub fn adopt(&mut self, mappings: &[Mapping], stack_pointers: &[u64], read_ns: u64) {
        for mapping in mappings.iter().filter(|mapping| is_counted(mapping)) {
            let range = mapping.start..mapping.end;
            let kind = match kind_of(mapping) {
                Kind::Anonymous if stack_pointers.iter().any(|sp| range.contains(sp)) => Kind::Stack,
                kind => kind,
            };
            self.mapped.fill(mapping.start, mapping.end, kind);
        }
        self.read_ns = read_ns;
    }

    /// Does what the kernel did.
    pub fn apply(&mut self, call: Call, when: When) -> Change {
        let (delta, at, kind) = match call {
            Call::GiveBack { at, length, lazily: _ } => {
                let parts = self.mapped.parts(at, at.saturating_add(length));
                let kind = parts.first().map_or(Kind::Anonymous, |part| part.2);
                return Change { delta: -length.cast_signed(), at, kind };
            }
            Call::Brk { old, new } => self.brk(self.rounded(old), self.rounded(new), when),
            Call::Mmap { at, length, kind, fixed } => (self.map(at, length, kind, fixed, when), at, kind),
            Call::Munmap { at, length } => {
                let removed = self.unmap(at, at.saturating_add(length), when);
                (-removed.bytes.cast_signed(), at, removed.kind.unwrap_or(Kind::Anonymous))
            }
            Call::Mremap { old, old_length, new, length, keeps_old, fixed } => {
                let (delta, kind) = self.remap((old, old_length), (new, length), keeps_old, fixed, when);
                (delta, new, kind)
            }
        };
        Change { delta, at, kind }
    }

    fn rounded(&self, address: u64) -> u64 {
        address.saturating_add(self.page - 1) / self.page * self.page
    }

    fn brk(&mut self, old: u64, new: u64, when: When) -> (i64, u64, Kind) {
        if new >= old {
            return (self.map(old, new - old, Kind::Heap, false, when), old, Kind::Heap);
        }
        let removed = self.unmap(new, old, when);
        // All below the break is mapped, whether we know of it or not; but what was read may be of after this call.
        let bytes = if when.entered_ns < self.read_ns { removed.bytes } else { old - new };
        (-bytes.cast_signed(), new, Kind::Heap)
    }

    /// Gives by how much more is mapped.
    fn map(&mut self, at: u64, length: u64, kind: Kind, fixed: bool, when: When) -> i64 {
        let end = at.saturating_add(length);
        // What was read may have it already, or not; then what is new tells.
        let may_be_read = when.entered_ns < self.read_ns;
        if !fixed && !may_be_read {
            // The kernel puts nothing over anything unless it is told to.
            for (start, end, kind) in self.mapped.parts(at, end) {
                self.owed.push(Owed { start, end, since_ns: when.left_ns, kind });
            }
            self.mapped.insert(at, end, kind);
            return length.cast_signed();
        }
        length.cast_signed() - self.mapped.insert(at, end, kind).bytes.cast_signed()
    }

    fn unmap(&mut self, start: u64, end: u64, when: When) -> Removed {
        let mut removed = Removed::default();
        let mut left = vec![(start, end)];
        let mut still = Vec::new();
        // The oldest first: each address is paid for once, whoever else is to come.
        for owed in std::mem::take(&mut self.owed) {
            let mut unpaid = vec![(owed.start, owed.end)];
            if when.entered_ns < owed.since_ns {
                for (start, end) in left.clone() {
                    let (from, to) = (owed.start.max(start), owed.end.min(end));
                    if from < to {
                        // The old mapping is what this took; the new one stays.
                        removed.bytes += to - from;
                        removed.kind.get_or_insert(owed.kind);
                        left = left.into_iter().flat_map(|range| without(range, (from, to))).collect();
                        unpaid = unpaid.into_iter().flat_map(|range| without(range, (from, to))).collect();
                    }
                }
            }
            still.extend(unpaid.into_iter().map(|(start, end)| Owed { start, end, ..owed }));
        }
        self.owed = still;
        for (start, end) in left {
            let part = self.mapped.remove(start, end);
            removed.bytes += part.bytes;
            removed.kind = removed.kind.or(part.kind);
        }
        removed
    }

    fn remap(
        &mut self,
        (old, old_length): (u64, u64),
        (new, length): (u64, u64),
        keeps_old: bool,
        fixed: bool,
        when: When,
    ) -> (i64, Kind) {
        let kind =
            self.mapped.parts(old, old.saturating_add(old_length.max(self.page))).first().map(|part| part.2);
        let kind = kind.unwrap_or(Kind::Anonymous);
        if keeps_old {
            return (self.map(new, length, kind, fixed, when), kind);
        }
        let mut delta = 0;
        if length < old_length {
            // The tail goes first, and may have holes (`mremap`, mm/mremap.c, 6.18).
            let tail = self.unmap(old.saturating_add(length), old.saturating_add(old_length), when);
            delta -= tail.bytes.cast_signed();
        }
        let moved = old_length.min(length);
        if new == old {
            delta += self.map(old.saturating_add(moved), length - moved, kind, fixed, when);
            return (delta, kind);
        }
        // Before 6.17 all of it was mapped, or the call had failed; since, it may have holes (mm/mremap.c). Either
        // way it may not be known.
        let removed = self.unmap(old, old.saturating_add(moved), when);
        let bytes = if when.entered_ns < self.read_ns { removed.bytes } else { moved };
        delta -= bytes.cast_signed();
        (delta + self.map(new, length, kind, fixed, when), kind)
    }
}

/// The parts of `range` that are not in `hole`.
fn without(range: (u64, u64), hole: (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    let before = (range.0, range.1.min(hole.0));
    let after = (range.0.max(hole.1), range.1);
    [before, after].into_iter().filter(|(start, end)| start < end)
}

/// The kernel's own page is in every process's list, and in no process's memory.
fn is_counted(mapping: &Mapping) -> bool {
    mapping.path.as_deref() != Some(Path::new("[vsyscall]"))
}

fn kind_of(mapping: &Mapping) -> Kind {
    match mapping.path.as_deref().and_then(Path::to_str) {
        Some("[heap]") => Kind::Heap,
        Some("[stack]") => Kind::Stack,
        // fs/hugetlbfs/inode.c, hugetlb_file_setup
        Some(path) if path.starts_with("/anon_hugepage") => Kind::HugePages,
        _ if mapping.file().is_some() => Kind::File,
        _ => Kind::Anonymous,
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
