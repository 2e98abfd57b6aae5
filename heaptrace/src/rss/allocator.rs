//! The allocator of a process as far as it can be read: jemalloc's counters; glibc's arenas, and which of their pages are
//! in memory.

use super::{
    own_mappings,
    pages::{PAGE, Pages},
};
use crate::{
    inspect::{
        arena::Arena,
        glibc::{self, Glibc, Place},
        jemalloc,
        layout::{Layout, state},
        locate::{Unknown, locate},
        memory::{Memory, ProcessMemory, Reader},
    },
    model::{Extent, GlibcHeap, Heap, JemallocHeap},
    probes::{
        discover::{DiscoverError, Discoverer},
        symbols::AllocatorKind,
    },
    process::{
        maps::Mapping,
        object::{FileId, Object},
    },
};
use std::{collections::HashMap, ops::Range, path::Path};

/// What was found out about a process's allocator; good until it execs.
#[derive(Clone, Debug)]
pub enum Known {
    Glibc(Place),
    Jemalloc(Box<jemalloc::Place>),
    /// Its name, empty where none was found, and why it cannot be read.
    Other {
        allocator: String,
        why: String,
        /// Whether looking again later can help: malloc was not used yet.
        passes: bool,
    },
}

impl Known {
    /// Whether it has to be looked for again the next time.
    pub fn passes(&self) -> bool {
        match self {
            // Before the heap began, there was no break to know malloc's parameters by.
            Self::Glibc(place) => place.parameters.is_none(),
            // Threads make arenas.
            Self::Jemalloc(_) => true,
            Self::Other { passes, .. } => *passes,
        }
    }
}

/// Finds allocators. Remembers where malloc's state is in a file: finding it takes tens of milliseconds, and most processes
/// of a machine have the same C library.
#[derive(Debug, Default)]
pub struct Recognizer {
    files: HashMap<FileId, InFile>,
}

/// Where malloc's state is in a file, as addresses before it is mapped.
#[derive(Clone, Copy, Debug)]
struct InFile {
    layout: Layout,
    main_arena: u64,
    parameters: u64,
}

impl Recognizer {
    /// Finds the allocator that process `pid` calls.
    ///
    /// # Errors
    /// If the process is gone, or may not be looked at.
    pub fn recognize(&mut self, discoverer: &mut Discoverer, pid: u32) -> Result<Known, DiscoverError> {
        let (view, plan) = discoverer.discover(pid)?;
        let mut called = Vec::new();
        for file in &plan.files {
            let Some(object) = view.objects.iter().find(|object| object.id() == file.file.id()) else {
                continue;
            };
            let Some(kind) = discoverer.symbols(object).map(|symbols| symbols.kind) else { continue };
            // jemalloc has a prefix to its names where a program brings its own, beside the C library's malloc.
            let is_malloc = |symbol: &str| match kind {
                AllocatorKind::Jemalloc => symbol.ends_with("malloc"),
                _ => symbol == "malloc",
            };
            if file.probes.iter().any(|probe| is_malloc(&probe.symbol)) {
                called.push((object, kind));
            }
        }
        let own = called.iter().find(|(_, kind)| *kind == AllocatorKind::Jemalloc);
        let Some((object, kind)) = own.or(called.first()).copied() else {
            let why = "no malloc was found in it".to_owned();
            return Ok(Known::Other { allocator: String::new(), why, passes: false });
        };
        let allocator = kind.name().to_owned();
        if kind == AllocatorKind::Jemalloc {
            return Ok(match jemalloc::locate(object, &view.mappings, &ProcessMemory { pid }) {
                Ok(place) => Known::Jemalloc(Box::new(place)),
                Err(error) => Known::Other { allocator, why: error.to_string(), passes: true },
            });
        }
        if kind != AllocatorKind::Glibc {
            let why = format!("how {allocator} lays out its heap is not known here");
            return Ok(Known::Other { allocator, why, passes: false });
        }
        Ok(match self.place(pid, object, &view.mappings) {
            Ok(place) => Known::Glibc(place),
            Err(error) => Known::Other { allocator, why: error.to_string(), passes: true },
        })
    }

    fn place(&mut self, pid: u32, object: &Object, mappings: &[Mapping]) -> Result<Place, Unknown> {
        let memory = ProcessMemory { pid };
        let heap = mappings.iter().find(|mapping| mapping.path.as_deref() == Some(Path::new("[heap]")));
        let bias = bias(object, mappings);
        if let (Some(known), Some(bias)) = (self.files.get(&object.id()), bias) {
            let main_arena = known.main_arena.wrapping_add(bias);
            // A process that has not used malloc has no top block.
            let top = main_arena.wrapping_add(state::TOP);
            return match Reader::new(&memory, 1 << 16).word(top) {
                Ok(top) if top != 0 => Ok(Place {
                    layout: known.layout,
                    main_arena,
                    parameters: Some(known.parameters.wrapping_add(bias)),
                    heap: heap.map(|mapping| mapping.start),
                }),
                _ => Err(Unknown::NotFound),
            };
        }
        let (place, _) = locate(pid, object, mappings, &memory)?;
        if let (Some(parameters), Some(bias)) = (place.parameters, bias) {
            let (main_arena, parameters) =
                (place.main_arena.wrapping_sub(bias), parameters.wrapping_sub(bias));
            self.files.insert(object.id(), InFile { layout: place.layout, main_arena, parameters });
        }
        Ok(place)
    }
}

/// What is added to a file's addresses where it is mapped.
fn bias(object: &Object, mappings: &[Mapping]) -> Option<u64> {
    mappings
        .iter()
        .filter(|mapping| mapping.permissions.execute && object.is_behind(mapping))
        .find_map(|mapping| Some(mapping.start.wrapping_sub(object.elf.address_of(mapping.offset)?)))
}

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
            return unreadable("an arena is larger than 64 GiB".to_owned());
        }
        let Some(mmapped) = self.found.mmapped else {
            return unreadable("its count of blocks with a mapping of their own was not found".to_owned());
        };
        let own = own_mappings::find(memory, pages, &self.arenas, mmapped.blocks, most);
        let mut heap = GlibcHeap {
            arenas: self.found.arenas.len() as u64,
            mmapped: Extent { virtual_bytes: mmapped.bytes, resident_bytes: own.extent.resident_bytes },
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
    let in_use = take(arena.used.resident(|page| pages.holds(page)));
    let top_resident = take(top.resident_bytes);
    // Written when the heap was made: the first page of each heap, and fence posts.
    let overhead = take(arena.overhead_bytes.min(PAGE.saturating_mul(arena.heaps.len() as u64)));
    let in_bins = arena.free_bytes.saturating_sub(arena.top_bytes);
    heap.in_use.add(Extent { virtual_bytes: arena.in_use.bytes, resident_bytes: in_use });
    heap.top.add(Extent { virtual_bytes: arena.top_bytes, resident_bytes: top_resident });
    heap.overhead.add(Extent { virtual_bytes: arena.overhead_bytes, resident_bytes: overhead });
    heap.free.add(Extent { virtual_bytes: in_bins.saturating_add(arena.tcache.bytes), resident_bytes: left });
}
