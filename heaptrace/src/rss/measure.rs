//! Measures one process: its mappings by kind, its heap, and the blocks that tracing knows of.

use super::{
    heap::{counters, walk},
    mappings::{self, Amount, Kind},
    pages::{Counted, Pages},
};
use crate::{
    allocators::{Known, jemalloc::layout, memory::ProcessMemory},
    model::{Extent, Heap, Mappings, TracedBlocks},
    process::procfs::{self, ProcError},
};
use std::ops::Range;

/// How much work measuring may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of arenas that are read.
    pub walk_bytes: u64,
    /// Pages that are looked at for blocks with a mapping of their own.
    pub own_mappings: u64,
}

impl Limits {
    /// While tracing: some 50 ms.
    pub const BRIEF: Self = Self { walk_bytes: 64 << 20, own_mappings: 1 << 14 };
    /// Once, at the end: a second or two.
    pub const WHOLE: Self = Self { walk_bytes: 4 << 30, own_mappings: 1 << 18 };
}

/// The smallest block of glibc's, and what blocks are aligned to.
const SMALLEST_BLOCK: u64 = 32;
const ALIGNMENT: u64 = 16;

/// A process as it was found.
#[derive(Clone, Debug)]
pub struct Measured {
    pub mappings: Mappings,
    pub swap_bytes: u64,
    pub hugetlb_bytes: u64,
    pub heap: Heap,
    pages: Pages,
    arenas: Vec<Range<u64>>,
    /// jemalloc's.
    quantum: Option<u64>,
    blocks: TracedBlocks,
}

/// Measures process `pid`, whose allocator is `known`. Reads only: /proc/PID/smaps, /proc/PID/pagemap, and the heap where
/// it is known how. What it finds is of the milliseconds that takes.
///
/// # Errors
/// If the process is gone, or may not be looked at.
pub fn measure(pid: u32, known: &Known, limits: Limits) -> Result<Measured, ProcError> {
    let memory = ProcessMemory { pid };
    let walked = match known {
        Known::Glibc(place) => Some(walk(&memory, place, limits.walk_bytes)),
        Known::Jemalloc(_) | Known::Other { .. } => None,
    };
    let arenas = walked.as_ref().map_or_else(Vec::new, |walked| walked.arenas.clone());
    let all = mappings::parse_smaps(&procfs::read(pid, "smaps")?);
    if all.is_empty() {
        // On its way out: its memory is gone, and it is not yet.
        return Err(ProcError::Gone { pid, file: procfs::path(pid, "smaps") });
    }
    let kinds = mappings::kinds(&all, &arenas, &procfs::stack_pointers(pid));
    let mut sums = Mappings::default();
    let (mut swap_bytes, mut hugetlb_bytes) = (0_u64, 0_u64);
    let mut of_heap = Vec::new();
    for (mappings::Measured { mapping, amount, page_bytes }, kind) in all.iter().zip(kinds) {
        let main = mapping.path.as_deref().is_some_and(|path| path.as_os_str() == "[stack]");
        add(&mut sums, kind, main, amount);
        swap_bytes = swap_bytes.saturating_add(amount.swap_bytes);
        hugetlb_bytes = hugetlb_bytes.saturating_add(amount.hugetlb_bytes);
        if matches!(kind, Kind::Heap | Kind::Anonymous) {
            of_heap.push(Counted {
                addresses: mapping.start..mapping.end,
                resident_bytes: amount.resident_bytes,
                hugetlb_bytes: amount.hugetlb_bytes,
                page_bytes: *page_bytes,
            });
        }
    }
    let pages = Pages::read(pid, &of_heap);
    let mut quantum = None;
    let heap = match (walked, known) {
        (Some(walked), _) => walked.heap(&memory, &pages, limits.own_mappings),
        (None, Known::Other { allocator, why, .. }) => {
            Heap::Unreadable { allocator: allocator.clone(), why: why.clone() }
        }
        (None, Known::Jemalloc(place)) => {
            quantum = Some(place.layout.quantum);
            counters(&memory, place, sums.total().virtual_bytes)
        }
        (None, Known::Glibc(_)) => Heap::default(),
    };
    let blocks = TracedBlocks { exact: true, ..TracedBlocks::default() };
    Ok(Measured { mappings: sums, swap_bytes, hugetlb_bytes, heap, pages, arenas, quantum, blocks })
}

fn add(sums: &mut Mappings, kind: Kind, main: bool, amount: &Amount) {
    let Amount { virtual_bytes, resident_bytes, anonymous_bytes, .. } = *amount;
    let extent = Extent { virtual_bytes, resident_bytes };
    match kind {
        Kind::Heap | Kind::Anonymous => sums.anonymous.add(extent),
        Kind::Stack if main => sums.main_stack.add(extent),
        Kind::Stack => sums.thread_stacks.add(extent),
        Kind::Shared => sums.shared.add(extent),
        Kind::Special => sums.special.add(extent),
        Kind::File => {
            let copied = anonymous_bytes.min(resident_bytes);
            sums.files.add(Extent { virtual_bytes, resident_bytes: resident_bytes - copied });
            sums.copied.add(Extent { virtual_bytes: 0, resident_bytes: copied });
        }
    }
}

impl Measured {
    /// Looks at an outstanding block of the process.
    pub fn add_block(&mut self, address: u64, size: u64) {
        let block = address..address.saturating_add(size);
        let (resident_bytes, exact) = self.pages.resident(block.clone());
        let hugetlb_bytes = &mut self.blocks.hugetlb_bytes;
        *hugetlb_bytes = hugetlb_bytes.saturating_add(self.pages.hugetlb(block));
        self.blocks.requested.add(Extent { virtual_bytes: size, resident_bytes });
        self.blocks.count += 1;
        self.blocks.exact &= exact;
        let whole = match (&self.heap, self.quantum) {
            (Heap::Glibc(_), _) => Some(self.chunk(address, size)),
            (Heap::Jemalloc(_), Some(quantum)) => {
                let usable = layout::usable(size, quantum).unwrap_or(size);
                Some(address..address.saturating_add(usable))
            }
            _ => None,
        };
        if let Some(whole) = whole {
            let (all, _) = self.pages.resident(whole.clone());
            self.blocks.slack.add(Extent {
                virtual_bytes: (whole.end - whole.start).saturating_sub(size),
                resident_bytes: all.saturating_sub(resident_bytes),
            });
        }
    }

    /// What was found of the blocks.
    pub fn blocks(&self) -> TracedBlocks {
        self.blocks
    }

    /// A block with its header and what it was rounded to, by glibc's arithmetic (`request2size` and `sysmalloc_mmap`,
    /// malloc/malloc.c). A block in an arena reaches into the first word of the next one's header.
    fn chunk(&self, address: u64, size: u64) -> Range<u64> {
        let behind = self.arenas.partition_point(|arena| arena.end <= address);
        let in_arena = self.arenas.get(behind).is_some_and(|arena| arena.start <= address);
        let normal = size.saturating_add(8).checked_next_multiple_of(ALIGNMENT);
        let normal = normal.map(|size| size.max(SMALLEST_BLOCK));
        let (header, length) = match in_arena {
            true => (8, normal),
            false => {
                let page = self.pages.page_bytes(address);
                (16, normal.and_then(|size| size.checked_add(8)?.checked_next_multiple_of(page)))
            }
        };
        let start = address.saturating_sub(header);
        start..start.saturating_add(length.unwrap_or(size))
    }
}
