//! Reconciliations of made measurements, and what holds of any.

use super::*;
use crate::model::{JemallocHeap, TracedBlocks};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn extent(virtual_bytes: u64, resident_bytes: u64) -> Extent {
    Extent { virtual_bytes, resident_bytes }
}

/// 100 MiB anonymous, 60 of them resident; the heap holds 50 in use (40 resident), 4 free, 2 at the top.
fn glibc() -> Residency {
    let heap = GlibcHeap {
        arenas: 1,
        in_use: extent(30 * MIB, 28 * MIB),
        mmapped: extent(20 * MIB, 12 * MIB),
        mmapped_count: 2,
        mmapped_found: true,
        free: extent(4 * MIB, 3 * MIB),
        top: extent(2 * MIB, 4096),
        overhead: extent(48, 48),
        hugetlb_bytes: 0,
        consistent: true,
    };
    let mappings = Mappings {
        anonymous: extent(100 * MIB, 60 * MIB),
        main_stack: extent(132 << 10, 12 << 10),
        thread_stacks: extent(16 * MIB, 24 << 10),
        files: extent(9 * MIB, 5 * MIB),
        copied: extent(0, 300 << 10),
        shared: extent(MIB, MIB),
        special: extent(16 << 10, 8 << 10),
    };
    let traced = Traced { live_bytes: 10 * MIB, live_count: 1000, unknown_frees: 7, ..Traced::default() };
    Residency { mappings, heap: Heap::Glibc(heap), traced, ..Residency::default() }
}

fn jemalloc() -> Residency {
    let why = "how jemalloc lays out its heap is not known here".to_owned();
    Residency { heap: Heap::Unreadable { allocator: "jemalloc".into(), why }, ..glibc() }
}

#[test]
fn what_jemalloc_counts_is_divided_between_bounds() {
    let heap = JemallocHeap {
        version: "5.3.0".into(),
        arenas: 2,
        in_use_bytes: 40 * MIB,
        cached_bytes: MIB,
        active_bytes: 45 * MIB,
        dirty_bytes: 3 * MIB,
        muzzy_bytes: MIB,
        metadata_bytes: 2 * MIB,
    };
    let mut residency = Residency { heap: Heap::Jemalloc(heap), ..glibc() };
    residency.mappings.anonymous = extent(62 * MIB, 60 * MIB);
    let found = reconcile(&with_blocks(residency, extent(10 * MIB, 10 * MIB), extent(MIB, MIB)));
    let sizes = [
        (PartKind::TracedLive, 10),
        (PartKind::BeforeAttach, 29),
        (PartKind::AllocatorSlack, 1),
        (PartKind::AllocatorFree, 5),
        (PartKind::AllocatorMetadata, 2),
        (PartKind::AllocatorPages, 4),
        (PartKind::OtherAnonymous, 9),
    ];
    for (kind, mib) in sizes {
        assert_eq!(resident(&found, kind), mib * MIB, "{kind:?}");
    }
    // 2 MiB are not in memory, of whatever.
    let before = found.part(PartKind::BeforeAttach).expect("before");
    assert_eq!((before.least_bytes, before.most_bytes), (27 * MIB, 29 * MIB));
    let other = found.part(PartKind::OtherAnonymous).expect("other");
    assert_eq!((other.least_bytes, other.most_bytes), (9 * MIB, 11 * MIB));
}

fn with_blocks(residency: Residency, requested: Extent, slack: Extent) -> Residency {
    let blocks = Some(TracedBlocks { requested, slack, hugetlb_bytes: 0, count: 1000, exact: true });
    Residency { traced: Traced { blocks, ..residency.traced }, ..residency }
}

fn resident(found: &Reconciliation, kind: PartKind) -> u64 {
    found.part(kind).map_or(0, |part| part.resident_bytes)
}

#[test]
fn what_is_in_use_and_not_traced_is_from_before() {
    let found = reconcile(&with_blocks(glibc(), extent(10 * MIB, 9 * MIB), extent(16_000, 15_000)));
    let live = found.part(PartKind::TracedLive).expect("live");
    assert_eq!((live.resident_bytes, live.virtual_bytes, live.how), (9 * MIB, Some(10 * MIB), How::Measured));
    let before = found.part(PartKind::BeforeAttach).expect("before");
    assert_eq!(before.resident_bytes, 40 * MIB - 9 * MIB - 15_000);
    assert_eq!(before.virtual_bytes, Some(50 * MIB - 10 * MIB - 16_000));
    // glibc may have rounded each of the traced blocks up by 16 bytes more than by its arithmetic.
    assert_eq!(
        (before.least_bytes, before.most_bytes),
        (before.resident_bytes - 16_000, before.resident_bytes)
    );
    assert_eq!(before.how, How::Inferred);
    assert!(before.why.contains("7 more blocks from before were freed since"), "{}", before.why);
    assert_eq!(resident(&found, PartKind::AllocatorSlack), 15_000 + 48);
    assert_eq!(resident(&found, PartKind::AllocatorFree), 3 * MIB);
    assert_eq!(resident(&found, PartKind::AllocatorTop), 4096);
    assert_eq!(resident(&found, PartKind::OtherAnonymous), 60 * MIB - 40 * MIB - 3 * MIB - 4096 - 48);
    assert!(found.part(PartKind::Undivided).is_none());
    // 10 in use, 1 free, almost 2 at the top.
    assert_eq!(found.untouched_bytes, 10 * MIB + MIB + 2 * MIB - 4096);
}

