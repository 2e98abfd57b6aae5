//! Divides a process's RSS into parts. Pure arithmetic: whatever was measured, the parts sum to the RSS.

use super::{
    counted,
    parts::{How, Left, Live, Part, PartKind, known, why_before},
};
use crate::model::{Extent, GlibcHeap, Heap, Mappings, Residency, Traced};
use serde::Serialize;

/// A process's RSS and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    pub rss_bytes: u64,
    pub swap_bytes: u64,
    /// On huge pages that were set aside (hugetlb), which are in no RSS.
    pub hugetlb_bytes: u64,
    /// What of them glibc's heap has, where it was read; else the traced blocks.
    pub heap_hugetlb_bytes: u64,
    /// Of the heap, or of the traced blocks where it could not be read: bytes that are not in memory, never touched, given back, or swapped out.
    pub untouched_bytes: u64,
    /// Whose arenas were read, or could not be.
    pub allocator: String,
    pub allocator_read: bool,
    /// They sum to `rss_bytes`.
    pub parts: Vec<Part>,
}

impl Reconciliation {
    /// The part of a kind, if there is one.
    pub fn part(&self, kind: PartKind) -> Option<&Part> {
        self.parts.iter().find(|part| part.part == kind)
    }
}

/// Divides what was measured.
pub fn reconcile(residency: &Residency) -> Reconciliation {
    let Residency { at_ns: _, took_ns: _, mappings, swap_bytes, hugetlb_bytes, heap, traced } = residency;
    let mut parts = Vec::new();
    let of_blocks = traced.blocks.map_or(0, |blocks| blocks.hugetlb_bytes);
    let (allocator, allocator_read, missing, heap_hugetlb_bytes) = match heap {
        Heap::Glibc(heap) => {
            let missing = readable(heap, traced, mappings.anonymous, &mut parts);
            ("glibc".to_owned(), true, missing, heap.hugetlb_bytes)
        }
        Heap::Jemalloc(heap) => {
            let missing = counted::divide(heap, traced, mappings.anonymous, &mut parts);
            ("jemalloc".to_owned(), true, missing, of_blocks)
        }
        Heap::Unreadable { allocator, why } => {
            let missing = unreadable(why, traced, mappings.anonymous, &mut parts);
            (allocator.clone(), false, missing, of_blocks)
        }
    };
    mapped(mappings, &mut parts);
    let order = |part: &Part| part.part == PartKind::OtherAnonymous;
    // Anonymous memory that is nobody's comes behind what is known, as in the sum that people make.
    parts.sort_by_key(|part| (part.part == PartKind::Kernel, order(part)));
    Reconciliation {
        rss_bytes: mappings.total().resident_bytes,
        swap_bytes: *swap_bytes,
        hugetlb_bytes: *hugetlb_bytes,
        heap_hugetlb_bytes,
        untouched_bytes: missing.saturating_sub(heap_hugetlb_bytes),
        allocator,
        allocator_read,
        parts,
    }
}

