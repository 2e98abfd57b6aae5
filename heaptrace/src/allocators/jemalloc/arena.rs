//! One arena of jemalloc: its counters read at once, checked against each other, and what they come to.

use super::layout::{self, Bins, CACHE_BIN, CACHED_LARGE_CLASSES, Cached, LARGE, Layout, Mark, PAGE, bin};
use crate::allocators::memory::Memory;
use serde::Serialize;

/// The most threads' caches of all arenas that are read, attempts counted: a ring that never closes must end.
pub const MOST_CACHES: usize = 1 << 18;

/// Blocks of some size classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Blocks {
    pub blocks: u64,
    /// As jemalloc rounds their sizes up.
    pub bytes: u64,
}

/// A size class whose blocks share slabs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bin {
    pub size: u64,
    pub blocks: u64,
    pub slabs: u64,
    pub slab_bytes: u64,
}

impl Bin {
    /// Bytes of its slabs in which no block is.
    pub fn free_bytes(&self) -> u64 {
        self.slab_bytes.saturating_sub(self.size.saturating_mul(self.blocks))
    }
}

/// What an arena holds. Names are those of jemalloc(3)'s `stats.arenas.<i>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Arena {
    pub index: u32,
    pub threads: u32,
    /// Those that threads cache are among the allocated ones.
    pub small: Blocks,
    pub large: Blocks,
    /// Free blocks in threads' caches.
    pub tcache: Blocks,
    pub active_bytes: u64,
    pub dirty_bytes: u64,
    pub muzzy_bytes: u64,
    pub retained_bytes: u64,
    pub metadata_bytes: u64,
    pub resident_bytes: u64,
    pub mapped_bytes: u64,
    pub consistent: bool,
    pub attempts: u32,
    /// What did not fit in the last attempt.
    pub problem: Option<String>,
    #[serde(skip)]
    pub bins: Vec<Bin>,
}

/// Why an arena's counters were not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the memory at {0:#x} cannot be read")]
    Unreadable(u64),
    #[error("blocks of {0} bytes: allocated minus freed is not what is there")]
    Count(u64),
    #[error("more is allocated than there are pages for")]
    Pages,
    #[error("the counts of metadata do not fit each other")]
    Base,
    #[error("the list of threads' caches does not come to an end")]
    Endless,
    #[error("the huge page allocator was used, whose free pages are not counted here")]
    HugePages,
}

impl Broken {
    /// Whether reading again can help.
    fn passes(&self) -> bool {
        !matches!(self, Self::HugePages | Self::Endless)
    }
}

/// Whether the arena of `index` lies at `address`.
pub fn is_one(memory: &dyn Memory, layout: &Layout, address: u64, index: u32) -> bool {
    let word = |at: u64| word_at(memory, address.checked_add(at)?);
    let Some(base) = word(layout.base).filter(|base| *base != 0 && base.is_multiple_of(16)) else {
        return false;
    };
    let fits = |(at, mark): &(u64, Mark)| match mark {
        Mark::Own(by) => word(*at) == address.checked_add(*by),
        Mark::Base => word(*at) == Some(base),
        Mark::Index => word(at & !7).map(|word| half(word, *at)) == Some(index),
    };
    let of_base = |at: u64| base.checked_add(at).and_then(|at| word_at(memory, at));
    // In a layout of another quantum these are where nothing is.
    let stats = [0, 8, 16].map(|at| of_base(layout.base_stats + at).unwrap_or(0));
    of_base(0).map(|word| half(word, 0)) == Some(index)
        && of_base(layout.base_hooks).is_some_and(|hooks| hooks != 0)
        && are_base_stats(stats)
        && layout.marks.iter().all(fits)
}

/// Whether these can be what a base has allocated, and has in memory and mapped, in bytes. It is never empty: the
/// arena itself lies in it.
fn are_base_stats([allocated, resident, mapped]: [u64; 3]) -> bool {
    0 < allocated
        && allocated <= resident
        && resident <= mapped
        && resident.is_multiple_of(PAGE)
        && mapped.is_multiple_of(PAGE)
}

fn word_at(memory: &dyn Memory, address: u64) -> Option<u64> {
    let mut word = [0; 8];
    memory.read(address, &mut word).ok()?;
    Some(u64::from_ne_bytes(word))
}

/// The four bytes at `at` in the word that holds them.
fn half(word: u64, at: u64) -> u32 {
    (if at.is_multiple_of(8) { word } else { word >> 32 }) as u32
}

/// How often an arena that does not fit is read.
const ATTEMPTS: u32 = 10;

