use super::*;
use crate::fixtures::gimli_rows;
use crate::unwind::ehframe::lookup;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

const MASK: u64 = (1 << PAGE_BITS) - 1;

fn rule(offset: i32) -> Rule {
    Rule::new(CfaKind::Rsp, FpKind::Same, 0, offset, 0)
}

fn code(start: u64, end: u64) -> [Code; 1] {
    [Code { start, end, offset: 0 }]
}

fn table(rows: &[(u64, Rule)], code: &[Code]) -> FileTable {
    let rows: Vec<RawRow> =
        rows.iter().map(|(address, rule)| RawRow { address: *address, rule: *rule }).collect();
    FileTable::from_rows(&rows, code, TableStats::default()).unwrap()
}

#[test]
fn the_table_of_a_real_file_says_at_every_row_what_the_kept_rows_say() {
    for path in gimli_rows::files() {
        let file = File::open(&path).unwrap();
        let frames = ehframe::read(&file).unwrap();
        let kept = callsites::keep(&frames.rows, &frames.code, &file, &BTreeSet::new()).unwrap();
        let table = FileTable::of(&file, RowKind::Calls).unwrap();
        for row in &kept {
            for address in [row.address - 1, row.address, row.address + 1, row.address | MASK] {
                assert_eq!(table.lookup(address), lookup(&kept, address), "{} {address:#x}", path.display());
            }
        }
        let stats = table.stats();
        assert_eq!((stats.raw_rows as usize, stats.kept_rows as usize), (frames.rows.len(), kept.len()));
        assert_eq!((stats.rows_over_page_limit, stats.rows_over_rule_limit), (0, 0));
    }
}

#[test]
fn a_table_of_exact_rows_says_at_every_row_what_all_rows_say() {
    for path in gimli_rows::files() {
        let file = File::open(&path).unwrap();
        let frames = ehframe::read(&file).unwrap();
        let table = FileTable::of(&file, RowKind::Exact).unwrap();
        let stats = table.stats();
        assert_eq!(stats.raw_rows, stats.kept_rows);
        assert_eq!(stats.rows_over_rule_limit, 0, "{}", path.display());
        // Not optimized, our own file may have pages of so many small functions that their rows find no room.
        let rows_of = frames.rows.iter().fold(BTreeMap::<u64, usize>::new(), |mut rows_of, row| {
            *rows_of.entry(row.address >> PAGE_BITS).or_default() += 1;
            rows_of
        });
        let is_full = |address: &u64| rows_of.get(&(address >> PAGE_BITS)).is_some_and(|rows| *rows > 250);
        let is_any_full = frames.rows.iter().any(|row| is_full(&row.address));
        assert!(is_any_full || stats.rows_over_page_limit == 0, "{}", path.display());
        for row in frames.rows.iter().filter(|row| !is_full(&row.address)) {
            for address in [row.address - 1, row.address] {
                let expected = lookup(&frames.rows, address);
                assert_eq!(table.lookup(address), expected, "{} {address:#x}", path.display());
            }
        }
    }
}

#[test]
fn pages_reach_as_far_as_a_mapping_of_the_code_does() {
    let table = table(&[(0x40_1234, rule(8)), (0x40_1300, Rule::NONE)], &code(0x40_1230, 0x40_2001));
    assert_eq!(table.first_page(), 0x40_1000 >> PAGE_BITS);
    assert_eq!(table.pages().len(), 0x2000 >> PAGE_BITS);
    let at = |address| table.lookup(address);
    assert_eq!([at(0x40_1000), at(0x40_1233), at(0x40_1300), at(0x40_2fff)], [Rule::NONE; 4]);
    assert_eq!([at(0x40_1234), at(0x40_12ff)], [rule(8); 2]);
}