/// Parts of a heap whose arenas were read. Gives what of it is not resident.
fn readable(heap: &GlibcHeap, traced: &Traced, anonymous: Extent, parts: &mut Vec<Part>) -> u64 {
    let GlibcHeap {
        arenas,
        in_use,
        mmapped,
        mmapped_count,
        mmapped_found,
        free,
        top,
        overhead,
        hugetlb_bytes: _,
        consistent,
    } = *heap;
    let mut left = Left(anonymous.resident_bytes);
    let mut held = Extent { resident_bytes: left.take(in_use.resident_bytes), ..in_use };
    let free = Extent { resident_bytes: left.take(free.resident_bytes), ..free };
    let top = Extent { resident_bytes: left.take(top.resident_bytes), ..top };
    let overhead = Extent { resident_bytes: left.take(overhead.resident_bytes), ..overhead };
    let own = match mmapped_found {
        true => mmapped.resident_bytes,
        // Some were not found; taken to be in memory, as far as there is some.
        false => mmapped.virtual_bytes,
    };
    held.add(Extent { resident_bytes: left.take(own), ..mmapped });
    let how = if consistent && mmapped_found { How::Measured } else { How::Inferred };

    let live = Live::of(traced, held, true);
    let mut of_held = Left(held.resident_bytes);
    let live_resident = of_held.take(live.requested.resident_bytes);
    let slack_virtual =
        live.slack.virtual_bytes.min(held.virtual_bytes.saturating_sub(live.requested.virtual_bytes));
    let slack_resident = of_held.take(live.slack.resident_bytes.min(slack_virtual));
    let before = Extent {
        virtual_bytes: held
            .virtual_bytes
            .saturating_sub(live.requested.virtual_bytes)
            .saturating_sub(slack_virtual),
        resident_bytes: of_held.0,
    };
    // Blocks are 16 bytes larger than by the arithmetic where what remained was too small for a block of its own.
    let blocks = traced.blocks.map_or(traced.live_count, |blocks| blocks.count);
    let more = blocks.saturating_mul(16).min(before.resident_bytes);
    let spread = live.most.saturating_sub(live.least);

    parts.push(live.part(live_resident));
    parts.push(Part {
        least_bytes: before.resident_bytes.saturating_sub(more).saturating_sub(spread),
        most_bytes: before.resident_bytes.saturating_add(spread).min(held.resident_bytes),
        ..known(
            PartKind::BeforeAttach,
            "allocated before tracing",
            before,
            How::Inferred,
            &why_before(traced, "the allocator's bytes in use, less the traced blocks and their headers"),
        )
    });
    let mut slack = Extent { virtual_bytes: slack_virtual, resident_bytes: slack_resident };
    slack.add(overhead);
    parts.push(Part {
        most_bytes: slack.resident_bytes.saturating_add(more),
        ..known(
            PartKind::AllocatorSlack,
            "allocator's headers and rounding",
            slack,
            How::Inferred,
            "by glibc's arithmetic for the traced blocks, and the arenas' own headers",
        )
    });
    let arenas = if arenas == 1 { "the arena".to_owned() } else { format!("{arenas} arenas") };
    let blocks_between = format!("fragmentation: freed and kept, in bins and threads' caches of {arenas}");
    parts.push(known(PartKind::AllocatorFree, "allocator's free blocks", free, how, &blocks_between));
    let behind = format!("behind the last block of {arenas}, not given back to the kernel");
    parts.push(known(PartKind::AllocatorTop, "allocator's top", top, how, &behind));

    let mut all = held;
    [free, top, overhead].into_iter().for_each(|extent| all.add(extent));
    let other = Extent {
        virtual_bytes: anonymous.virtual_bytes.saturating_sub(all.virtual_bytes),
        resident_bytes: left.0,
    };
    let found = match mmapped_found {
        true => {
            "private memory without a file that malloc does not hold: mmap by the program, JITs, libraries' .bss"
        }
        false => "what remains of private memory without a file; not all of malloc's own mappings were found",
    };
    let mut other = known(PartKind::OtherAnonymous, "other anonymous", other, How::Inferred, found);
    if !mmapped_found {
        other.most_bytes =
            other.resident_bytes.saturating_add(mmapped.virtual_bytes).min(anonymous.resident_bytes);
        other.why = format!("{found} ({mmapped_count} blocks)");
    }
    parts.push(other);
    all.virtual_bytes.saturating_sub(all.resident_bytes)
}

/// Parts of a heap that cannot be read: the live blocks, and all the rest. Gives what of the live blocks is not resident.
fn unreadable(why: &str, traced: &Traced, anonymous: Extent, parts: &mut Vec<Part>) -> u64 {
    let live = Live::of(traced, anonymous, false);
    let mut left = Left(anonymous.resident_bytes);
    let resident = left.take(live.requested.resident_bytes);
    parts.push(live.part(resident));
    let rest = Extent {
        virtual_bytes: anonymous.virtual_bytes.saturating_sub(live.requested.virtual_bytes),
        resident_bytes: left.0,
    };
    let from = format!(
        "blocks from before tracing (anything from none to all of this), the allocator's free memory and rounding, other \
         anonymous memory: not to be told apart, as {why}"
    );
    parts.push(Part {
        least_bytes: anonymous.resident_bytes.saturating_sub(live.most.max(resident)),
        most_bytes: anonymous.resident_bytes.saturating_sub(live.least.min(resident)),
        ..known(PartKind::Undivided, "not divided", rest, How::Bound, &why_before(traced, &from))
    });
    live.requested.virtual_bytes.saturating_sub(resident)
}

/// Parts that are mappings of their own.
fn mapped(mappings: &Mappings, parts: &mut Vec<Part>) {
    let Mappings { anonymous: _, main_stack, thread_stacks, files, copied, shared, special } = *mappings;
    parts.push(known(
        PartKind::ThreadStacks,
        "thread stacks",
        thread_stacks,
        How::Inferred,
        "mappings with a guard page below, or that a thread's stack pointer is in",
    ));
    let smaps = How::Measured;
    parts.push(known(PartKind::MainStack, "main stack", main_stack, smaps, "the first thread's"));
    parts.push(known(
        PartKind::FileBacked,
        "file-backed",
        files,
        smaps,
        "programs, libraries and mapped files",
    ));
    parts.push(Part {
        virtual_bytes: None,
        ..known(
            PartKind::FileCopied,
            "file-backed and changed",
            copied,
            smaps,
            "copies of pages that were written to",
        )
    });
    parts.push(known(
        PartKind::Shared,
        "shared",
        shared,
        smaps,
        "shared memory; each process that maps it counts it",
    ));
    parts.push(known(PartKind::Kernel, "kernel's pages", special, smaps, "vdso and the like"));
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
