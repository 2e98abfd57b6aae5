//! Which call stack each range of a process's memory came from, call by call and fault by fault: what calls mapped and is
//! mapped still, or what faults made resident.
//!
//! Calls come in the order in which they returned, and the kernel may have done them in another: a call takes away only what
//! was there before it began, as nobody knows an address that is still being handed out.

use super::{
    Call, Intervals, When,
    pages::{Page, Seen, runs},
};
use std::ops::Range;

/// What of a process's memory is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What was mapped.
    Mapped,
    /// Pages that were touched.
    Touched,
}

/// Where a range came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The number of the site.
    pub site: u32,
    /// `CLOCK_MONOTONIC`; of a page that was touched, up to [`GRAIN_NS`] too early.
    pub since_ns: u64,
    /// As far as is known: when it was last looked at, or by what has happened since.
    pub there: bool,
}

/// Pages that one site touched one after another within this time are one range: about as exact as blocks' times.
pub const GRAIN_NS: u64 = 1 << 24;

/// What is not there for so long, at two looks, is forgotten. Word of where it went comes within a twentieth of a second; where
/// it was lost, nobody else would take it away.
const LOST_NS: u64 = 1_000_000_000;

/// Ranges of one process that are kept: each takes some 60 bytes, and a process can make as many as it likes, as neighbours from
/// different calls stay apart.
const MOST_RANGES: usize = 1 << 19;

/// See the module.
#[derive(Clone, Debug)]
pub struct Origins {
    what: What,
    page: u64,
    held: Intervals<Origin>,
    /// Something was not kept.
    full: bool,
    /// Since when there was nothing.
    absent: Intervals<u64>,
}

impl Origins {
    /// Of an image of which nothing is known: what is mapped already has no origin.
    pub fn new(what: What, page: u64) -> Self {
        Self { what, page, held: Intervals::default(), full: false, absent: Intervals::default() }
    }

    pub fn what(&self) -> What {
        self.what
    }

    /// Does what the kernel did. `site`: of a call that maps more.
    pub fn apply(&mut self, call: Call, when: When, site: Option<u32>) {
        match call {
            Call::Brk { old, new } => {
                let (old, new) = (self.rounded(old), self.rounded(new));
                self.take(new, old, when);
                self.map(old, new, when, site);
            }
            Call::Mmap { at, length, kind: _, fixed: _ } => {
                self.map(at, at.saturating_add(length), when, site);
            }
            Call::Munmap { at, length } => _ = self.take(at, at.saturating_add(length), when),
            Call::GiveBack { at, length, lazily } => {
                if self.what == What::Touched && !lazily {
                    self.take(at, at.saturating_add(length), when);
                }
            }
            Call::Mremap { old, old_length, new, length, keeps_old, fixed: _ } => {
                self.remap((old, old_length), (new, length), keeps_old, when, site);
            }
        }
    }

    /// A page was touched that was not resident, or not writable.
    pub fn touch(&mut self, at: u64, length: u64, site: u32, time_ns: u64) {
        let origin = Origin { site, since_ns: time_ns & !(GRAIN_NS - 1), there: true };
        self.hold(at, at.saturating_add(length), origin);
    }

    /// Whether there were more ranges than are kept.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// What was there before is over in any case.
    fn hold(&mut self, start: u64, end: u64, origin: Origin) {
        if self.held.count() < MOST_RANGES {
            self.held.put(start, end, origin);
        } else {
            self.held.remove(start, end);
            self.full = true;
        }
    }

