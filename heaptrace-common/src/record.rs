//! Keys and values of the BPF maps.
//!
//! A *process record* stands for one process image: an exec ends one and begins another. A record's place is used again
//! once it has ended and nothing in the tables is about it any more, and so are the places of its sites: userspace sees to
//! that, and gives them back by rings.

use crate::{sampling::Weights, sizes};

/// What makes a site.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// Hash of the frames and of why the walk ended; and of the thread, where sites are told apart by that.
    pub stack_hash: u64,
    pub process: u32,
    pub function: u32,
}

/// Sites in a chunk of `SITES`, which grows by chunks.
pub const CHUNK_SITES: u32 = 1 << 14;

/// The number of the site for blocks of a process record whose own site found no room: in `OVERFLOW_SITES`, one for each
/// record, so that even a full table loses no block. Their numbers follow those of all sites that there may be.
#[inline(always)]
pub const fn overflow_site(max_sites: u32, process: u32) -> u32 {
    max_sites.wrapping_add(process)
}

/// An element of `SITES` and of `OVERFLOW_SITES`: outstanding is allocated minus freed, never a counter of its own that
/// could drift. Where blocks are sampled, it is about the samples alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    pub process: u32,
    /// The stack's innermost node, see `tree`.
    pub stack: u32,
    pub frames: u8,
    /// `StackEnd`.
    pub end: u8,
    /// `Function`.
    pub function: u8,
    /// 1 once it is in the index, or if it is an overflow site. A slot that lost the race for its key stays 0.
    pub ready: u8,
    /// The lower half of the stack's hash; the upper one is in the site's cell.
    pub hash_low: u32,
    pub alloc_bytes: u64,
    pub alloc_count: u64,
    pub free_bytes: u64,
    pub free_count: u64,
    /// Allocations by size class: see `sizes`.
    pub sizes: [u64; sizes::WORDS],
}

/// An element of `SITE_THREADS`, by the number of its site: whose calls it has, where sites are told apart by thread. One whose
/// ID was given out again is another, if its name is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteThread {
    /// The bytes of its name when it called, padded with zeros.
    pub comm: [u64; 2],
    pub tid: u32,
    pub _pad: u32,
}

impl SiteThread {
    /// Its name, as the kernel has it: any bytes.
    pub const fn name(&self) -> [u8; 16] {
        let [first, second] = self.comm;
        ((first.to_le() as u128) | (second.to_le() as u128) << 64).to_le_bytes()
    }
}

/// An element of `ESTIMATES`, by the number of its site: what the site's samples stand for, where blocks are sampled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteEstimate {
    pub allocated: Weights,
    pub freed: Weights,
}

/// The index of sites: cells that are looked at one after the other from where the key belongs, until one is the key's or
/// was never used.
pub mod index {
    /// Cells that are looked at. With at most half of the cells used, 30 in a row are not to be expected.
    pub const PROBES: u32 = 64;

    /// Cells for so many entries.
    pub const fn cells_for(entries: u32) -> u32 {
        let cells = (entries as u64 * 2).next_power_of_two();
        if cells > 1 << 31 { 1 << 31 } else { cells as u32 }
    }

    /// A cell whose site is gone: no site's, as its number would be 0. A new site may have it, and searches go on behind it.
    pub const TOMBSTONE: u64 = 1 << 32;

    /// The cell where the search for a site begins; those behind it follow.
    #[inline(always)]
    pub const fn first(hash_low: u32, process: u32) -> u32 {
        // Children of one parent have the same stacks: the process decides, too.
        hash_low ^ process.wrapping_mul(0x9E37_79B1)
    }

    /// A site's cell: the upper half of its stack's hash, and `site`, its number plus one.
    #[inline(always)]
    pub const fn cell(stack_hash: u64, site: u32) -> u64 {
        stack_hash >> 32 << 32 | site as u64
    }
}

/// Places in the rings of numbers that userspace gives back, of records and of sites.
pub const FREE_RECORDS: u32 = 1 << 14;
pub const FREE_SITES: u32 = 1 << 16;

/// How a process record stands.
pub mod process_state {
    /// The slot is free, or being filled.
    pub const EMPTY: u64 = 0;
    pub const RUNNING: u64 = 1;
    /// The process ended.
    pub const EXITED: u64 = 2;
    /// The image was replaced by an exec.
    pub const REPLACED: u64 = 3;
    /// Userspace has let go of the process, which runs on: it was found to be unsafe.
    pub const LEFT_OUT: u64 = 4;
}