#[test]
fn what_is_on_huge_pages_that_were_set_aside_is_neither_resident_nor_missing() {
    let heap = GlibcHeap {
        in_use: extent(30 * MIB, 0),
        mmapped: extent(20 * MIB, 0),
        free: extent(4 * MIB, 0),
        top: extent(2 * MIB, 0),
        overhead: extent(48, 0),
        hugetlb_bytes: 50 * MIB,
        ..match glibc().heap {
            Heap::Glibc(heap) => heap,
            _ => GlibcHeap::default(),
        }
    };
    let residency = Residency { heap: Heap::Glibc(heap), hugetlb_bytes: 52 * MIB, ..glibc() };
    let found = reconcile(&with_blocks(residency, extent(10 * MIB, 0), extent(16_000, 0)));
    assert_eq!((found.hugetlb_bytes, found.heap_hugetlb_bytes), (52 * MIB, 50 * MIB));
    assert_eq!(found.untouched_bytes, 6 * MIB + 48);
    // What is resident is none of the heap's.
    assert_eq!(resident(&found, PartKind::OtherAnonymous), 60 * MIB);

    let mut residency = with_blocks(jemalloc(), extent(10 * MIB, 2 * MIB), Extent::default());
    residency.traced.blocks.as_mut().expect("blocks").hugetlb_bytes = 7 * MIB;
    let found = reconcile(&residency);
    assert_eq!((found.heap_hugetlb_bytes, found.untouched_bytes), (7 * MIB, MIB));
}

#[test]
fn live_blocks_that_were_not_looked_at_are_estimated_between_bounds() {
    let found = reconcile(&glibc());
    let live = found.part(PartKind::TracedLive).expect("live");
    // All 10 MiB that are not resident may be of the live blocks, or none; in the share of all it is 40 of 50.
    assert_eq!((live.least_bytes, live.most_bytes), (0, 10 * MIB));
    assert_eq!((live.resident_bytes, live.how), (8 * MIB, How::Inferred));
    let before = found.part(PartKind::BeforeAttach).expect("before");
    assert!(before.least_bytes <= before.resident_bytes && before.resident_bytes <= before.most_bytes);
    assert!(before.most_bytes - before.least_bytes >= 10 * MIB);
}

#[test]
fn what_an_unreadable_allocator_holds_is_bounded_and_not_divided() {
    let found = reconcile(&with_blocks(jemalloc(), extent(10 * MIB, 9 * MIB), Extent::default()));
    assert_eq!(resident(&found, PartKind::TracedLive), 9 * MIB);
    let rest = found.part(PartKind::Undivided).expect("the rest");
    assert_eq!((rest.resident_bytes, rest.how), (51 * MIB, How::Bound));
    assert_eq!((rest.least_bytes, rest.most_bytes), (51 * MIB, 51 * MIB));
    // Not looked at one by one, all of the live blocks may be in memory, or none.
    let rest = reconcile(&jemalloc()).part(PartKind::Undivided).cloned().expect("the rest");
    assert_eq!((rest.least_bytes, rest.most_bytes), (50 * MIB, 60 * MIB));
    assert!(rest.why.contains("jemalloc") && rest.why.contains("7 more blocks"), "{}", rest.why);
    for kind in [PartKind::BeforeAttach, PartKind::AllocatorFree, PartKind::OtherAnonymous] {
        assert!(found.part(kind).is_none(), "{kind:?}");
    }
    assert_eq!((found.allocator_read, found.untouched_bytes), (false, MIB));
}

#[test]
fn mapped_blocks_that_were_not_found_leave_the_rest_uncertain() {
    let mut residency = with_blocks(glibc(), extent(10 * MIB, 9 * MIB), Extent::default());
    if let Heap::Glibc(heap) = &mut residency.heap {
        (heap.mmapped_found, heap.mmapped.resident_bytes) = (false, 4096);
    }
    let found = reconcile(&residency);
    let other = found.part(PartKind::OtherAnonymous).expect("other");
    // All 20 MiB are taken to be in memory, of what the arenas leave.
    assert_eq!(other.resident_bytes, 60 * MIB - (28 + 3 + 20) * MIB - 4096 - 48);
    assert_eq!(other.most_bytes, other.resident_bytes + 20 * MIB);
    assert!(other.why.contains("2 blocks"), "{}", other.why);
    assert_eq!(found.part(PartKind::AllocatorFree).map(|part| part.how), Some(How::Inferred));
}

