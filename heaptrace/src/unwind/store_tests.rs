use super::*;
use crate::process::object::FileId;
use crate::unwind::ehframe::RawRow;
use crate::unwind::locate::Code;
use crate::unwind::table::TableStats;
use heaptrace_common::unwind::{CfaKind, FpKind, NO_TABLE, PAGE_BITS, UnwindMapping};
use proptest::prelude::*;

/// Arrays in plain memory.
struct Plain {
    rows: Vec<AtomicU32>,
    pages: Vec<AtomicU32>,
    rules: Vec<AtomicU64>,
}

impl Plain {
    /// Filled with what would show.
    fn new(rows: usize, pages: usize, rules: usize) -> Self {
        let words = |count| (0..count).map(|_| AtomicU32::new(0xdead_beef)).collect();
        let rules = (0..rules).map(|_| AtomicU64::new(0xdead_beef)).collect();
        Self { rows: words(rows), pages: words(pages), rules }
    }
}

impl Arrays for Plain {
    fn rows(&self) -> &[AtomicU32] {
        &self.rows
    }
    fn pages(&self) -> &[AtomicU32] {
        &self.pages
    }
    fn rules(&self) -> &[AtomicU64] {
        &self.rules
    }
}

/// An element of an array of shards, as the BPF side comes by it.
fn element(array: &[AtomicU32], shard: u32, within: u32) -> u32 {
    array[shard as usize * SHARD + (within as usize & (SHARD - 1))].load(Ordering::Relaxed)
}

/// The lookup of the BPF side: mapping, page, row, rule.
fn packed_lookup(arrays: &Plain, mapping: &UnwindMapping, pc: u64) -> Rule {
    assert!(mapping.start <= pc && pc < mapping.end && mapping.pages_at != NO_TABLE);
    let address = pc - mapping.bias;
    let page =
        ((address >> PAGE_BITS) as u32).wrapping_sub(mapping.first_page).wrapping_add(mapping.pages_at);
    let page = element(&arrays.pages, page >> 16, page);
    let (first, count) = (page & 0x00ff_ffff, page >> 24);
    let low = address as u32 & ((1 << PAGE_BITS) - 1);
    let row = |position: u32| element(&arrays.rows, first >> 16, (first & 0xffff) + position - 1);
    let before = (1..=count).take_while(|position| row(*position) >> 16 <= low).count() as u32;
    Rule(arrays.rules[row(before) as usize & (MAX_RULES - 1)].load(Ordering::Relaxed))
}

fn key(inode: u64) -> TableKey {
    let file = FileKey::File(FileStamp { id: FileId { dev: 1, inode }, size: 1, modified: (0, 0) });
    TableKey { file, rows: RowKind::Calls }
}

fn rule(offset: i32) -> Rule {
    Rule::new(CfaKind::Rsp, FpKind::Same, 0, offset, 0)
}

/// A table of `pages` pages with `each` rows or so, whose rules are its own and a few common ones.
fn table(seed: u64, pages: u64, each: u64) -> FileTable {
    let start = 0x1000 * (1 + seed % 5);
    let end = start + (pages << PAGE_BITS);
    let mut rows = Vec::new();
    let mut address = start;
    let mut state = seed;
    while each > 0 && address < end {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let own = (seed % 97) as i32 * 1000;
        let offset = if state >> 60 == 0 { 8 } else { own + (state >> 33) as i32 % 50 };
        if rows.last().is_none_or(|last: &RawRow| last.rule != rule(offset)) {
            rows.push(RawRow { address, rule: rule(offset) });
        }
        address += 5 + (state >> 40) % (2 * (1 << PAGE_BITS) / each);
    }
    rows.push(RawRow { address: end, rule: Rule::NONE });
    FileTable::from_rows(&rows, &[Code { start, end, offset: 0 }], TableStats::default()).unwrap()
}

const BIAS: u64 = 0x7f00_0000_0000;

/// The packed arrays say what the table says, at its rows, before them and at pages' ends.
fn check(store: &Store<Plain>, resident: &Resident, table: &FileTable) {
    let first = u64::from(table.first_page()) << PAGE_BITS;
    let past = first + ((table.pages().len() as u64) << PAGE_BITS);
    let mapping = resident.place.mapping(BIAS + first, BIAS + past, BIAS);
    for (index, page) in table.pages().iter().enumerate() {
        let start = first + ((index as u64) << PAGE_BITS);
        let rows = &table.rows()[page.first_row as usize..][..page.count as usize];
        let lows = rows.iter().step_by(7).flat_map(|row| [row.low, row.low.saturating_sub(1)]);
        for low in lows.chain([0, (1 << PAGE_BITS) - 1]) {
            let address = start + u64::from(low);
            let packed = packed_lookup(store.arrays(), &mapping, BIAS + address);
            assert_eq!(packed, table.lookup(address), "{resident:?} {address:#x}");
        }
    }
}

