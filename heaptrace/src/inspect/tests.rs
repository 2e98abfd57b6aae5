//! Heaps of known content are counted right, in every layout; heaps of any content end, and harm nothing.

use super::{Inspection, SCHEMA};
use crate::allocators::{
    data::Data,
    glibc::{
        Glibc, Place,
        arena::{Arena, Count},
        layout::{Layout, NEWEST, OLDEST, state},
        picture::{Part, Picture},
        survey,
    },
};
use crate::fixtures::glibc_heap::{ARENA, HEAP, Heap, LIBC, PARAMETERS, SECOND, What};
use crate::rss::mappings::Memory;
use proptest::prelude::*;

const LIMIT: u64 = 8 << 20;

const BLOCKS: &[(What, u64)] = &[
    (What::Used, 0x40),
    (What::Tcache, 0x50),
    (What::Tcache, 0x50),
    (What::Fast, 0x30),
    (What::Used, 0x1010),
    (What::Unsorted, 0x430),
    (What::Used, 0x20),
    (What::Unsorted, 0x90),
    (What::Fast, 0x30),
    (What::Bin, 0x120),
    (What::Used, 0x20),
    (What::Bin, 0x9000),
    (What::Used, 0x20),
];

fn heap(minor: u32) -> Heap {
    let mut heap = Heap::new(minor);
    heap.main(BLOCKS, 0x21000);
    heap.second(&[(What::Used, 0x100), (What::Tcache, 0x20), (What::Bin, 0x40), (What::Used, 0x30)], 0x5000);
    heap
}

fn read(heap: &Heap) -> Glibc {
    survey(&heap.image, &heap.place(), LIMIT)
}

#[test]
fn every_kind_of_block_is_counted_in_every_layout() {
    for minor in OLDEST..=NEWEST {
        let found = read(&heap(minor));
        assert!(found.consistent, "2.{minor}: {found:#?}");
        let count = |blocks, bytes| Count { blocks, bytes };
        let [main, second] = found.arenas.as_slice() else { panic!("two arenas") };
        assert_eq!(main.in_use, count(6, 0x290 + 0x40 + 0x1010 + 3 * 0x20), "2.{minor}");
        assert_eq!(main.tcache, count(2, 0xa0), "2.{minor}");
        assert_eq!(main.fastbins, count(2, 0x60), "2.{minor}");
        assert_eq!(main.unsorted, count(2, 0x4c0), "2.{minor}");
        assert_eq!((main.small, main.large), (count(1, 0x120), count(1, 0x9000)), "2.{minor}");
        assert_eq!((main.top_bytes, main.largest_free_bytes), (0x21000, 0x21000));
        assert_eq!(main.overhead_bytes, 0);
        assert_eq!((second.tcache, second.small), (count(1, 0x20), count(1, 0x40)), "2.{minor}");
        let from = (SECOND + heap(minor).layout.heap_info + state::SIZE).next_multiple_of(16);
        assert_eq!(second.overhead_bytes, from - SECOND, "2.{minor}: the heap's and the arena's headers");
        assert_eq!(found.mmapped, Some(count(2, 3 << 20)), "2.{minor}");
        assert_eq!(found.tcaches, 2);
        let used: u64 = main.picture.used.iter().sum();
        assert_eq!(used, main.in_use.bytes + main.tcache.bytes + main.fastbins.bytes);
        let free = main.free_bytes + second.free_bytes;
        assert_eq!((found.mallinfo.fordblks, found.mallinfo.keepcost), (free, 0x21000));
        assert_eq!(found.mallinfo.uordblks, found.mallinfo.arena - free);
    }
}

#[test]
fn heaps_that_lie_in_each_other_are_not_walked() {
    const APART: u64 = 64 << 20;
    let mut heap = heap(36);
    let arena = SECOND + heap.layout.heap_info;
    let newest = SECOND + APART;
    heap.image.0.insert(newest, vec![0; 0x2000]);
    // The newest leads to one within the oldest.
    for (at, previous, size) in [(newest, SECOND + 0x1000, 0x1000), (SECOND + 0x1000, SECOND, 0x1000)] {
        heap.image.put(at, arena);
        heap.image.put(at + 8, previous);
        heap.image.put(at + 16, size);
    }
    heap.image.put(arena + state::TOP, newest + 0x100);
    heap.image.put(newest + 0x108, 0xf01);
    let problem = read(&heap).arenas[1].problem.clone().expect("a problem");
    assert_eq!(problem, format!("the heap at {:#x} does not belong to its arena", SECOND + 0x1000));
}

