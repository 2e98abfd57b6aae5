//! How large the maps are, and what memory they take.

use super::{gates::GATES, growing, shares::Shares, unwind_maps::UnwindSizes};
use heaptrace_common::{
    check::{CHECKED_CALLS, CHECKS, Check, CheckedCall},
    event::Event,
    frees::{BAD_FREES, FREED, FreedBlock, PAIRS},
    lifetimes::Lifetimes,
    live,
    probe::ProbeRecord,
    record::{
        FREE_RECORDS, FREE_SITES, PendingCall, ProcessRecord, SiteEstimate, SiteRecord, SiteThread, index,
    },
    share::ShareRecord,
    sizes::CARRIED,
    statistics::StatisticsRecord,
    unwind::memo::{MEMOS, Memo},
};

/// Rows of the table of probes, as the BPF side has it: some sixty for each build of a C library.
pub(super) const PROBE_ROWS: u32 = 1 << 13;

/// Sizes of the BPF maps, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Blocks outstanding at one time, in the beginning.
    pub live: u32,
    /// Chunks that the table of these may grow by: none, or a power of two.
    pub live_chunks: u32,
    /// Distinct (process, function, stack), and thread where they are told apart by that: the most that there may be, as room for them grows.
    pub sites: u32,
    /// Frames of all distinct stacks, those with the same callers once: the most that there may be.
    pub frames: u32,
    /// Process images at one time, with those that have ended and are not retired yet.
    pub processes: u32,
    /// Calls of two traps under way at one time, of which a thread has one as a rule; rounded up to a power of two.
    pub threads: u32,
    /// Rare events that wait to be read; rounded up to what a ring of a power of two bytes holds.
    pub events: u32,
    /// Keep statistics of each process: lifetimes of blocks, and frees and failures by function.
    pub statistics: bool,
    /// Keep what samples stand for, where blocks are sampled.
    pub estimates: bool,
    /// Tell sites apart by thread, and keep whose they are.
    pub by_thread: bool,
    /// Look into frees, and keep whose blocks which calls free.
    pub checks_frees: bool,
    /// Count by site how long blocks lived.
    pub lifetimes: bool,
    pub unwind: UnwindSizes,
}

/// Kernel memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// At the start.
    pub first: u64,
    /// In the end, at most.
    pub most: u64,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            live: 1 << 20,
            live_chunks: 0,
            sites: 1 << 19,
            frames: 1 << 22,
            processes: 1 << 14,
            threads: 1 << 14,
            events: RING_BYTES / EVENT_BYTES,
            statistics: false,
            estimates: false,
            by_thread: false,
            checks_frees: false,
            lifetimes: false,
            unwind: UnwindSizes::default(),
        }
    }
}

/// A ring's default size, and an event's in it, with the ring's own header (`BPF_RINGBUF_HDR_SZ`).
const RING_BYTES: u32 = 1 << 20;
const EVENT_BYTES: u32 = size_of::<Event>() as u32 + 8;

impl MapSizes {
    /// At least a page (`ringbuf_map_alloc`, kernel/bpf/ringbuf.c).
    pub(super) fn ring_bytes(&self) -> u32 {
        self.events.saturating_mul(EVENT_BYTES).checked_next_power_of_two().unwrap_or(1 << 31).max(4096)
    }

    /// The entries of `STATISTICS`, where there are `processes` records.
    pub(super) fn statistics_records(&self, processes: u32) -> u32 {
        if self.statistics { processes } else { 1 }
    }

    /// The entries of `ESTIMATES`: one for each number that a site may have.
    pub(super) fn estimate_entries(&self) -> u32 {
        if self.estimates { self.sites.saturating_add(self.processes) } else { 1 }
    }

    /// The entries of `LIFETIMES`, the same.
    pub(super) fn lifetime_entries(&self) -> u32 {
        if self.lifetimes { self.sites.saturating_add(self.processes) } else { 1 }
    }

    /// The entries of `SITE_THREADS`: those for what finds no room are nobody's.
    pub(super) fn thread_entries(&self) -> u32 {
        if self.by_thread { self.sites } else { 1 }
    }

    /// The entries of a table of frees that are looked into, of which there are to be `entries`.
    pub(super) fn of_frees(&self, entries: u32) -> u32 {
        if self.checks_frees { entries } else { 1 }
    }