/// No two tables share an element, none has one that is free, and none is lost.
fn check_space(store: &Store<Plain>) {
    let mut pages: Vec<Range<u32>> = store
        .files
        .values()
        .map(|e| e.resident.place.pages_at..e.resident.place.pages_at + e.resident.place.pages)
        .collect();
    let mut rows: Vec<Range<u32>> = store.files.values().flat_map(|entry| entry.rows.clone()).collect();
    assert!(rows.iter().all(|range| range.start >> 16 == (range.end - 1) >> 16));
    let usage = store.usage();
    for (ranges, (used, _)) in [(&mut pages, usage.pages), (&mut rows, usage.rows)] {
        ranges.sort_unstable_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert_eq!(ranges.iter().map(|range| u64::from(range.end - range.start)).sum::<u64>(), used);
    }
}

#[test]
fn tables_are_found_through_the_packed_arrays() {
    let mut store = Store::new(Plain::new(SHARD, SHARD, MAX_RULES)).unwrap();
    let tables: Vec<FileTable> = (0..4).map(|seed| table(seed, 40, seed * 20)).collect();
    for (inode, table) in tables.iter().enumerate() {
        store.insert(key(inode as u64), table).unwrap();
    }
    for (inode, table) in tables.iter().enumerate() {
        check(&store, &store.get(&key(inode as u64)).unwrap(), table);
    }
    check_space(&store);
}

#[test]
fn pages_may_span_shards_and_rows_do_not() {
    let mut store = Store::new(Plain::new(3 * SHARD, 3 * SHARD, MAX_RULES)).unwrap();
    let large = table(7, 100_000, 1);
    let resident = store.insert(key(1), &large).unwrap();
    assert!(resident.place.pages > SHARD as u32 && resident.rows > SHARD as u32, "{resident:?}");
    check(&store, &resident, &large);
    check_space(&store);
}

#[test]
fn pages_without_rows_at_a_shards_end_keep_the_rule_before_them() {
    // One row in all, then pages of nothing, with free space of one row at the very end of the first shard.
    let code = [Code { start: 0x1000, end: 0x9000, offset: 0 }];
    let rows = [RawRow { address: 0x1000, rule: rule(8) }];
    let single = FileTable::from_rows(&rows, &code, TableStats::default()).unwrap();
    for left in 1..6 {
        let mut store = Store::new(Plain::new(2 * SHARD, SHARD, MAX_RULES)).unwrap();
        store.rows = Space::new(0, SHARD as u32);
        store.rows.give(SHARD as u32 - left..SHARD as u32);
        store.rows.give(SHARD as u32..2 * SHARD as u32);
        let resident = store.insert(key(1), &single).unwrap();
        check(&store, &resident, &single);
    }
}

#[test]
fn a_released_table_stays_readable_until_it_is_reclaimed() {
    let mut store = Store::new(Plain::new(SHARD, SHARD, MAX_RULES)).unwrap();
    let (one, two) = (table(1, 60, 100), table(2, 60, 100));
    let resident = store.insert(key(1), &one).unwrap();
    assert_eq!(store.release(&key(1)), Some(true));
    check(&store, &resident, &one);
    let other = store.insert(key(2), &two).unwrap();
    check(&store, &resident, &one);
    check(&store, &other, &two);
    assert_eq!((store.usage().files, store.usage().retired), (2, 1));
    let named = HashSet::from([resident.place.pages_at]);
    assert_eq!(store.reclaim(&named), 0, "a list in force names it");
    assert_eq!(store.reclaim(&HashSet::new()), 1);
    assert_eq!(store.get(&key(1)), None);
    check(&store, &other, &two);
    check_space(&store);
}

#[test]
fn a_table_is_kept_while_anyone_uses_it_and_can_be_taken_up_again() {
    let mut store = Store::new(Plain::new(SHARD, SHARD, MAX_RULES)).unwrap();
    let one = table(1, 10, 10);
    assert_eq!(store.acquire(&key(1)), None);
    let resident = store.insert(key(1), &one).unwrap();
    assert_eq!(store.insert(key(1), &one), Ok(resident));
    assert_eq!(store.release(&key(1)), Some(false));
    assert_eq!(store.reclaim(&HashSet::new()), 0, "one user left");
    assert_eq!(store.release(&key(1)), Some(true));
    assert_eq!(store.release(&key(1)), None, "no user left");
    assert_eq!(store.acquire(&key(1)), Some(resident));
    assert_eq!(store.reclaim(&HashSet::new()), 0, "taken up again");
    assert_eq!(store.release(&key(1)), Some(true));
    assert_eq!(store.reclaim(&HashSet::new()), 1);
    let Usage { files, retired, rows, pages, .. } = store.usage();
    assert_eq!((files, retired, rows.0, pages.0), (0, 0, 0, 0));
}

