//! All arenas of a process whose allocator is jemalloc, as far as its own statistics tell. Its blocks are not walked.

mod arena;
pub mod layout;
mod locate;
#[cfg(test)]
mod tests;

use super::memory::Memory;
pub use arena::{Arena, Bin, Blocks};
pub use locate::{Place, locate};
use serde::Serialize;

/// What jemalloc holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Jemalloc {
    pub version: &'static str,
    pub stats: Stats,
    /// Free blocks in threads' caches, which `stats` has among the allocated ones.
    pub tcache: Blocks,
    pub dirty_bytes: u64,
    pub muzzy_bytes: u64,
    /// Size classes that share slabs, of all arenas.
    pub bins: Vec<Bin>,
    /// The share of the active pages in which nothing is allocated.
    pub fragmentation: f64,
    pub arenas: Vec<Arena>,
    /// Whether everything fitted.
    pub consistent: bool,
}

/// The same keys as in jemalloc(3)'s `stats.`, and the same meaning, all in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub allocated: u64,
    pub active: u64,
    pub metadata: u64,
    pub resident: u64,
    pub mapped: u64,
    pub retained: u64,
}

/// Reads all arenas.
pub fn survey(memory: &dyn Memory, place: &Place) -> Jemalloc {
    let mut caches = arena::MOST_CACHES;
    let arenas =
        place.arenas.iter().map(|(index, at)| arena::read(memory, &place.layout, *index, *at, &mut caches));
    let mut found =
        Jemalloc { version: place.layout.version, arenas: arenas.collect(), ..Jemalloc::default() };
    let sum =
        |of: fn(&Arena) -> u64| found.arenas.iter().fold(0, |sum: u64, arena| sum.saturating_add(of(arena)));
    found.stats = Stats {
        allocated: sum(|arena| arena.small.bytes.saturating_add(arena.large.bytes)),
        active: sum(|arena| arena.active_bytes),
        metadata: sum(|arena| arena.metadata_bytes),
        resident: sum(|arena| arena.resident_bytes),
        mapped: sum(|arena| arena.mapped_bytes),
        retained: sum(|arena| arena.retained_bytes),
    };
    found.tcache =
        Blocks { blocks: sum(|arena| arena.tcache.blocks), bytes: sum(|arena| arena.tcache.bytes) };
    (found.dirty_bytes, found.muzzy_bytes) = (sum(|arena| arena.dirty_bytes), sum(|arena| arena.muzzy_bytes));
    for bin in found.arenas.iter().flat_map(|arena| &arena.bins) {
        match found.bins.iter_mut().find(|sum| sum.size == bin.size) {
            Some(sum) => {
                sum.blocks = sum.blocks.saturating_add(bin.blocks);
                sum.slabs = sum.slabs.saturating_add(bin.slabs);
                sum.slab_bytes = sum.slab_bytes.saturating_add(bin.slab_bytes);
            }
            None => found.bins.push(*bin),
        }
    }
    if found.stats.active > 0 {
        let allocated = found.stats.allocated.min(found.stats.active);
        found.fragmentation = 1.0 - allocated as f64 / found.stats.active as f64;
    }
    found.consistent = found.arenas.iter().all(|arena| arena.consistent);
    found
}