/// A block of a fastbin, far within a large arena, leads to itself, or to one before.
#[test]
fn a_list_that_runs_in_a_circle_ends_soon() {
    for length in [1, 2, 7, 100] {
        let mut heap = heap(36);
        let blocks = vec![(What::Fast, 0x20); 200];
        heap.main(&blocks, 64 << 20);
        let block = |index: u64| HEAP + 0x290 + 0x20 * index;
        // The last freed is the first of its list.
        let (from, to) = (block(50), block(50 + length - 1));
        heap.image.put(from + 16, to ^ (from + 16) >> 12);
        // A word of a window takes 8 bytes of what may be read; ten attempts are made.
        let found = survey(&heap.image, &heap.place(), 10 * (1 << 20));
        let problem = found.arenas[0].problem.as_deref().unwrap_or_default();
        assert_eq!(problem, "the list of a fastbin is longer than the arena", "{length}");
    }
}

#[test]
fn the_layout_of_another_version_does_not_fit() {
    let heap = heap(36);
    let place = Place { layout: Layout::of(31).expect("2.31"), ..heap.place() };
    assert!(!survey(&heap.image, &place, LIMIT).consistent);
}

#[test]
fn the_state_is_found_by_what_it_looks_like() {
    for minor in OLDEST..=NEWEST {
        let heap = heap(minor);
        let data = Data { start: LIBC, bytes: heap.image.0[&LIBC].clone() };
        assert_eq!(data.main_arena(), Some(ARENA), "2.{minor}");
        assert_eq!(data.parameters(&heap.layout, HEAP), Some(PARAMETERS), "2.{minor}");
        let zeros = Data { start: LIBC, bytes: vec![0; 0x3000] };
        assert_eq!((zeros.main_arena(), zeros.parameters(&heap.layout, HEAP)), (None, None));
    }
}

#[test]
fn a_block_of_size_0_ends_the_walk_and_is_told() {
    let mut heap = heap(36);
    // Behind the tcache and the first two blocks.
    heap.image.put(HEAP + 0x290 + 0x40 + 0x50 + 8, 1);
    let found = read(&heap);
    let main = &found.arenas[0];
    assert!(!found.consistent && !main.complete && main.attempts > 1, "{main:?}");
    assert!(
        main.problem.as_deref().is_some_and(|problem| problem.contains("impossible size 0x0")),
        "{main:?}"
    );
    // What came before is there, and so is the other arena.
    // The tcache's list leads over the bad block, so nothing of it is believed.
    assert_eq!(main.in_use, Count { blocks: 3, bytes: 0x290 + 0x40 + 0x50 });
    assert_eq!(main.tcache, Count::default());
    assert!(found.arenas[1].consistent);
}

#[test]
fn memory_that_others_took_from_the_break_is_told() {
    let mut heap = heap(36);
    let at = HEAP + 0x290;
    // Fence posts in place of the first blocks.
    [at, at + 0x10].iter().for_each(|at| heap.image.put(at + 8, 0x11));
    let main = &read(&heap).arenas[0];
    assert!(!main.complete && main.attempts == 1, "{main:?}");
    assert!(main.problem.as_deref().is_some_and(|problem| problem.contains("something else")), "{main:?}");
    assert_eq!(main.in_use.blocks, 1);
}

#[test]
fn a_list_that_runs_in_a_circle_is_told() {
    let mut heap = heap(36);
    let fast = HEAP + 0x290 + 0x40 + 0xa0;
    heap.image.put(fast + 16, fast ^ ((fast + 16) >> 12));
    let found = read(&heap);
    let main = &found.arenas[0];
    assert!(main.complete && !main.consistent, "{main:?}");
    assert!(
        main.problem.as_deref().is_some_and(|problem| problem.contains("longer than the arena")),
        "{main:?}"
    );
}

#[test]
fn a_heap_beyond_the_limit_is_told() {
    let found = survey(&heap(36).image, &heap(36).place(), 6 << 10);
    assert!(!found.consistent);
    assert!(
        found.arenas[0].problem.as_deref().is_some_and(|problem| problem.contains("larger than")),
        "{found:?}"
    );
}