#[test]
fn a_page_with_too_many_rows_has_no_rule_past_them_and_spoils_no_other() {
    let mut rows: Vec<(u64, Rule)> = (0..300).map(|i| (0x1000 + i, rule(8 * (1 + i as i32 % 7)))).collect();
    rows.push((0x1800, rule(64)));
    let table = table(&rows, &code(0x1000, 0x2000));
    assert_eq!(table.pages()[0].count, 255);
    assert_eq!(table.stats().rows_over_page_limit, 300 - 254);
    for (address, rule) in &rows[..254] {
        assert_eq!(table.lookup(*address), *rule);
    }
    assert_eq!([table.lookup(0x1000 + 254), table.lookup(0x13ff)], [Rule::NONE; 2]);
    assert_eq!([table.lookup(0x1400), table.lookup(0x17ff)], [rows[299].1; 2]);
    assert_eq!(table.lookup(0x1800), rule(64));
}

#[test]
fn rules_past_the_sixteenth_bit_are_unsupported_and_counted() {
    let rows: Vec<(u64, Rule)> = (0..66_000).map(|i| (0x1000 + 8 * i, rule(i as i32))).collect();
    let table = table(&rows, &code(0x1000, 0x20_0000));
    assert_eq!(table.rules().len(), 1 << 16);
    assert_eq!(table.stats().rows_over_rule_limit, 66_000 - ((1 << 16) - 2));
    assert_eq!(table.lookup(0x1000 + 8 * 65_999), Rule::UNSUPPORTED);
    assert_eq!(table.lookup(0x1000 + 8 * 100), rule(100));
}

#[test]
fn code_that_is_absurdly_far_apart_or_high_is_refused() {
    for (start, end) in
        [(0x1000, 0x1000 + (MAX_PAGES << PAGE_BITS) + 1), (1 << 42, (1 << 42) + 8), (0, u64::MAX)]
    {
        let code = [Code { start, end: start + 8, offset: 0 }, Code { start: end - 8, end, offset: 0 }];
        let made = FileTable::from_rows(&[], &code, TableStats::default());
        assert!(matches!(made, Err(TableError::Range { .. })), "{start:#x} {end:#x}");
    }
}

#[test]
fn parts_that_do_not_fit_each_other_are_refused() {
    let good = table(&[(0x1004, rule(8)), (0x1008, rule(16)), (0x1900, Rule::NONE)], &code(0x1000, 0x2000));
    type Parts = (u32, Vec<PageRows>, Vec<LocalRow>, Vec<Rule>);
    let parts = || (good.first_page, good.pages.clone(), good.rows.clone(), good.rules.clone());
    let make =
        |(first, pages, rows, rules): Parts| FileTable::from_parts(first, pages, rows, rules, *good.stats());
    assert_eq!(make(parts()).unwrap(), good);
    let spoil: [fn(&mut Parts); 9] = [
        |parts| parts.1[0].first_row = 0,
        |parts| parts.1[3].first_row = 5,
        |parts| parts.1[3].count = 1,
        |parts| parts.1[0].count = 255,
        |parts| parts.2[1].rule = 4,
        |parts| parts.2[1].low = 8,
        |parts| parts.2[1].low = 1024,
        |parts| parts.3[2] = Rule(9),
        |parts| parts.0 = u32::MAX - 2,
    ];
    for (index, spoil) in spoil.into_iter().enumerate() {
        let mut parts = parts();
        spoil(&mut parts);
        assert!(make(parts).is_err(), "{index}");
    }
}

proptest! {
    #[test]
    fn a_table_says_what_its_rows_say(
        steps in prop::collection::vec((prop_oneof![5 => 4u64..64, 1 => 64u64..5000], 1i32..40), 0..400),
        start in 0x1000u64..0x3000,
    ) {
        let mut address = start;
        let mut rows = Vec::new();
        for (step, offset) in steps {
            rows.push(RawRow { address, rule: rule(offset * 8) });
            address += step;
        }
        let made = FileTable::from_rows(&rows, &code(start, address + 1), TableStats::default()).unwrap();
        prop_assert_eq!(made.stats().rows_over_page_limit, 0);
        let mut probed: Vec<u64> = rows.iter().flat_map(|row| [row.address - 1, row.address, row.address | MASK]).collect();
        probed.extend((start..=address).step_by(511));
        for address in probed {
            prop_assert_eq!(made.lookup(address), lookup(&rows, address));
        }
    }
}
