//! Finds malloc's state in a process: by the symbols of the C library's file or of its debug file, else by what it
//! looks like in the library's writable memory.

use super::{
    Place,
    layout::{Layout, state, version_in},
};
use crate::allocators::{
    data::{Data, MOST_FILE, writable},
    memory::Memory,
};
use crate::process::{
    foreign,
    maps::Mapping,
    object::Object,
    patience::{self, Beating},
};
use object::{Object as _, ObjectSymbol as _, ReadCache, ReadRef as _};
use std::{fs::File, path::PathBuf, sync::Arc};

/// Why the arenas cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error("no glibc version is named in {}", .0.display())]
    NoVersion(PathBuf),
    #[error(
        "glibc 2.{0} lays out its heap in a way that is not known here (known are 2.{oldest} to 2.{newest})",
        oldest = super::layout::OLDEST,
        newest = super::layout::NEWEST
    )]
    Version(u32),
    #[error("the process has {} mapped in no way that was expected", .0.display())]
    NotMapped(PathBuf),
    #[error(
        "malloc has not been used, or its state was not found: neither by symbols nor by what it looks like"
    )]
    NotFound,
}

/// Finds the state of the malloc in `object`, which process `pid` has mapped, and says how it was found.
pub fn locate(
    pid: u32,
    object: &Object,
    mappings: &[Mapping],
    memory: &dyn Memory,
) -> Result<(Place, &'static str), Unknown> {
    let minor = looked(object, version).ok_or_else(|| Unknown::NoVersion(object.path.clone()))?;
    let layout = Layout::of(minor).ok_or(Unknown::Version(minor))?;
    let heap = mappings
        .iter()
        .find(|mapping| mapping.path.as_deref().is_some_and(|path| path.as_os_str() == "[heap]"))
        .map(|mapping| mapping.start);
    let bias = mappings
        .iter()
        .filter(|mapping| mapping.permissions.execute && object.is_behind(mapping))
        .find_map(|mapping| Some(mapping.start.wrapping_sub(object.elf.address_of(mapping.offset)?)))
        .ok_or_else(|| Unknown::NotMapped(object.path.clone()))?;
    let data = writable(object, mappings, memory);
    let at = |address: u64, size: u64| data.iter().find_map(|part| part.bytes(address, size));
    if let Some((arena, parameters, by)) = symbols(pid, object) {
        let main_arena = arena.wrapping_add(bias);
        if at(main_arena, state::SIZE).is_some_and(|bytes| is_main_arena(bytes, main_arena)) {
            let parameters = parameters.map(|parameters| parameters.wrapping_add(bias));
            return Ok((Place { layout, main_arena, parameters, heap }, by));
        }
    }
    let main_arena = data.iter().find_map(Data::main_arena).ok_or(Unknown::NotFound)?;
    let parameters = heap.and_then(|heap| data.iter().find_map(|part| part.parameters(&layout, heap)));
    Ok((Place { layout, main_arena, parameters, heap }, "pattern"))
}

/// What there is in the file of `object`, whose file system may never answer.
fn looked<T: Send + 'static>(object: &Object, look: fn(&File) -> Option<T>) -> Option<T> {
    let file = Arc::clone(object.file());
    object.look(move || look(&file)).ok().flatten()
}

fn version(file: &File) -> Option<u32> {
    let cache = ReadCache::new(Beating(file));
    let size = (&cache).len().ok()?.min(MOST_FILE);
    version_in((&cache).read_bytes_at(0, size).ok()?)
}