/// Whether the calls of a record's process count.
pub mod armed {
    /// Not all its probes are in place.
    pub const NO: u32 = 0;
    pub const YES: u32 = 1;
    /// Its probes are away on purpose; so they are after an exec.
    pub const PAUSED: u32 = 2;
}

/// `PHASE`'s only element: one write begins, or ends, what is counted of all processes.
pub mod phase {
    /// Probes for all processes are being placed: calls are not looked at.
    pub const BEFORE: u64 = 0;
    /// Calls of records that are armed count.
    pub const COUNTING: u64 = 1;
    /// Probes are being taken away: records stay as they are.
    pub const OVER: u64 = 2;
}

/// Values of `PROCESS_INDEX` that are no record.
pub mod process_index {
    /// Ourselves.
    pub const OWN: u32 = u32::MAX;
    /// To be left out: refused.
    pub const EXCLUDED: u32 = u32::MAX - 1;
    /// Not known to be a target. All below are records.
    pub const NONE: u32 = u32::MAX - 2;
}

/// No record: for parents.
pub const NO_PROCESS: u32 = u32::MAX;

/// An element of `PROCESSES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// One of `process_state`. 64 bits because BPF's smallest compare-and-swap without `alu32` is.
    pub state: u64,
    pub tgid: u32,
    /// The record this one was forked from or, after an exec, that it replaced; else `NO_PROCESS`.
    pub parent: u32,
    /// 1 if `parent` is the same process before an exec.
    pub after_exec: u32,
    /// 1 if forked while the parent was traced: it may free blocks that `parent` allocated.
    pub inherits: u32,
    /// 1 if the image and, before a fork, its ancestors' were traced from their first instruction: then what is
    /// freed and was not allocated here must be inherited.
    pub complete: u32,
    /// One of `armed`. While not all probes are in place, calls are not looked at, as half of them would not be seen. One
    /// write begins it, one write ends it.
    pub armed: u32,
    /// Whose share of the tables it has: see `share`.
    pub share: u32,
    /// 1 once it has asked for the numbers by which jemalloc ends an arena.
    pub asked_for_numbers: u32,
    /// `CLOCK_MONOTONIC` when the record was made, and when it ended.
    pub started_ns: u64,
    pub ended_ns: u64,
    /// `CLOCK_MONOTONIC` when the record was armed, or would have been, had it not been paused; 0 if it never was.
    pub armed_ns: u64,
    /// Where blocks are sampled, the bytes are what the samples stand for, and the count is of samples.
    pub live_bytes: u64,
    /// Blocks that came to life, and those that are over.
    pub entered_count: u64,
    pub closed_count: u64,
    pub peak_bytes: u64,
    pub failed_count: u64,
    pub unknown_frees: u64,
    pub inherited_bytes: u64,
    pub inherited_count: u64,
    pub inherited_free_count: u64,
    pub missed_frees: u64,
    pub lost_bytes: u64,
    pub lost_count: u64,
    /// Blocks of a size that was not asked for; in no total.
    pub filtered_bytes: u64,
    pub filtered_count: u64,
    /// Where blocks are sampled: all of them, sampled or not.
    pub seen_bytes: u64,
    pub seen_count: u64,
    /// Hits of its probes that neither entered a block nor closed one, less the blocks that others closed: two's complement. See
    /// [`ProcessRecord::hits`].
    pub other_hits: u64,
    /// Where its allocator gives samples itself: the complement of the fewest bytes that one stood for. 0 where there was
    /// none. See [`own_interval`].
    pub own_samples: u64,
    /// Calls that ended a heap with all its blocks, whichever these were.
    pub heaps_ended: u64,
    /// Calls that gave blocks of which nothing is known.
    pub unseen_calls: u64,
    /// Last seen program break; 0 if none was seen yet.
    pub break_at: u64,
    /// Two's complement: net growth of the break.
    pub brk_bytes: u64,
    pub mmap_bytes: u64,
    pub munmap_bytes: u64,
    /// For `watch`: growth calls that began, and that ended.
    pub growth_entered: u64,
    pub growth_left: u64,
    /// At least the calls whose beginnings are kept in `PENDING`; calls that are left without a return stay in it.
    pub calls_under_way: u64,
    pub comm: [u8; 16],
}

