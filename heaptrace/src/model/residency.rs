//! What a process's memory was at one moment, as measured: the facts that [`crate::residency`] divides its RSS by.

/// Bytes of addresses, and of them those that are in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
}

impl Extent {
    /// Adds `other`; a sum that no counter can hold stays at the largest.
    pub fn add(&mut self, other: Self) {
        let Self { virtual_bytes, resident_bytes } = other;
        self.virtual_bytes = self.virtual_bytes.saturating_add(virtual_bytes);
        self.resident_bytes = self.resident_bytes.saturating_add(resident_bytes);
    }
}

/// A process at one moment, or what comes as near to one as reading takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// Since tracing began.
    pub at_ns: u64,
    /// What measuring took, but for the look at blocks, which is one for all processes.
    pub took_ns: u64,
    pub mappings: Mappings,
    pub swap_bytes: u64,
    /// On huge pages that were set aside (hugetlb): in no RSS.
    pub hugetlb_bytes: u64,
    pub heap: Heap,
    pub traced: Traced,
}

/// The mappings by kind, by /proc/PID/smaps: together they are the RSS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    /// Private memory without a file that is no stack: the break's heap, arenas, and what programs map.
    pub anonymous: Extent,
    /// The first thread's.
    pub main_stack: Extent,
    /// Recognized by name, by a stack pointer, or by a guard page below.
    pub thread_stacks: Extent,
    /// Pages of files as they are in the file.
    pub files: Extent,
    /// Pages of private file mappings that the process wrote to (resident only: their addresses are in `files`).
    pub copied: Extent,
    /// Shared memory, with a file or without.
    pub shared: Extent,
    /// The kernel's own: vdso and the like.
    pub special: Extent,
}

impl Mappings {
    /// All of them.
    pub fn total(&self) -> Extent {
        let Self { anonymous, main_stack, thread_stacks, files, copied, shared, special } = *self;
        let mut total = Extent::default();
        [anonymous, main_stack, thread_stacks, files, copied, shared, special]
            .into_iter()
            .for_each(|extent| total.add(extent));
        total
    }
}

/// What could be read of the allocator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heap {
    /// Which allocator, and why it cannot be read.
    Unreadable {
        allocator: String,
        why: String,
    },
    Glibc(GlibcHeap),
    Jemalloc(JemallocHeap),
}

impl Default for Heap {
    fn default() -> Self {
        Self::Unreadable { allocator: String::new(), why: String::new() }
    }
}

/// glibc's arenas, walked from outside, and which of their pages are in memory. All of it is in
/// [`Mappings::anonymous`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlibcHeap {
    pub arenas: u64,
    /// Blocks that the program holds, with their headers.
    pub in_use: Extent,
    /// Blocks with a mapping of their own, whole.
    pub mmapped: Extent,
    pub mmapped_count: u64,
    /// Whether all of those were found; else what is resident of the others is a guess.
    pub mmapped_found: bool,
    /// In bins and threads' caches, between blocks in use.
    pub free: Extent,
    /// Behind the last block of each arena.
    pub top: Extent,
    /// Headers of heaps, fence posts, alignment.
    pub overhead: Extent,
    /// What of all that is on huge pages that were set aside.
    pub hugetlb_bytes: u64,
    /// Whether nothing changed while it was read.
    pub consistent: bool,
}

/// jemalloc's own counters, read from outside, in bytes; which of its pages are in memory they do not say. All of it is in
/// [`Mappings::anonymous`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JemallocHeap {
    pub version: String,
    pub arenas: u64,
    /// In blocks that the program holds, as rounded up: without those in threads' caches.
    pub in_use_bytes: u64,
    /// In blocks in threads' caches.
    pub cached_bytes: u64,
    /// Pages with blocks.
    pub active_bytes: u64,
    /// Free pages that are kept.
    pub dirty_bytes: u64,
    /// Free pages that the kernel may have taken.
    pub muzzy_bytes: u64,
    /// Pages of its own state that it has touched.
    pub metadata_bytes: u64,
}

/// What tracing knew at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Outstanding, as requested.
    pub live_bytes: u64,
    pub live_count: u64,
    /// Blocks from before tracing that were freed since.
    pub unknown_frees: u64,
    /// In use and in no total: inherited at fork, filtered by size, without room in a table.
    pub inherited_count: u64,
    pub filtered_count: u64,
    pub lost_count: u64,
    /// `None` where the blocks were not looked at one by one.
    pub blocks: Option<TracedBlocks>,
}

/// The outstanding blocks, each looked at for what of it is in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TracedBlocks {
    /// As requested.
    pub requested: Extent,
    /// Headers and rounding, by glibc's or jemalloc's arithmetic; nothing for other allocators.
    pub slack: Extent,
    /// What of them is on huge pages that were set aside.
    pub hugetlb_bytes: u64,
    pub count: u64,
    /// Whether it is known of each page whether it is resident.
    pub exact: bool,
}