#[test]
fn a_circle_of_arenas_that_leaves_out_the_first_ends() {
    let mut heap = heap(36);
    let second = SECOND + heap.layout.heap_info;
    heap.image.put(second + state::NEXT, second);
    let found = read(&heap);
    assert_eq!(found.arenas.len(), 2);
    assert!(!found.consistent && !found.problems.is_empty());
}

/// An inspection that found `glibc`, of a process with a name that XML has to escape.
fn inspection(glibc: Glibc) -> Inspection {
    Inspection {
        schema: SCHEMA,
        heaptrace: String::new(),
        pid: 42,
        comm: "a<b>&\u{1}\u{ffff}".into(),
        exe: "/bin/a".into(),
        threads: 2,
        peak_resident_bytes: None,
        memory: Memory::default(),
        allocators: Vec::new(),
        glibc: Some(glibc),
        jemalloc: None,
        notes: Vec::new(),
    }
}

fn svg(glibc: Glibc) -> String {
    let mut out = Vec::new();
    inspection(glibc).write_svg(&mut out).expect("written");
    String::from_utf8(out).expect("text")
}

#[test]
fn a_heap_is_drawn() {
    insta::assert_snapshot!(svg(read(&heap(36))));
}

#[test]
fn a_heap_that_was_not_read_to_its_end_is_drawn_as_that() {
    let mut heap = heap(36);
    heap.image.put(HEAP + 0x290 + 0x40 + 0x50 + 8, 1);
    let svg = svg(read(&heap));
    for part in ["READ INCONSISTENTLY, 10 times", "headers, or not read", "class=\"warning\""] {
        assert!(svg.contains(part), "{part} in {svg}");
    }
    let first = svg.split("<title>").nth(1).and_then(|rest| rest.split('<').next());
    assert_eq!(
        first,
        Some("0x555500000000-0x555500001000: 800 B in use, 3.2 KiB headers, or not read"),
        "{svg}"
    );
}

#[test]
fn many_large_arenas_are_drawn_small() {
    let found = read(&heap(36));
    let large = Arena {
        picture: Picture::over(std::slice::from_ref(&(HEAP..HEAP + (64 << 20)))),
        ..found.arenas[0].clone()
    };
    let mut picture = large.picture.clone();
    // No two cells alike: what compresses worst.
    (0..512).for_each(|cell| picture.add(Part::Used, HEAP + cell * (128 << 10), 16 * (cell % 97) + 16));
    let arenas = vec![Arena { picture, ..large }; 256];
    let svg = svg(Glibc { arenas, ..found });
    assert!(svg.len() < 2 << 20, "{} bytes", svg.len());
    assert!(svg.contains("each cell 2.0 MiB"));
}

/// Words that hurt more than random ones.
fn word() -> impl Strategy<Value = u64> {
    let near = prop_oneof![Just(HEAP), Just(SECOND), Just(ARENA), Just(LIBC)];
    prop_oneof![
        any::<u64>(),
        (0u64..0x300).prop_map(|size| size),
        Just(u64::MAX),
        Just(u64::MAX - 15),
        (near, 0u64..0x2000).prop_map(|(base, by)| base + by * 8),
        (Just(HEAP), 0u64..0x2000).prop_map(|(base, by)| (base + by * 16) ^ ((base + by * 16) >> 12)),
    ]
}

fn places() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u64..0x300).prop_map(|at| LIBC + at * 8),
        (0u64..0x500).prop_map(|at| HEAP + at * 8),
        (0u64..0x400).prop_map(|at| SECOND + at * 8),
    ]
}

proptest! {
    #[test]
    fn any_heap_is_read_to_an_end(
        minor in OLDEST..=NEWEST,
        changes in proptest::collection::vec((places(), word()), 0..40),
    ) {
        let mut heap = heap(minor);
        for (place, word) in changes {
            heap.image.put(place, word);
        }
        let found = read(&heap);
        prop_assert!(!found.arenas.is_empty());
        for arena in &found.arenas {
            prop_assert!(arena.consistent == arena.problem.is_none());
            prop_assert!(arena.picture.used.len() <= 512);
        }
        let mut text = Vec::new();
        super::text::heap(&found, &mut text).expect("written");
        let svg = svg(found);
        let mut reader = quick_xml::Reader::from_str(&svg);
        while !matches!(reader.read_event().expect("XML"), quick_xml::events::Event::Eof) {}
        let data = Data { start: LIBC, bytes: heap.image.0[&LIBC].clone() };
        data.main_arena();
        data.parameters(&heap.layout, HEAP);
    }
}