#[test]
fn blocks_in_use_for_other_reasons_are_named() {
    let mut residency = glibc();
    residency.traced = Traced { inherited_count: 3, lost_count: 4, filtered_count: 5, ..residency.traced };
    let why = &reconcile(&residency).part(PartKind::BeforeAttach).expect("before").why.clone();
    for what in ["inherited at fork (3", "without room in the tables (4", "filtered by size (5"] {
        assert!(why.contains(what), "{why}");
    }
}

prop_compose! {
    /// Extents of all shapes, resident more than virtual among them: measurements are of different moments.
    fn any_extent()(virtual_bytes in 0..1u64 << 44, resident_bytes in 0..1u64 << 44, small: bool) -> Extent {
        if small { extent(virtual_bytes >> 30, resident_bytes >> 30) } else { extent(virtual_bytes, resident_bytes) }
    }
}

prop_compose! {
    fn any_residency()(
        e in proptest::collection::vec(any_extent(), 14),
        counts: [u32; 6],
        flags: [bool; 6],
    ) -> Residency {
        let mappings = Mappings {
            anonymous: e[0], main_stack: e[1], thread_stacks: e[2], files: e[3], copied: e[4], shared: e[5],
            special: e[6],
        };
        let heap = GlibcHeap {
            arenas: 1, in_use: e[7], mmapped: e[8], mmapped_count: counts[0].into(), mmapped_found: flags[0],
            free: e[9], top: e[10], overhead: e[11], hugetlb_bytes: e[13].virtual_bytes, consistent: flags[1],
        };
        let blocks =
            TracedBlocks { requested: e[12], slack: e[13], hugetlb_bytes: 0, count: counts[1].into(), exact: flags[2] };
        let traced = Traced {
            live_bytes: e[12].virtual_bytes, live_count: counts[1].into(), unknown_frees: counts[2].into(),
            inherited_count: counts[3].into(), filtered_count: counts[4].into(), lost_count: counts[5].into(),
            blocks: flags[3].then_some(blocks),
        };
        let unreadable = Heap::Unreadable { allocator: "x".into(), why: "y".into() };
        let counted = JemallocHeap {
            version: "5.3.0".into(), arenas: 1, in_use_bytes: e[7].virtual_bytes, cached_bytes: e[8].virtual_bytes,
            active_bytes: e[9].virtual_bytes, dirty_bytes: e[10].virtual_bytes, muzzy_bytes: e[11].virtual_bytes,
            metadata_bytes: e[11].resident_bytes,
        };
        let heap = match (flags[4], flags[5]) {
            (true, _) => Heap::Glibc(heap),
            (false, true) => Heap::Jemalloc(counted),
            _ => unreadable,
        };
        Residency { at_ns: 0, took_ns: 0, mappings, swap_bytes: 0, hugetlb_bytes: 0, heap, traced }
    }
}

proptest! {
    #[test]
    fn parts_sum_to_the_rss_and_lie_within_their_bounds(residency in any_residency()) {
        let found = reconcile(&residency);
        let sum: u64 = found.parts.iter().map(|part| part.resident_bytes).sum();
        prop_assert_eq!(sum, found.rss_bytes);
        prop_assert_eq!(found.rss_bytes, residency.mappings.total().resident_bytes);
        for part in &found.parts {
            prop_assert!(part.least_bytes <= part.resident_bytes, "{:?}", part);
            prop_assert!(part.resident_bytes <= part.most_bytes, "{:?}", part);
        }
        let mut kinds: Vec<_> = found.parts.iter().map(|part| part.part).collect();
        let count = kinds.len();
        kinds.sort_by_key(|kind| *kind as u8);
        kinds.dedup();
        prop_assert_eq!(kinds.len(), count, "a kind is there once");
    }
}

/// Files may hold anything.
#[test]
fn numbers_at_their_limit_do_not_overflow() {
    let most = extent(u64::MAX, u64::MAX);
    let mappings = Mappings {
        anonymous: most,
        main_stack: most,
        thread_stacks: most,
        files: most,
        copied: most,
        shared: most,
        special: most,
    };
    let heap = GlibcHeap {
        arenas: u64::MAX,
        in_use: most,
        mmapped: most,
        mmapped_count: u64::MAX,
        mmapped_found: false,
        free: most,
        top: most,
        overhead: most,
        hugetlb_bytes: u64::MAX,
        consistent: false,
    };
    let counts = u64::MAX;
    for (heap, blocks) in [(Heap::Glibc(heap), true), (Heap::default(), true), (Heap::Glibc(heap), false)] {
        let blocks = blocks.then_some(TracedBlocks {
            requested: most,
            slack: most,
            hugetlb_bytes: counts,
            count: counts,
            exact: false,
        });
        let traced = Traced { live_bytes: counts, live_count: counts, blocks, ..Traced::default() };
        let residency = Residency {
            at_ns: counts,
            took_ns: counts,
            mappings,
            swap_bytes: counts,
            hugetlb_bytes: counts,
            heap,
            traced,
        };
        assert_eq!(reconcile(&residency).rss_bytes, u64::MAX);
    }
}
