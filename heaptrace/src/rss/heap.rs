//! The allocator of a process as far as it can be read: jemalloc's counters; glibc's arenas, and which of their pages are
//! in memory.

use super::{own_mappings, pages::Pages};
use crate::{
    allocators::{
        glibc::{self, Glibc, Place, arena::Arena},
        jemalloc,
        memory::Memory,
    },
    model::{Extent, GlibcHeap, Heap, JemallocHeap},
    process::pagemap::PAGE,
};
use std::ops::Range;

/// jemalloc's counters, of a process that has mapped `mapped` bytes.
pub fn counters(memory: &dyn Memory, place: &jemalloc::Place, mapped: u64) -> Heap {
    let unreadable = |why: String| Heap::Unreadable { allocator: "jemalloc".to_owned(), why };
    let found = jemalloc::survey(memory, place);
    if let Some(problem) = found.arenas.iter().find_map(|arena| arena.problem.as_deref()) {
        return unreadable(format!("its counters could not be read: {problem}"));
    }
    let jemalloc::Jemalloc { version, stats, tcache, dirty_bytes, muzzy_bytes, .. } = found;
    if stats.mapped > mapped {
        return unreadable("its counters say that it has mapped more than the process has".to_owned());
    }
    let muzzy = if place.layout.muzzy_is_resident { muzzy_bytes } else { 0 };
    let pages = [stats.active, dirty_bytes, muzzy].into_iter().fold(0, u64::saturating_add);
    Heap::Jemalloc(JemallocHeap {
        version: version.to_owned(),
        arenas: found.arenas.len() as u64,
        in_use_bytes: stats.allocated.saturating_sub(tcache.bytes),
        cached_bytes: tcache.bytes,
        active_bytes: stats.active,
        dirty_bytes,
        muzzy_bytes,
        metadata_bytes: stats.resident.saturating_sub(pages),
    })
}

/// glibc's arenas as they were walked.
pub struct Walked {
    found: Glibc,
    /// Where they lie, in order of address.
    pub arenas: Vec<Range<u64>>,
}

/// Walks the arenas; reads at most about `most` bytes.
pub fn walk(memory: &dyn Memory, place: &Place, most: u64) -> Walked {
    let found = glibc::survey(memory, place, most);
    let mut arenas: Vec<_> = found.arenas.iter().flat_map(|arena| arena.heaps.iter().cloned()).collect();
    arenas.sort_unstable_by_key(|range| range.start);
    Walked { found, arenas }
}

impl Walked {
    /// The heap with what of it is in memory; looks at no more than `most` pages for blocks with a mapping of their own.
    pub fn heap(&self, memory: &dyn Memory, pages: &Pages, most: u64) -> Heap {
        let unreadable = |why: String| Heap::Unreadable { allocator: "glibc".to_owned(), why };
        if let Some(arena) = self.found.arenas.iter().find(|arena| !arena.complete) {
            let why = arena.problem.as_deref().unwrap_or("an arena was not read to its end");
            return unreadable(format!("its arenas could not be read to their end: {why}"));
        }
        if self.found.arenas.iter().any(|arena| arena.used.cut) {
            return unreadable("its arenas are larger than 128 GiB".to_owned());
        }
        let Some(mmapped) = self.found.mmapped else {
            return unreadable("its count of blocks with a mapping of their own was not found".to_owned());
        };
        let own = own_mappings::find(memory, pages, &self.arenas, mmapped.blocks, most);
        let mut heap = GlibcHeap {
            arenas: self.found.arenas.len() as u64,
            mmapped: Extent { virtual_bytes: mmapped.bytes, resident_bytes: own.extent.resident_bytes },
            hugetlb_bytes: own.hugetlb_bytes,
            mmapped_count: mmapped.blocks,
            mmapped_found: (own.count, own.extent.virtual_bytes) == (mmapped.blocks, mmapped.bytes),
            consistent: self.found.consistent,
            ..GlibcHeap::default()
        };
        self.found.arenas.iter().for_each(|arena| add(&mut heap, arena, pages));
        Heap::Glibc(heap)
    }
}

fn add(heap: &mut GlibcHeap, arena: &Arena, pages: &Pages) {
    let mut all = Extent::default();
    arena.heaps.iter().for_each(|range| all.add(pages.extent(range.clone())));
    let hugetlb = arena.heaps.iter().map(|range| pages.hugetlb(range.clone()));
    heap.hugetlb_bytes = hugetlb.fold(heap.hugetlb_bytes, u64::saturating_add);
    let top_end =
        arena.heaps.iter().find(|range| range.contains(&arena.top)).map_or(arena.top, |range| range.end);
    let top = pages.extent(arena.top..top_end.min(arena.top.saturating_add(arena.top_bytes)));
    // What lies outside is not of this walk: the top may have moved on.
    let mut left = all.resident_bytes;
    let mut take = |wanted: u64| {
        let got = wanted.min(left);
        left -= got;
        got
    };
    let in_use = take(arena.used.resident(|page| pages.is_resident(page)));
    let top_resident = take(top.resident_bytes);
    // Written when the heap was made: the first page of each heap, and fence posts.
    let overhead = take(arena.overhead_bytes.min(PAGE.saturating_mul(arena.heaps.len() as u64)));
    let in_bins = arena.free_bytes.saturating_sub(arena.top_bytes);
    heap.in_use.add(Extent { virtual_bytes: arena.in_use.bytes, resident_bytes: in_use });
    heap.top.add(Extent { virtual_bytes: arena.top_bytes, resident_bytes: top_resident });
    heap.overhead.add(Extent { virtual_bytes: arena.overhead_bytes, resident_bytes: overhead });
    heap.free.add(Extent { virtual_bytes: in_bins.saturating_add(arena.tcache.bytes), resident_bytes: left });
}
