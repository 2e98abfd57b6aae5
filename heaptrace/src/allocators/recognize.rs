//! Which allocator a process calls, and where its state is.

use super::{
    glibc::{
        Place,
        layout::{Layout, state},
        locate::{Unknown, locate},
    },
    jemalloc,
    memory::{ProcessMemory, Reader},
};
use crate::{
    probes::{
        discover::{DiscoverError, Discoverer},
        probe::Probe,
        symbols::AllocatorKind,
    },
    process::{
        maps::Mapping,
        object::{FileId, Object},
    },
};
use std::{collections::HashMap, path::Path};

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
            // A program may bring one of these under other names, beside the C library's malloc.
            let is_own = is_brought(kind);
            let is_malloc = |probe: &Probe| match is_own {
                true => probe.shape.allocates(),
                false => probe.symbol == "malloc",
            };
            if file.probes.iter().any(is_malloc) {
                called.push((object, kind));
            }
        }
        let own = called.iter().find(|(_, kind)| is_brought(*kind));
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

/// Whether an allocator is nobody's but who chose it: its blocks are the program's, whatever else is called beside it.
fn is_brought(kind: AllocatorKind) -> bool {
    matches!(kind, AllocatorKind::Jemalloc | AllocatorKind::Mimalloc | AllocatorKind::Tcmalloc)
}

/// What is added to a file's addresses where it is mapped.
fn bias(object: &Object, mappings: &[Mapping]) -> Option<u64> {
    mappings
        .iter()
        .filter(|mapping| mapping.permissions.execute && object.is_behind(mapping))
        .find_map(|mapping| Some(mapping.start.wrapping_sub(object.elf.address_of(mapping.offset)?)))
}
