//! Arenas of known content are found and counted right, in every layout; of any content are read to an end.

use super::{
    Blocks, Jemalloc, Place,
    layout::{Bins, CACHE_BIN, Cached, LARGE, LAYOUTS, Layout, Mark, PAGE, bin},
    locate::arenas_in,
    survey,
};
use crate::{allocators::data::Data, fixtures::glibc_heap::Image};
use proptest::prelude::*;

const DATA: u64 = 0x7f00_0000_0000;
/// Of `arenas`, in the library's data: aligned as it is there, and not the first thing in it.
const ARRAY: u64 = DATA + 0x1040;
const FIRST: u64 = 0x7e00_0000_0000;
const STEP: u64 = 0x10_0000;
/// From an arena to its base and a thread's cache.
const BASE: u64 = 0x4_0000;
const CACHE: u64 = 0x6_0000;
const SLAB_CLASS: u64 = 3;
/// Arenas 0 and 7.
fn image(layout: &Layout) -> Image {
    let mut image = Image::default();
    image.0.insert(DATA, vec![0; 0xa000]);
    // `a0`, which leads to the first arena, too.
    image.put(DATA + 0x40, FIRST);
    for (index, address) in [(0, FIRST), (7, FIRST + STEP)] {
        image.put(ARRAY + 8 * index, address);
        arena(&mut image, layout, index, address);
    }
    image.put(DATA + 0x48, 1);
    image
}

/// Three blocks of a size class in one slab, two of 16 KiB with pages of their own; a thread caches one of either.
fn arena(image: &mut Image, layout: &Layout, index: u64, address: u64) {
    image.0.insert(address, vec![0; 0x8_0000]);
    let base = address + BASE;
    image.put(base, index);
    image.put(base + layout.base_hooks, DATA);
    for (at, word) in [(0, 5000), (8, 2 * PAGE), (16, 512 * PAGE)] {
        image.put(base + layout.base_stats + at, word);
    }
    image.put(address + layout.base, base);
    for (at, mark) in layout.marks {
        match mark {
            Mark::Own(by) => image.put(address + at, address + by),
            Mark::Base => image.put(address + at, base),
            Mark::Index => image.put(address + at, index),
        }
    }
    image.put(address + layout.nthreads, 3 | 9 << 32);
    image.put(address + layout.internal, 64);
    image.put(address + layout.nactive, 3 + 8);
    image.put(address + layout.mapped, 100 * PAGE);
    for (places, pages) in [(layout.dirty, 5), (layout.muzzy, 6), (layout.retained, 7)] {
        image.put(address + places[places.len() - 1], pages);
    }
    for class in 0..layout.slab_classes as u64 {
        let stats = match layout.bins {
            Bins::Inside { first, size, stats } => address + first + size * class + stats,
            Bins::Behind { first, size, stats } => {
                let bin = address + layout.arena_bytes + size * class;
                image.put(address + first + 8 * class, bin);
                bin + stats
            }
        };
        if class == SLAB_CLASS {
            for (at, word) in [
                (bin::ALLOCATED, 10),
                (bin::FREED, 7),
                (bin::BLOCKS, 3),
                (bin::SLABS_EVER, 4),
                (bin::SLABS, 1),
            ] {
                image.put(stats + at, word);
            }
        }
    }
    image.put(address + layout.large, 6);
    image.put(address + layout.large + 8, 4);
    let descriptor = address + CACHE;
    image.put(address + layout.caches, descriptor);
    image.put(descriptor, descriptor);
    let bins = descriptor + 64;
    match layout.cached {
        Cached::Distance { bins: at, top, end } => {
            image.put(descriptor + at, bins);
            for class in [SLAB_CLASS, layout.slab_classes as u64] {
                let place = bins + CACHE_BIN * class;
                // The stack's end lies beyond a multiple of 64 KiB from its top.
                image.put(place + top, 0x7d00_0000_fffc);
                image.put(place + (end & !7), 0x0004 << 32);
            }
        }
        Cached::Count { small, large, count } => {
            image.put(descriptor + small, bins);
            image.put(descriptor + large, bins + CACHE_BIN * layout.slab_classes as u64);
            for class in [SLAB_CLASS, layout.slab_classes as u64] {
                image.put(bins + CACHE_BIN * class + (count & !7), 1 << 32);
            }
        }
    }
}

fn place(layout: Layout) -> Place {
    Place { layout, arenas: vec![(0, FIRST), (7, FIRST + STEP)] }
}

fn read(image: &Image, layout: &Layout) -> Jemalloc {
    survey(image, &place(*layout))
}