/// Reads an arena until it fits, some times; if it never does, the last attempt counts, and says so.
/// `caches` is how many threads' caches may be looked at.
pub fn read(memory: &dyn Memory, layout: &Layout, index: u32, address: u64, caches: &mut usize) -> Arena {
    let mut last = Arena::default();
    let mut ended = Vec::new();
    for attempts in 1..=ATTEMPTS {
        let mut arena = Arena { index, attempts, ..Arena::default() };
        let problem = fill(&mut arena, memory, layout, address, caches, &mut ended).err();
        arena.consistent = problem.is_none();
        let done = problem.as_ref().is_none_or(|problem| !problem.passes());
        arena.problem = problem.map(|problem| problem.to_string());
        last = arena;
        if done {
            break;
        }
    }
    last
}

/// A copy of memory.
struct Copy(Vec<u8>);

impl Copy {
    fn of(memory: &dyn Memory, address: u64, size: u64) -> Result<Self, Broken> {
        let size = usize::try_from(size).map_err(|_| Broken::Unreadable(address))?;
        let mut bytes = vec![0; size];
        memory.read(address, &mut bytes).map_err(|_| Broken::Unreadable(address))?;
        Ok(Self(bytes))
    }

    /// What lies beyond the copy reads as 0; layouts stay within.
    fn word(&self, at: u64) -> u64 {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    fn sum(&self, places: &[u64]) -> u64 {
        places.iter().fold(0, |sum: u64, at| sum.saturating_add(self.word(*at)))
    }
}

fn fill(
    arena: &mut Arena,
    memory: &dyn Memory,
    layout: &Layout,
    address: u64,
    caches: &mut usize,
    ended: &mut Vec<u64>,
) -> Result<(), Broken> {
    // All of it in one call, so that little can change in between.
    let state = Copy::of(memory, address, layout.arena_bytes)?;
    let pages = |count: u64| count.saturating_mul(PAGE);
    let sizes = layout.sizes();
    arena.threads = half(state.word(layout.nthreads & !7), layout.nthreads);
    arena.active_bytes = pages(state.word(layout.nactive));
    arena.dirty_bytes = pages(state.sum(layout.dirty));
    arena.muzzy_bytes = pages(state.sum(layout.muzzy));
    arena.retained_bytes = pages(state.sum(layout.retained));
    let used_huge_pages =
        layout.huge_pages.is_some_and(|at| state.0.get(at as usize).is_some_and(|used| *used != 0));
    let bins = bins(arena, &state, memory, layout, address, ended);
    let large = large(arena, &state, layout, &sizes);
    let base = base(arena, &state, memory, layout);
    arena.tcache = cached(memory, layout, &state, &sizes, caches)?;
    bins?;
    large?;
    base?;
    let slabs = arena.bins.iter().fold(0, |sum: u64, bin| sum.saturating_add(bin.slab_bytes));
    if slabs.saturating_add(arena.large.bytes) > arena.active_bytes {
        return Err(Broken::Pages);
    }
    if used_huge_pages {
        return Err(Broken::HugePages);
    }
    Ok(())
}

/// Blocks that share slabs. `ended`: of each size class, how many were neither freed nor there when this was read the last time, and
/// then of this time. The reset of an arena takes them away and counts no frees (`arena_bin_reset`, jemalloc 5.3.0, src/arena.c):
/// then the number stays as it is, while what was read in the midst of a change is another one the next time.
fn bins(
    arena: &mut Arena,
    state: &Copy,
    memory: &dyn Memory,
    layout: &Layout,
    address: u64,
    ended: &mut Vec<u64>,
) -> Result<(), Broken> {
    let mut broken = Ok(());
    let before = std::mem::take(ended);
    let sizes = layout.sizes();
    for (index, size) in (0..).zip(sizes).take(layout.slab_classes) {
        let stats = match layout.bins {
            Bins::Inside { first, size, stats } => {
                let at = usize::try_from(first + size * index + stats).unwrap_or(usize::MAX);
                let bytes = state.0.get(at..).and_then(|rest| rest.get(..bin::SIZE as usize));
                Copy(bytes.ok_or(Broken::Unreadable(address))?.to_vec())
            }
            Bins::Behind { first, size: _, stats } => {
                let at = state.word(first + 8 * index);
                let stats = at.checked_add(stats).ok_or(Broken::Unreadable(at))?;
                Copy::of(memory, stats, bin::SIZE)?
            }
        };
        let (blocks, slabs) = (stats.word(bin::BLOCKS), stats.word(bin::SLABS));
        let slab_bytes = slabs.saturating_mul(layout::slab_bytes(size));
        let left = stats.word(bin::ALLOCATED).checked_sub(stats.word(bin::FREED));
        let gone = left.and_then(|left| left.checked_sub(blocks));
        let is_known = gone == Some(0) || gone.is_some() && before.get(ended.len()).copied() == gone;
        ended.push(gone.unwrap_or(u64::MAX));
        let fits =
            is_known && slabs <= stats.word(bin::SLABS_EVER) && blocks.saturating_mul(size) <= slab_bytes;
        if !fits {
            broken = Err(Broken::Count(size));
        }
        arena.small.blocks = arena.small.blocks.saturating_add(blocks);
        arena.small.bytes = arena.small.bytes.saturating_add(blocks.saturating_mul(size));
        arena.bins.push(Bin { size, blocks, slabs, slab_bytes });
    }
    broken
}

/// Blocks with pages of their own.
fn large(arena: &mut Arena, state: &Copy, layout: &Layout, sizes: &[u64]) -> Result<(), Broken> {
    let mut broken = Ok(());
    for (index, size) in (0..).zip(sizes.iter().copied().skip(layout.slab_classes)) {
        let at = layout.large + LARGE * index;
        match state.word(at).checked_sub(state.word(at + 8)) {
            Some(blocks) => {
                arena.large.blocks = arena.large.blocks.saturating_add(blocks);
                arena.large.bytes = arena.large.bytes.saturating_add(blocks.saturating_mul(size));
            }
            None => broken = Err(Broken::Count(size)),
        }
    }
    broken
}

/// Metadata, and the sums that it is part of.
fn base(arena: &mut Arena, state: &Copy, memory: &dyn Memory, layout: &Layout) -> Result<(), Broken> {
    let at = state.word(layout.base);
    let stats = at.checked_add(layout.base_stats).ok_or(Broken::Unreadable(at))?;
    let stats = Copy::of(memory, stats, 24)?;
    let [allocated, resident, mapped] = [0, 8, 16].map(|at| stats.word(at));
    arena.metadata_bytes = allocated.saturating_add(state.word(layout.internal));
    let muzzy = if layout.muzzy_is_resident { arena.muzzy_bytes } else { 0 };
    arena.resident_bytes =
        [resident, arena.active_bytes, arena.dirty_bytes, muzzy].into_iter().fold(0, u64::saturating_add);
    arena.mapped_bytes = mapped.saturating_add(state.word(layout.mapped));
    let fits = are_base_stats([allocated, resident, mapped]) && arena.mapped_bytes >= arena.active_bytes;
    if fits { Ok(()) } else { Err(Broken::Base) }
}

/// What the threads' caches of the arena hold.
fn cached(
    memory: &dyn Memory,
    layout: &Layout,
    state: &Copy,
    sizes: &[u64],
    left: &mut usize,
) -> Result<Blocks, Broken> {
    let mut held = Blocks::default();
    let first = state.word(layout.caches);
    let mut at = first;
    while at != 0 {
        *left = left.checked_sub(1).ok_or(Broken::Endless)?;
        let descriptor = Copy::of(memory, at, 32)?;
        for (blocks, size) in counts(memory, layout, &descriptor)?.into_iter().zip(sizes) {
            held.blocks = held.blocks.saturating_add(blocks);
            held.bytes = held.bytes.saturating_add(blocks.saturating_mul(*size));
        }
        // A ring.
        at = descriptor.word(0);
        if at == first {
            break;
        }
    }
    Ok(held)
}

/// How many blocks of each size class a thread's cache holds.
fn counts(memory: &dyn Memory, layout: &Layout, descriptor: &Copy) -> Result<Vec<u64>, Broken> {
    let read = |place: u64, count: usize| Copy::of(memory, descriptor.word(place), CACHE_BIN * count as u64);
    match layout.cached {
        Cached::Distance { bins, top, end } => {
            let classes = layout.slab_classes + CACHED_LARGE_CLASSES;
            let bins = read(bins, classes)?;
            let count = |bin: u64| {
                let top = bins.word(CACHE_BIN * bin + top) as u16;
                let last = half(bins.word(CACHE_BIN * bin + (end & !7)), end) as u16;
                u64::from(last.wrapping_sub(top)) / 8
            };
            Ok((0..classes as u64).map(count).collect())
        }
        Cached::Count { small, large, count } => {
            let (few, rest) = (read(small, layout.slab_classes)?, read(large, CACHED_LARGE_CLASSES)?);
            let of = |bins: &Copy, number: usize| -> Vec<u64> {
                let word = |bin: usize| bins.word(CACHE_BIN * bin as u64 + (count & !7));
                (0..number).map(|bin| u64::from(half(word(bin), count))).collect()
            };
            Ok([of(&few, layout.slab_classes), of(&rest, CACHED_LARGE_CLASSES)].concat())
        }
    }
}
