//! How jemalloc lays out its state, by version, on x86_64 and as it is configured by default: pages of 4 KiB, no
//! debug build. From include/jemalloc/internal of each release; offsets as gcc lays them out. Profiling, which
//! Debian builds in, changes none of them.

/// `MALLOCX_ARENA_LIMIT`: how many arenas there can be.
pub const MOST_ARENAS: u64 = 4095;

/// `SC_NBINS` and `SC_NSIZES`: size classes that share slabs, and all.
pub const BINS: usize = 36;
pub const CLASSES: usize = 232;

/// `1 << LG_PAGE`.
pub const PAGE: u64 = 4096;

/// `sizeof (arena_stats_large_t)`, which begins with how often was allocated and freed.
pub const LARGE: u64 = 48;

/// `sizeof (cache_bin_t)`.
pub const CACHE_BIN: u64 = 24;

/// Size classes that threads can cache at most (`TCACHE_NBINS_MAX`).
pub const CACHED_CLASSES: usize = 73;

/// Offsets in `arena_t` and what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub version: &'static str,
    /// How much of it is read.
    pub arena_bytes: u64,
    /// Threads that allocate from it, in four bytes.
    pub nthreads: u64,
    /// `stats.internal`: metadata that lies in pages of the arena.
    pub internal: u64,
    /// `stats.lstats`, by size class.
    pub large: u64,
    /// Pages in use.
    pub nactive: u64,
    /// Counts of pages, two where some have guard pages.
    pub dirty: &'static [u64],
    pub muzzy: &'static [u64],
    pub retained: &'static [u64],
    /// Bytes mapped, without the base's.
    pub mapped: u64,
    /// `cache_bin_array_descriptor_ql`: the threads' caches.
    pub caches: u64,
    pub base: u64,
    pub bins: Bins,
    /// What must be where if this is an arena, and laid out so.
    pub marks: &'static [(u64, Mark)],
    /// Whether the stats count pages as resident that the kernel may take (`MADV_FREE`).
    pub muzzy_is_resident: bool,
    /// Where `extent_hooks_t *` of the base is; the base begins with the arena's index.
    pub base_hooks: u64,
    /// `allocated`, `resident` and `mapped` follow each other.
    pub base_stats: u64,
    pub cached: Cached,
    /// A byte that says whether the huge page allocator was used.
    pub huge_pages: Option<u64>,
}

/// Where the statistics of the size classes with slabs are, and the size of a bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bins {
    /// In the arena.
    Inside { first: u64, size: u64, stats: u64 },
    /// Each where a pointer in the arena leads to.
    Behind { first: u64, size: u64, stats: u64 },
}

/// How a thread's cache counts what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// As the distance, in two bytes, of a stack's top from its end.
    Distance { bins: u64, top: u64, end: u64 },
    /// As a number of four bytes; large classes lie apart.
    Count { small: u64, large: u64, count: u64 },
}

/// A word of an arena of which the content is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The arena's address, and so much.
    Own(u64),
    Base,
    /// The arena's index, in four bytes.
    Index,
}

/// Offsets in `bin_stats_t`.
pub mod bin {
    pub const ALLOCATED: u64 = 0;
    pub const FREED: u64 = 8;
    pub const BLOCKS: u64 = 24;
    pub const SLABS_EVER: u64 = 48;
    pub const SLABS: u64 = 64;
    pub const SIZE: u64 = 80;
}

const V5_2_1: Layout = Layout {
    version: "5.2.1",
    arena_bytes: 29496,
    nthreads: 0,
    internal: 104,
    large: 768,
    nactive: 10344,
    dirty: &[15424],
    muzzy: &[20392],
    retained: &[25360],
    mapped: 24,
    caches: 10192,
    base: 29480,
    bins: Bins::Behind { first: 29192, size: 280, stats: 136 },
    marks: &[],
    muzzy_is_resident: true,
    base_hooks: 8,
    base_stats: 2008,
    cached: Cached::Count { small: 16, large: 24, count: 4 },
    huge_pages: None,
};

const V5_3_0: Layout = Layout {
    version: "5.3.0",
    arena_bytes: 78952 + 224 * BINS as u64,
    nthreads: 0,
    internal: 56,
    large: 976,
    nactive: 10656,
    dirty: &[20480, 30136],
    muzzy: &[39920, 49576],
    retained: &[59360, 69016],
    mapped: 176,
    caches: 10400,
    base: 78936,
    bins: Bins::Inside { first: 78952, size: 224, stats: 112 },
    marks: &[
        (72896, Mark::Own(120)),
        (78904, Mark::Own(112)),
        (78888, Mark::Index),
        (78928, Mark::Index),
        (78920, Mark::Base),
    ],
    muzzy_is_resident: false,
    base_hooks: 8,
    base_stats: 3880,
    cached: Cached::Distance { bins: 16, top: 0, end: 20 },
    huge_pages: Some(10665),
};

impl Layout {
    /// The layout of `version`, if it is known.
    pub fn of(version: &str) -> Option<Self> {
        [V5_2_1, V5_3_0].into_iter().find(|layout| layout.version == version)
    }
}

/// The versions that are known, for people.
pub const KNOWN: &str = "5.2.1 and 5.3.0";

/// The size of each class: 8, then four to each doubling (include/jemalloc/internal/sc.h).
pub fn sizes() -> [u64; CLASSES] {
    let mut sizes = [8; CLASSES];
    for (index, size) in (0..).zip(sizes.iter_mut().skip(1)) {
        let (doubling, step) = (u32::saturating_sub(index, 4) / 4, u64::from(index % 4 + 1));
        *size = if index < 4 { 16 * step } else { (64 << doubling) + (16 << doubling) * step };
    }
    sizes
}

/// How large a slab for blocks of `size` is: the smallest number of pages that they fill (`slab_size` in src/sc.c).
pub fn slab_bytes(size: u64) -> u64 {
    (1..=size).map(|pages| pages * PAGE).find(|slab| slab.is_multiple_of(size)).unwrap_or(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_the_manual_lists() {
        let sizes = sizes();
        // jemalloc(3), table 1.
        assert_eq!(sizes[..14], [8, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]);
        assert_eq!((sizes[BINS - 1], sizes[BINS], sizes[CACHED_CLASSES - 1]), (14 << 10, 16 << 10, 8 << 20));
        assert_eq!(sizes[CLASSES - 1], 7 << 60);
        assert_eq!([8, 48, 80, 14 << 10].map(slab_bytes), [4096, 12288, 20480, 28672]);
    }
}