/// The addresses of `main_arena` and `mp_` in the file, and where they were read.
fn symbols(pid: u32, object: &Object) -> Option<(u64, Option<u64>, &'static str)> {
    if let Some((arena, parameters)) = looked(object, symbols_of) {
        return Some((arena, parameters, "symbols"));
    }
    let id = object.elf.build_id.as_ref()?.to_string();
    let (first, rest) = id.split_at_checked(2)?;
    let path = PathBuf::from(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug"));
    let look = move || {
        [foreign::open_in_root(pid, &path), foreign::open(&path)].into_iter().flatten().find_map(|file| {
            let small = file.metadata().is_ok_and(|metadata| metadata.len() <= MOST_FILE);
            let same = small && build_id(&file).is_some_and(|found| found == id);
            let (arena, parameters) = same.then(|| symbols_of(&file))??;
            Some((arena, parameters, "debug file"))
        })
    };
    // The process may have any root.
    patience::look(pid, look).ok().flatten()
}

fn build_id(file: &File) -> Option<String> {
    let cache = ReadCache::new(Beating(file));
    let id = object::File::parse(&cache).ok()?.build_id().ok()??.to_vec();
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn symbols_of(file: &File) -> Option<(u64, Option<u64>)> {
    let cache = ReadCache::new(Beating(file));
    let file = object::File::parse(&cache).ok()?;
    let (mut arena, mut parameters) = (None, None);
    for symbol in file.symbols() {
        match symbol.name_bytes() {
            Ok(b"main_arena") => arena = Some(symbol.address()),
            Ok(b"mp_") => parameters = Some(symbol.address()),
            _ => {}
        }
    }
    Some((arena?, parameters))
}

impl Data {
    /// Where a main arena is.
    pub fn main_arena(&self) -> Option<u64> {
        self.find(state::SIZE, is_main_arena)
    }

    /// Where malloc's parameters are, given where the break's heap begins.
    pub fn parameters(&self, layout: &Layout, heap: u64) -> Option<u64> {
        self.find(layout.sbrk_base + 32, |bytes, _| are_parameters(bytes, layout, heap))
    }
}

fn word(bytes: &[u8], at: u64) -> u64 {
    let at = at as usize;
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// Whether a `malloc_state` that malloc has initialized lies in `bytes`, from `address`: every empty bin leads to
/// itself, every other one to two blocks. Only a main arena is in a library's data.
fn is_main_arena(bytes: &[u8], address: u64) -> bool {
    let bins = (0..state::BIN_COUNT).all(|bin| {
        let place = state::BINS + 16 * bin;
        let own = address + place - 16;
        let (next, previous) = (word(bytes, place), word(bytes, place + 8));
        (next == own) == (previous == own)
            && next != 0
            && previous != 0
            && (next | previous).is_multiple_of(if next == own { 8 } else { 16 })
    });
    let (top, system) = (word(bytes, state::TOP), word(bytes, state::SYSTEM));
    bins && top != 0 && word(bytes, state::NEXT) != 0 && system <= word(bytes, state::MOST_SYSTEM)
}

/// Whether `malloc_par` lies in `bytes`: it names the begin of the heap, and its counts agree.
fn are_parameters(bytes: &[u8], layout: &Layout, heap: u64) -> bool {
    let base = word(bytes, layout.sbrk_base);
    let half = |at: u64| {
        let value = word(bytes, at & !7);
        if at.is_multiple_of(8) { value & 0xffff_ffff } else { value >> 32 }
    };
    let (blocks, most_allowed, most) =
        (half(layout.n_mmaps), half(layout.n_mmaps + 4), half(layout.n_mmaps + 8));
    let (mapped, most_mapped) = (word(bytes, layout.mmapped_mem), word(bytes, layout.mmapped_mem + 8));
    // The break need not begin at a page's begin where addresses are not randomized.
    (heap..heap.saturating_add(4096)).contains(&base)
        && blocks <= most
        && blocks <= most_allowed
        && mapped <= most_mapped
        && mapped.is_multiple_of(4096)
        && (blocks == 0) == (mapped == 0)
        // tcache_bins and tcache_max_bytes.
        && word(bytes, layout.sbrk_base + 8) <= 64
        && word(bytes, layout.sbrk_base + 16) <= 1040
}