    /// The entries of the map beside the table of live blocks. Of samples that allocators chose the table tells none.
    pub(super) fn spill(&self) -> u32 {
        if self.estimates { self.live } else { live::spill_for(self.live) }
    }

    /// The entries of `LIVE_TIMES`.
    pub(super) fn live_times(&self) -> u32 {
        if self.statistics { live::lines_for(self.live) } else { 1 }
    }

    /// Kernel memory that the maps take, in bytes: at the start, and with what grows grown to its limits.
    pub fn memory_bytes(&self) -> Memory {
        let fixed = self.fixed_bytes();
        let (first, most) = growing::memory_bytes(self.sites, self.frames, self.live_chunks);
        Memory { first: fixed + first, most: fixed + most }
    }

    /// Live blocks, if they `may_grow`, sites and frames that may take what `memory` bytes leave, where they are not set to
    /// a number: live blocks take up to a third, and frames half of the rest, or all of it where sites are set.
    pub fn within(mut self, memory: u64, may_grow: bool, sites: Option<u32>, frames: Option<u32>) -> Self {
        (self.sites, self.frames) = (sites.unwrap_or(1), frames.unwrap_or(1));
        let rest = |of: &Self| memory.saturating_sub(of.memory_bytes().most);
        // To the nanosecond, as lifetimes want them, times are kept for the first table only.
        if may_grow && !self.statistics {
            self.live_chunks = growing::live_chunks_within(rest(&self) / 3);
        }
        if frames.is_none() {
            self.frames = growing::frames_within(rest(&self) / if sites.is_some() { 1 } else { 2 });
        }
        if sites.is_none() {
            let estimate = if self.estimates { size_of::<SiteEstimate>() } else { 0 };
            let thread = if self.by_thread { size_of::<SiteThread>() } else { 0 };
            let lifetimes = if self.lifetimes { size_of::<Lifetimes>() } else { 0 };
            self.sites = growing::sites_within(rest(&self), (estimate + thread + lifetimes) as u64);
        }
        self
    }

    /// What does not grow.
    fn fixed_bytes(&self) -> u64 {
        // Preallocated hash maps: 48 bytes an element beside key and value, 16 a bucket (kernel/bpf/hashtab.c).
        let hash = |entries: u32, key_value: u64| {
            u64::from(entries) * (48 + key_value) + u64::from(entries.next_power_of_two()) * 16
        };
        let array = |entries: u32, element: usize| u64::from(entries) * element as u64;
        array(live::lines_for(self.live), size_of::<live::LiveLine>())
            + array(self.live_times(), size_of::<live::ExactTimes>())
            + hash(self.spill(), 40)
            + array(PROBE_ROWS, size_of::<ProbeRecord>())
            + array(GATES, 8)
            + array(CHECKS, size_of::<Check>())
            + array(CHECKED_CALLS, size_of::<CheckedCall>())
            + array(index::cells_for(self.sites), 8)
            + array(self.processes, size_of::<SiteRecord>())
            + array(self.processes, size_of::<ProcessRecord>())
            + array(Shares::entries(self.processes), size_of::<ShareRecord>())
            + array(self.threads.next_power_of_two(), size_of::<PendingCall>())
            + array(FREE_RECORDS + FREE_SITES, 8)
            // PROCESS_CACHE.
            + array(1 << 16, 8)
            + u64::from(self.ring_bytes())
            // PROCESS_INDEX, SHARING, SYSCALLS, CODE_FILES and CARRIED_SIZES: keys and values are each rounded up to 8 bytes.
            + hash(1 << 15, 16)
            + hash(1 << 12, 16)
            + hash(1 << 14, 96)
            + hash(1 << 12, 96)
            + hash(CARRIED, 16)
            + array(self.processes, 16)
            + array(self.statistics_records(self.processes), size_of::<StatisticsRecord>())
            + array(self.estimate_entries(), size_of::<SiteEstimate>())
            + array(self.thread_entries(), size_of::<SiteThread>())
            + array(self.lifetime_entries(), size_of::<Lifetimes>())
            + array(self.of_frees(FREED), size_of::<FreedBlock>())
            + hash(self.of_frees(PAIRS), 16)
            + hash(self.of_frees(BAD_FREES), 32)
            + array(MEMOS, size_of::<Memo>())
            + self.unwind.memory_bytes()
    }
}
