//! How jemalloc lays out its state, by version and quantum, on x86_64 with pages of 4 KiB and no debug build. From
//! include/jemalloc/internal of each release; offsets as gcc lays them out. Profiling, which Debian builds in, changes
//! none of them; the quantum of 8 bytes that redis' own copy is built with does.

/// `MALLOCX_ARENA_LIMIT`: how many arenas there can be.
pub const MOST_ARENAS: u64 = 4095;

/// `SC_NSIZES - SC_NBINS`: size classes of blocks with pages of their own.
pub const LARGE_CLASSES: usize = 196;

/// How many of them threads can cache at most (`TCACHE_NBINS_MAX - SC_NBINS`).
pub const CACHED_LARGE_CLASSES: usize = 37;

/// `1 << LG_PAGE`.
pub const PAGE: u64 = 4096;

/// `sizeof (arena_stats_large_t)`, which begins with how often was allocated and freed.
pub const LARGE: u64 = 48;

/// `sizeof (cache_bin_t)`.
pub const CACHE_BIN: u64 = 24;

/// Offsets in `arena_t` and what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub version: &'static str,
    /// `1 << LG_QUANTUM`: 16, or 8 as redis builds it.
    pub quantum: u64,
    /// `SC_NBINS`: size classes of blocks that share slabs.
    pub slab_classes: usize,
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
    quantum: 16,
    slab_classes: 36,
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
    marks: &[(29192, Mark::Own(29496)), (29192 + 8 * 35, Mark::Own(29496 + 280 * 35))],
    muzzy_is_resident: true,
    base_hooks: 8,
    base_stats: 2008,
    cached: Cached::Count { small: 16, large: 24, count: 4 },
    huge_pages: None,
};

const V5_3_0: Layout = Layout {
    version: "5.3.0",
    quantum: 16,
    slab_classes: 36,
    arena_bytes: 78952 + 224 * 36,
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

const V5_2_1_QUANTUM_8: Layout = Layout {
    quantum: 8,
    slab_classes: 39,
    arena_bytes: 29520,
    base: 29504,
    marks: &[(29192, Mark::Own(29520)), (29192 + 8 * 38, Mark::Own(29520 + 280 * 38))],
    base_stats: 2032,
    ..V5_2_1
};

const V5_3_0_QUANTUM_8: Layout =
    Layout { quantum: 8, slab_classes: 39, arena_bytes: 78952 + 224 * 39, base_stats: 3928, ..V5_3_0 };

/// All that are known.
pub const LAYOUTS: [Layout; 4] = [V5_2_1, V5_2_1_QUANTUM_8, V5_3_0, V5_3_0_QUANTUM_8];

/// The versions that are known, for people.
pub const KNOWN: &str = "5.2.1 and 5.3.0";

impl Layout {
    /// The size of each class: 8, multiples of the quantum, then four to each doubling (jemalloc(3), table 1).
    pub fn sizes(&self) -> Vec<u64> {
        let tiny = (self.quantum > 8).then_some(8);
        let count = self.slab_classes + LARGE_CLASSES - usize::from(tiny.is_some());
        let regular = (0u64..).take(count).map(|index| match index {
            0..4 => self.quantum * (index + 1),
            _ => (self.quantum << (index / 4 - 1)) * (4 + index % 4 + 1),
        });
        tiny.into_iter().chain(regular).collect()
    }
}

/// What a request for `size` bytes is rounded up to, without an alignment of its own (`sz_s2u_compute`,
/// include/jemalloc/internal/sz.h). `None` beyond the largest class.
pub fn usable(size: u64, quantum: u64) -> Option<u64> {
    let size = size.max(1);
    if size <= 8 {
        return Some(8);
    }
    // Four classes to each doubling, none closer than the quantum.
    let doubling = 1_u64 << (size - 1).ilog2();
    size.checked_next_multiple_of((doubling / 4).max(quantum)).filter(|usable| *usable <= 7 << 60)
}

/// How large a slab for blocks of `size` is: the smallest number of pages that they fill (`slab_size` in src/sc.c).
pub fn slab_bytes(size: u64) -> u64 {
    (1..=size).map(|pages| pages * PAGE).find(|slab| slab.is_multiple_of(size)).unwrap_or(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_rounded_up_to_the_next_class() {
        for layout in LAYOUTS {
            let sizes = layout.sizes();
            let mut below = 0;
            for class in sizes {
                for size in [below + 1, below + (class - below) / 2 + 1, class] {
                    let size = size.min(class);
                    assert_eq!(usable(size, layout.quantum), Some(class), "{size}, {}", layout.quantum);
                }
                below = class;
            }
            assert_eq!(
                [0, (7 << 60) + 1, u64::MAX].map(|size| usable(size, layout.quantum)),
                [Some(8), None, None]
            );
        }
    }

    #[test]
    fn sizes_are_those_that_the_manual_lists() {
        for layout in LAYOUTS {
            let sizes = layout.sizes();
            match layout.quantum {
                16 => {
                    let first = [8, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
                    assert_eq!(sizes[..14], first);
                }
                _ => assert_eq!(sizes[..12], [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128]),
            }
            assert_eq!(sizes[layout.slab_classes - 1..][..2], [14 << 10, 16 << 10]);
            assert_eq!(sizes[layout.slab_classes + CACHED_LARGE_CLASSES - 1], 8 << 20);
            assert_eq!(sizes.last(), Some(&(7 << 60)));
        }
        assert_eq!([8, 48, 80, 14 << 10].map(slab_bytes), [4096, 12288, 20480, 28672]);
    }
}