#[test]
fn arenas_are_counted_in_every_layout() {
    for layout in LAYOUTS {
        let image = image(&layout);
        let size = layout.sizes()[SLAB_CLASS as usize];
        let what = format!("{}, {size}", layout.version);
        let found = read(&image, &layout);
        assert!(found.consistent, "{what}: {found:#?}");
        let [first, second] = found.arenas.as_slice() else { panic!("two arenas") };
        assert_eq!((first.index, second.index, first.threads), (0, 7, 3), "{what}");
        assert_eq!(first.small, Blocks { blocks: 3, bytes: 3 * size }, "{what}");
        assert_eq!(first.large, Blocks { blocks: 2, bytes: 32 << 10 }, "{what}");
        assert_eq!(found.tcache, Blocks { blocks: 4, bytes: 2 * (size + (16 << 10)) }, "{what}");
        let stats = found.stats;
        assert_eq!((stats.allocated, stats.active), (2 * (3 * size + (32 << 10)), 2 * 11 * PAGE), "{what}");
        assert_eq!((stats.metadata, stats.retained), (2 * 5064, 2 * 7 * PAGE), "{what}");
        assert_eq!((found.dirty_bytes, found.muzzy_bytes), (2 * 5 * PAGE, 2 * 6 * PAGE), "{what}");
        // The base's, active, dirty; 5.2.1 counts muzzy pages, too.
        let resident = 2 + 11 + 5 + if layout.version == "5.2.1" { 6 } else { 0 };
        assert_eq!((stats.resident, stats.mapped), (2 * resident * PAGE, 2 * 612 * PAGE), "{what}");
        let bin = found.bins[SLAB_CLASS as usize];
        assert_eq!((bin.size, bin.blocks, bin.slabs), (size, 6, 2), "{what}");
    }
}

#[test]
fn arenas_are_found_by_their_own_layout_only() {
    for layout in LAYOUTS {
        let image = image(&layout);
        let data = Data { start: DATA, bytes: image.0[&DATA].clone() };
        for other in LAYOUTS {
            let expected = (other == layout).then(|| place(layout).arenas);
            assert_eq!(arenas_in(&data, &other, &image), expected, "{layout:?} as {other:?}");
        }
    }
}

#[test]
fn an_array_with_something_else_in_it_is_none() {
    let layout = LAYOUTS[2];
    let mut image = image(&layout);
    image.put(ARRAY + 8 * 100, FIRST);
    let data = Data { start: DATA, bytes: image.0[&DATA].clone() };
    assert_eq!(arenas_in(&data, &layout, &image), None);
}

#[test]
fn counts_that_do_not_fit_are_told() {
    for layout in LAYOUTS {
        let version = layout.version;
        let cases = [
            (layout.large + LARGE, 0, "blocks of 20480 bytes"),
            (layout.nactive, 8, "more is allocated"),
            (BASE + layout.base_stats, 3 * PAGE, "metadata"),
            (layout.caches, 8, "cannot be read"),
        ];
        for (at, word, problem) in cases {
            let mut image = image(&layout);
            image.put(FIRST + at, word);
            if at == layout.large + LARGE {
                image.put(FIRST + at + 8, 1);
            }
            let found = read(&image, &layout);
            let [first, second] = found.arenas.as_slice() else { panic!("two arenas") };
            assert!(!found.consistent && second.consistent, "{version}, {problem}: {found:?}");
            assert!(first.problem.as_deref().is_some_and(|said| said.contains(problem)), "{first:?}");
            assert_eq!(first.attempts, 10);
        }
    }
}

/// The reset of an arena counts no frees.
#[test]
fn blocks_that_went_with_a_reset_are_no_contradiction() {
    for layout in LAYOUTS {
        let mut image = image(&layout);
        let stats = match layout.bins {
            Bins::Inside { first, size, stats } => FIRST + first + size * SLAB_CLASS + stats,
            Bins::Behind { size, stats, .. } => FIRST + layout.arena_bytes + size * SLAB_CLASS + stats,
        };
        image.put(stats + bin::ALLOCATED, 1010);
        let found = read(&image, &layout);
        assert!(found.consistent, "{}: {found:#?}", layout.version);
        assert_eq!((found.arenas[0].small.blocks, found.arenas[0].attempts), (3, 2));
        // More freed than allocated is one.
        image.put(stats + bin::ALLOCATED, 6);
        assert!(!read(&image, &layout).consistent, "{}", layout.version);
    }
}

#[test]
fn a_heap_is_told() {
    let layout = LAYOUTS[2];
    let mut image = image(&layout);
    image.put(FIRST + STEP + layout.nactive, 10);
    let mut text = Vec::new();
    crate::inspect::render_jemalloc(&read(&image, &layout), &mut text).expect("written");
    insta::assert_snapshot!(String::from_utf8(text).expect("text"));
}

proptest! {
    #[test]
    fn any_arena_is_read_to_an_end(
        which in 0..LAYOUTS.len(),
        changes in proptest::collection::vec((0u64..0xf000, any::<u64>()), 0..40),
        near in proptest::collection::vec((0u64..0x1000, 0u64..0x8_0000), 0..10),
    ) {
        let layout = LAYOUTS[which];
        let mut image = image(&layout);
        for (place, word) in changes {
            image.put(FIRST + place * 8, word);
        }
        for (place, by) in near {
            image.put(FIRST + CACHE + place * 8 % 0x200, FIRST + by);
        }
        let found = survey(&image, &place(layout));
        prop_assert!(found.arenas.iter().all(|arena| arena.consistent == arena.problem.is_none()));
        let mut text = Vec::new();
        crate::inspect::render_jemalloc(&found, &mut text).expect("written");
    }
}