impl ProcessRecord {
    /// Where blocks are sampled, of samples.
    pub const fn live_count(&self) -> u64 {
        // The two are not read at one time.
        self.entered_count.saturating_sub(self.closed_count)
    }

    /// Hits of its probes, whether its calls count or not: what it pays. A hit adds to one counter, as each addition that
    /// others see takes some 6 ns.
    pub const fn hits(&self) -> u64 {
        self.entered_count.wrapping_add(self.closed_count).wrapping_add(self.other_hits)
    }
}

/// Bytes from one sample of an allocator's own to the next, as far as its samples so far tell: each stands for so many, or
/// for a multiple. 0 before the first.
#[inline(always)]
pub const fn own_interval(own_samples: u64) -> u64 {
    if own_samples == 0 { 0 } else { !own_samples }
}

/// An element of `PENDING`: a call whose result is still to come.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingCall {
    /// [`pending_key`]; 0 for a slot that is free.
    pub key: u64,
    pub function: u8,
    pub shape: u8,
    /// 1 if the block at `pointer` is live, and held for this call.
    pub has_old: u8,
    pub _pad: u8,
    pub process: u32,
    /// What lay at the function's stack pointer: with another one there, the call was left without a return.
    pub return_address: u64,
    pub size: u64,
    /// posix_memalign: where the result goes; realloc: the old block.
    pub pointer: u64,
    /// Of the function: one that jumps to another, which does the same, is told from one that was left by its entry alone.
    pub entry: u64,
}

/// What tells a call from all others under way: its process and its stack pointer at the function's entry, which
/// belongs to no other call as long as this one is on the stack, whichever thread goes on with it.
#[inline(always)]
pub const fn pending_key(process: u32, entry_sp: u64) -> u64 {
    crate::live::packed(process, entry_sp)
}

/// The key of a place that is claimed and not filled yet: nobody may judge by its fields. No call has it, as its part for
/// the process is 0.
pub const BEING_MADE: u64 = 1;

/// `CURSORS`' only element: how much of each table is used, or was ever used where places are given back by a ring, and how much there is.
/// May run past the table's size.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    pub sites: u64,
    /// Nodes of the tree of stacks.
    pub nodes: u64,
    pub processes: u64,
    /// Shares that have a process record.
    pub shares: u64,
    /// Blocks in the map beside the table of live blocks; these are given back.
    pub spilled: u64,
    /// The same of blocks in the chunks that the table grew by.
    pub grown_live: u64,
    /// Written by userspace alone: sites that the chunks so far have room for, and the tree's level.
    pub site_room: u64,
    pub tree_level: u64,
    /// The same: when so many sites, or nodes, have been made, it is to be told.
    pub low_sites: u64,
    pub low_nodes: u64,
    /// The same of the live table: its level, and when so many blocks are in the map beside it, or in its chunks.
    pub live_level: u64,
    pub low_spilled: u64,
    pub low_grown: u64,
    /// Records that userspace has given back so far, and that were taken again; and the same of sites. The `n`th is at place
    /// `n` of its ring.
    pub records_given: u64,
    pub records_taken: u64,
    pub sites_given: u64,
    pub sites_taken: u64,
    /// Calls whose stacks found no room among the sites, and among the nodes.
    pub sites_refused: u64,
    pub nodes_refused: u64,
}

const _: () = {
    assert!(size_of::<SiteKey>() == 16);
    assert!(size_of::<SiteRecord>() == 112);
    assert!(size_of::<ProcessRecord>() == 40 + 30 * 8 + 16);
    assert!(size_of::<SiteEstimate>() == 64);
    assert!(size_of::<SiteThread>() == 24);
    assert!(size_of::<PendingCall>() == 48);
    assert!(size_of::<Cursors>() == 152);
    assert!(FREE_RECORDS.is_power_of_two() && FREE_SITES.is_power_of_two());
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn an_index_holds_as_many_as_it_is_for() {
        let mut random = 1u64;
        for entries in [3, 1000, 65_536] {
            let cells = index::cells_for(entries);
            let mut used = std::vec![false; cells as usize];
            for _ in 0..entries {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let from = (random >> 32) as u32;
                let free = (0..index::PROBES).find(|n| !used[(from.wrapping_add(*n) & (cells - 1)) as usize]);
                used[(from.wrapping_add(free.expect("room")) & (cells - 1)) as usize] = true;
            }
        }
    }
}