    /// What is held, as ranges in order of address.
    pub fn held(&self) -> impl Iterator<Item = (u64, u64, Origin)> + '_ {
        self.held.iter()
    }

    /// Takes what was `seen` of ranges in order: of the mappings, or of pages. What came since `now_ns`, before which it began
    /// to be looked, stays as it is.
    pub fn look(&mut self, seen: &[(u64, u64, Seen)], now_ns: u64) {
        let mut changed = Vec::new();
        let mut absent = Intervals::default();
        for &(start, end, state) in seen {
            for (from, to, origin) in self.held.parts(start, end) {
                if origin.since_ns >= now_ns {
                    continue;
                }
                let there = state == Seen::There;
                if origin.there != there {
                    changed.push((from, to, Origin { there, ..origin }));
                }
                if state == Seen::Nothing {
                    absent.insert(from, to, now_ns);
                    for (from, to, since_ns) in self.absent.parts(from, to) {
                        absent.insert(from, to, since_ns);
                    }
                }
            }
        }
        changed.into_iter().for_each(|(from, to, origin)| self.held.put(from, to, origin));
        let lost: Vec<_> = absent.iter().filter(|of| of.2.saturating_add(LOST_NS) <= now_ns).collect();
        for (start, end, since_ns) in lost {
            absent.remove(start, end);
            self.take(start, end, When { entered_ns: since_ns, left_ns: now_ns });
        }
        self.absent = absent;
    }

    /// What of `pages`, the first of which is at `start`, lies beside a page that is held, in the frames beside its: both may be
    /// parts of one huge page, which one fault made resident. As (the page that is held, the run of such pages around it).
    pub fn beside(&self, start: u64, pages: &[Page]) -> Vec<(usize, Range<usize>)> {
        let end = start.saturating_add(pages.len() as u64 * self.page);
        let mut is_held = vec![false; pages.len()];
        for (from, to, _) in self.held.parts(start, end) {
            let (from, to) = ((from - start) / self.page, (to - start) / self.page);
            is_held[from as usize..to as usize].fill(true);
        }
        let mut beside = Vec::new();
        for run in runs(start / self.page, pages) {
            let at_an_end = |at: usize| {
                let other = |at: usize| run.contains(&at) && !is_held[at];
                is_held[at] && (other(at + 1) || at > 0 && other(at - 1))
            };
            beside.extend(run.clone().filter(|at| at_an_end(*at)).map(|at| (at, run.clone())));
        }
        beside
    }

    /// The pages up to `end` came with the one at `of`; those that have an origin keep it.
    pub fn adopt(&mut self, of: u64, start: u64, end: u64) {
        if let Some((_, _, origin)) = self.held.parts(of, of.saturating_add(self.page)).first().copied() {
            self.held.fill(start, end, origin);
        }
    }

    fn rounded(&self, address: u64) -> u64 {
        address.saturating_add(self.page - 1) / self.page * self.page
    }

    fn map(&mut self, start: u64, end: u64, when: When, site: Option<u32>) {
        match self.what {
            What::Mapped => {
                self.held.remove(start, end);
                if let Some(site) = site.filter(|_| start < end) {
                    self.hold(start, end, Origin { site, since_ns: when.left_ns, there: true });
                }
            }
            What::Touched => _ = self.take(start, end, when),
        }
    }

    /// Takes away what was there before a call began.
    fn take(&mut self, start: u64, end: u64, when: When) -> Vec<(u64, u64, Origin)> {
        let mut taken = self.held.parts(start, end);
        taken.retain(|(_, _, origin)| origin.since_ns <= when.entered_ns);
        for (from, to, _) in &taken {
            self.held.remove(*from, *to);
        }
        taken
    }

    /// What is moved keeps its origin.
    fn remap(
        &mut self,
        (old, old_length): (u64, u64),
        (new, length): (u64, u64),
        keeps_old: bool,
        when: When,
        site: Option<u32>,
    ) {
        // Where the old mapping stays, its pages go all the same, unless they are shared (an old length of 0).
        let moves = !keeps_old || self.what == What::Touched;
        let moved = if moves { old_length.min(length) } else { 0 };
        let parts = self.take(old, old.saturating_add(moved), when);
        if !keeps_old {
            self.take(old.saturating_add(moved), old.saturating_add(old_length), when);
        }
        let (rest, end) = (new.saturating_add(moved), new.saturating_add(length));
        if new != old {
            // Whatever was there.
            self.map(new, rest, when, None);
        }
        for (from, to, origin) in parts {
            let (from, to) = (new.saturating_add(from - old), new.saturating_add(to - old));
            self.held.put(from, to, Origin { there: true, ..origin });
        }
        self.map(rest, end, when, site);
    }
}

#[cfg(test)]
#[path = "origins_tests.rs"]
mod tests;