#[test]
fn a_table_that_does_not_fit_says_what_is_full_and_leaves_no_trace() {
    let mut store = Store::new(Plain::new(4096, 512, MAX_RULES)).unwrap();
    let resident = store.insert(key(1), &table(1, 30, 40)).unwrap();
    let before = store.usage();
    let error = store.insert(key(2), &table(2, 600, 0)).unwrap_err();
    assert_eq!((error.what, error.needed), (Array::Pages, 600));
    let error = store.insert(key(3), &table(3, 100, 90)).unwrap_err();
    assert_eq!(error.what, Array::Rows);
    let after = store.usage();
    assert_eq!((after.files, after.rows, after.pages), (before.files, before.rows, before.pages));
    check(&store, &resident, &table(1, 30, 40));
    check_space(&store);
}

#[test]
fn rules_for_which_there_is_no_room_become_unsupported_and_are_counted() {
    let mut store = Store::new(Plain::new(SHARD, SHARD, 20)).unwrap();
    let one = table(1, 20, 100);
    let resident = store.insert(key(1), &one).unwrap();
    assert_eq!(store.usage().rules, (20, 20));
    let first = u64::from(one.first_page()) << PAGE_BITS;
    let mapping = resident.place.mapping(first, first + (20 << PAGE_BITS), 0);
    let differ = (mapping.start..mapping.end)
        .map(|pc| (packed_lookup(store.arrays(), &mapping, pc), one.lookup(pc)))
        .filter(|(packed, table)| packed != table)
        .inspect(|(packed, _)| assert_eq!(*packed, Rule::UNSUPPORTED))
        .count();
    assert!(differ > 0 && resident.rows_without_rule > 0);
    assert!(Store::new(Plain::new(SHARD, SHARD, 1)).is_err());
}

#[test]
fn a_mapping_is_cut_to_what_the_table_covers() {
    let resident = Resident {
        place: TablePlace { first_page: 4, pages_at: 9, pages: 8, _pad: 0 },
        rows: 0,
        rows_without_rule: 0,
    };
    let whole = resident.place.mapping(BIAS, BIAS + 0x10_0000, BIAS);
    assert_eq!((whole.start, whole.end), (BIAS + 0x1000, BIAS + 0x3000));
    assert_eq!((whole.first_page, whole.pages_at, whole.bias), (4, 9, BIAS));
    assert_eq!(resident.place.mapping(BIAS + 0x3000, BIAS + 0x4000, BIAS).pages_at, NO_TABLE);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { inode: u64, pages: u64, each: u64 },
    Release(u64),
    Reclaim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let insert =
        (0u64..12, 1u64..400, 0u64..90).prop_map(|(inode, pages, each)| Step::Insert { inode, pages, each });
    let step = prop_oneof![
        4 => insert,
        4 => (0u64..12).prop_map(Step::Release),
        2 => Just(Step::Reclaim),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_comes_and_goes_every_table_reads_as_it_was_written(steps in steps()) {
        let mut store = Store::new(Plain::new(2 * SHARD, 3000, MAX_RULES)).unwrap();
        let mut written: HashMap<u64, FileTable> = HashMap::new();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { inode, pages, each } => {
                    let new = table(inode + 12 * index as u64, pages, each);
                    let was = store.get(&key(inode));
                    match store.insert(key(inode), &new) {
                        Ok(resident) if was.is_some() => prop_assert_eq!(Some(resident), was),
                        Ok(_) => {
                            written.insert(inode, new);
                        }
                        Err(full) => prop_assert!(full.what == Array::Rows || u64::from(full.needed) > 0),
                    }
                }
                Step::Release(inode) => {
                    store.release(&key(inode));
                }
                Step::Reclaim => {
                    store.reclaim(&HashSet::new());
                    written.retain(|inode, _| store.get(&key(*inode)).is_some());
                }
            }
            check_space(&store);
        }
        prop_assert_eq!(store.usage().files as usize, written.len());
        for (inode, table) in &written {
            check(&store, &store.get(&key(*inode)).unwrap(), table);
        }
        while (0..12).any(|inode| store.release(&key(inode)).is_some()) {}
        store.reclaim(&HashSet::new());
        let usage = store.usage();
        prop_assert_eq!((usage.files, usage.rows.0, usage.pages.0), (0, 0, 0));
        // All of it is one piece again.
        prop_assert!(store.pages.take(3000).is_some());
        prop_assert!(store.rows.take(SHARD as u32).is_some() && store.rows.take(SHARD as u32).is_some());
    }
}
