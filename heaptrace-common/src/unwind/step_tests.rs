//! The step and the search, over simulated memory and tables.

extern crate std;

use super::{
    CfaKind, FpKind, NO_TABLE, Page, Row, Rule, UnwindMapping,
    lookup::{CACHE, Found, Place, Tables, find, search},
    step::{Memory, Registers, TRAMPOLINE, step},
};
use crate::stack::StackEnd;
use std::{collections::HashMap, vec, vec::Vec};

pub const SP: u64 = 0x7ffc_0000_1000;
const BP: u64 = SP + 0x80;
pub const CODE: u64 = 0x55_5555_0000;
/// Where the callers return to.
const CALLER: u64 = CODE + 0x777;

/// Addresses and what is there.
type Words = &'static [(u64, u64)];

#[derive(Default)]
pub struct Stack {
    words: HashMap<u64, u64>,
    code: HashMap<u64, u16>,
    replaced: HashMap<u64, u64>,
    pub reads: Vec<u64>,
}

impl Memory for Stack {
    fn read(&mut self, address: u64) -> Option<u64> {
        assert_eq!(address & 7, 0, "misaligned read");
        self.reads.push(address);
        self.words.get(&address).copied()
    }

    fn read_code(&mut self, address: u64) -> u16 {
        self.code.get(&address).copied().unwrap_or(0)
    }

    fn replaced_return(&mut self, slot: u64) -> Option<u64> {
        self.replaced.get(&slot).copied()
    }
}

pub struct Map {
    generation: u16,
    mappings: Vec<UnwindMapping>,
    pages: Vec<u32>,
    rows: Vec<u32>,
    rules: Vec<Rule>,
    cache: Vec<u64>,
    new: Vec<UnwindMapping>,
}

impl Tables for Map {
    type Rows = ();

    fn search(&self, current: &mut UnwindMapping, pc: u64) -> Place {
        // Through the number, as a BPF function gives it.
        Place::from_bits(search(self, current, pc).to_bits())
    }

    fn generation(&self) -> u16 {
        self.generation
    }

    fn cached(&self, slot: u64) -> u64 {
        self.cache[slot as usize]
    }

    fn cache(&mut self, slot: u64, entry: u64) {
        self.cache[slot as usize] = entry;
    }

    fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    fn newest(&self, pc: u64) -> Option<UnwindMapping> {
        self.new.iter().rev().find(|mapping| (mapping.start..mapping.end).contains(&pc)).copied()
    }

    fn start(&self, index: u32) -> Option<u64> {
        Some(self.mappings.get(index as usize).unwrap_or(&UnwindMapping::UNUSED).start)
    }

    fn mapping(&self, index: u32) -> Option<UnwindMapping> {
        self.mappings.get(index as usize).copied()
    }

    fn page(&self, index: u32) -> Option<Page> {
        self.pages.get(index as usize).map(|page| Page(*page))
    }

    fn rows(&self, _index: u32) -> Option<()> {
        Some(())
    }

    fn row(&self, _rows: (), index: u32) -> Row {
        Row(self.rows.get(index as usize).copied().unwrap_or(0))
    }

    fn rule(&self, index: u32) -> Rule {
        self.rules[index as usize]
    }
}

fn mapping(start: u64, end: u64, pages_at: u32) -> UnwindMapping {
    UnwindMapping { start, end, bias: start, first_page: 0, pages_at }
}

/// One page at `CODE`, all of it under `rule`.
pub fn all_under(rule: Rule) -> Map {
    Map {
        generation: 1,
        mappings: vec![mapping(CODE, CODE + 1024, 0)],
        pages: vec![Page::new(1, 0).0],
        rows: vec![Row::new(0, 1).0],
        rules: vec![Rule::NONE, rule],
        cache: vec![0; CACHE],
        new: Vec::new(),
    }
}

/// One step from `CODE + 0x11` under `rule`, with and without following frame pointers.
fn walk(rule: Rule, stack: &mut Stack, registers: &mut Registers) -> Result<(), StackEnd> {
    let mut current = UnwindMapping::UNUSED;
    step(registers, &mut current, &mut all_under(rule), stack, true)
}

pub fn registers() -> Registers {
    Registers::new(CODE + 0x11, SP, BP)
}

pub fn stack(words: &[(u64, u64)]) -> Stack {
    Stack { words: words.iter().copied().collect(), ..Stack::default() }
}

fn rule(cfa: CfaKind, offset: i32, add: u8) -> Rule {
    Rule::new(cfa, FpKind::Same, 0, offset, add)
}

#[test]
fn the_cfa_is_found_from_rsp_rbp_or_through_memory() {
    let cases: [(Rule, Words, u64); 6] = [
        (rule(CfaKind::Rsp, 24, 0), &[(SP + 16, CALLER)], SP + 24),
        (rule(CfaKind::Rbp, 16, 0), &[(BP + 8, CALLER)], BP + 16),
        (rule(CfaKind::Rsp, 501_840, 0), &[(SP + 501_832, CALLER)], SP + 501_840),
        (rule(CfaKind::DerefRsp, 8, 2), &[(SP + 8, SP + 0x100), (SP + 0x108, CALLER)], SP + 0x110),
        (rule(CfaKind::DerefRbp, -16, 0), &[(BP - 16, SP + 0x100), (SP + 0xf8, CALLER)], SP + 0x100),
        (Rule::PLT, &[(SP, CALLER)], SP + 8),
    ];
    for (rule, words, cfa) in cases {
        let mut registers = registers();
        assert_eq!(walk(rule, &mut stack(words), &mut registers), Ok(()), "{rule:?}");
        assert_eq!((registers.pc, registers.sp), (CALLER, cfa), "{rule:?}");
    }
}

#[test]
fn a_plt_entry_has_pushed_one_more_word_from_its_byte_11_on() {
    for (byte, cfa) in [(10, SP + 8), (11, SP + 16), (15, SP + 16)] {
        // A step looks at the pc minus one.
        let mut registers = Registers::new(CODE + byte + 1, SP, BP);
        assert_eq!(walk(Rule::PLT, &mut stack(&[(cfa - 8, CALLER)]), &mut registers), Ok(()), "byte {byte}");
        assert_eq!(registers.sp, cfa, "byte {byte}");
    }
}

#[test]
fn a_saved_rbp_is_read_only_when_a_rule_needs_it() {
    for (fp, offset, at) in [(FpKind::CfaOffset, -16, SP + 32), (FpKind::RbpOffset, -8, BP - 8)] {
        let saved = SP + 0x200;
        let mut stack = stack(&[(SP + 40, CALLER), (at, saved), (saved + 8, CALLER)]);
        let mut registers = registers();
        let first = Rule::new(CfaKind::Rsp, fp, offset, 48, 0);
        assert_eq!(walk(first, &mut stack, &mut registers), Ok(()));
        assert!(!stack.reads.contains(&at), "{fp:?}: read before it was needed");
        registers.pc = CODE + 0x11;
        assert_eq!(walk(rule(CfaKind::Rbp, 16, 0), &mut stack, &mut registers), Ok(()), "{fp:?}");
        assert_eq!(registers.sp, saved + 16, "{fp:?}");
    }
}

#[test]
fn a_lost_rbp_ends_the_walk_only_where_it_is_needed() {
    let mut stack = stack(&[(SP, CALLER), (SP + 8, CALLER)]);
    let mut registers = registers();
    assert_eq!(walk(Rule::new(CfaKind::Rsp, FpKind::Lost, 0, 8, 0), &mut stack, &mut registers), Ok(()));
    registers.pc = CODE + 0x11;
    assert_eq!(walk(rule(CfaKind::Rsp, 8, 0), &mut stack, &mut registers), Ok(()));
    registers.pc = CODE + 0x11;
    let end = walk(rule(CfaKind::Rbp, 16, 0), &mut stack, &mut registers);
    assert_eq!(end, Err(StackEnd::UnsupportedRule));
}

#[test]
fn the_outermost_frame_is_told_from_one_that_cannot_be_followed() {
    let ends: [(Rule, Words, StackEnd); 9] = [
        (Rule::STOP, &[], StackEnd::Complete),
        (rule(CfaKind::Rsp, 8, 0), &[(SP, 0)], StackEnd::Complete),
        (rule(CfaKind::Rsp, 8, 0), &[(SP, 0xfff)], StackEnd::Implausible),
        (rule(CfaKind::Rsp, 8, 0), &[(SP, 1 << 47)], StackEnd::Implausible),
        (rule(CfaKind::Rsp, 8, 0), &[], StackEnd::Unreadable),
        (rule(CfaKind::Rsp, 0, 0), &[], StackEnd::BadStackPointer),
        (rule(CfaKind::Rsp, -8, 0), &[], StackEnd::BadStackPointer),
        (rule(CfaKind::Rsp, 12, 0), &[], StackEnd::BadStackPointer),
        (Rule::UNSUPPORTED, &[(BP, BP + 32), (BP + 8, CALLER)], StackEnd::UnsupportedRule),
    ];
    for (rule, words, end) in ends {
        assert_eq!(walk(rule, &mut stack(words), &mut registers()), Err(end), "{rule:?} {words:x?}");
    }
}

#[test]
fn a_signal_frame_leads_to_a_system_call_and_to_any_other_instruction() {
    let interrupted = CODE + 0x200;
    let words = [(SP + 120, 5), (SP + 160, SP + 0x4000), (SP + 168, interrupted)];
    let mut stack = stack(&words);
    let mut first = registers();
    assert_eq!(walk(Rule::SIGNAL, &mut stack, &mut first), Ok(()));
    assert_eq!(first, Registers::at_instruction(interrupted, SP + 0x4000, 5));
    assert_eq!(first.pc - 1, interrupted);
    stack.code.insert(interrupted - 2, u16::from_le_bytes([0x0f, 0x05]));
    let mut second = registers();
    assert_eq!(walk(Rule::SIGNAL, &mut stack, &mut second), Ok(()));
    assert_eq!(second, Registers::new(interrupted, SP + 0x4000, 5));
}

#[test]
fn an_interrupted_frame_is_left_by_a_rule_or_not_at_all() {
    let mut stack = stack(&[(SP, CALLER), (SP + 8, CALLER), (BP, BP + 0x40), (BP + 8, CALLER)]);
    let mut registers = Registers::at_instruction(CODE + 0x20, SP, BP);
    assert!(registers.need_exact_rows());
    assert_eq!(walk(rule(CfaKind::Rsp, 8, 0), &mut stack, &mut registers), Ok(()));
    assert_eq!(registers, Registers::new(CALLER, SP + 8, BP));
    // Its frame pointer may still be its caller's.
    let mut registers = Registers::at_instruction(CODE + 0x20, SP, BP);
    assert_eq!(walk(Rule::NONE, &mut stack, &mut registers), Err(StackEnd::Interrupted));
}

#[test]
fn a_return_address_that_a_probe_replaced_is_the_one_before() {
    let mut stack = stack(&[(SP, TRAMPOLINE)]);
    let under = rule(CfaKind::Rsp, 8, 0);
    assert_eq!(walk(under, &mut stack, &mut registers()), Err(StackEnd::ReturnProbe));
    stack.replaced.insert(SP, CALLER);
    let mut registers = registers();
    assert_eq!(walk(under, &mut stack, &mut registers), Ok(()));
    assert_eq!(registers.pc, CALLER);
}

#[test]
fn frame_pointers_lead_on_where_there_is_no_rule_if_wanted() {
    let good: &[(u64, u64)] = &[(BP, BP + 0x40), (BP + 8, CALLER)];
    let mut registers = registers();
    assert_eq!(walk(Rule::NONE, &mut stack(good), &mut registers), Ok(()));
    assert_eq!((registers.pc, registers.sp), (CALLER, BP + 16));
    let mut current = UnwindMapping::UNUSED;
    let alone =
        step(&mut self::registers(), &mut current, &mut all_under(Rule::NONE), &mut stack(good), false);
    assert_eq!(alone, Err(StackEnd::NoUnwindInfo));
    for bp in [SP - 8, SP + 4, SP + (1 << 20) + 8, SP + 0x500] {
        let mut registers = Registers::new(CODE + 0x11, SP, bp);
        let end = walk(Rule::NONE, &mut stack(good), &mut registers);
        assert_eq!(end, Err(StackEnd::NoUnwindInfo), "rbp {bp:#x}");
    }
}

#[test]
fn a_chain_of_frame_pointers_ends_complete_at_zero() {
    let mut stack = stack(&[(BP, 0), (BP + 8, CALLER)]);
    let mut registers = registers();
    assert_eq!(walk(Rule::NONE, &mut stack, &mut registers), Ok(()));
    registers.pc = CODE + 0x11;
    assert_eq!(walk(Rule::NONE, &mut stack, &mut registers), Err(StackEnd::Complete));
    // In the first frame it says nothing: rbp may hold anything there.
    let mut zero = Registers::new(CODE + 0x11, SP, 0);
    assert_eq!(walk(Rule::NONE, &mut self::stack(&[]), &mut zero), Err(StackEnd::NoUnwindInfo));
}

#[test]
fn every_address_finds_the_row_that_is_in_force() {
    // Rule n is in force from page 0's byte 4 * n on; page 1 has no row of its own.
    for count in [0u8, 1, 2, 7, 15, 16, 17, 100, 255] {
        let mut rows = vec![Row::new(0, 300).0];
        rows.extend((0..u16::from(count)).map(|n| Row::new(4 * n + 4, n).0));
        let last = if count == 0 { 300 } else { u16::from(count) - 1 };
        rows.push(Row::new(0, last).0);
        let mut map = Map {
            generation: 1,
            mappings: vec![mapping(CODE, CODE + 2048, 0)],
            pages: vec![Page::new(1, count).0, Page::new(rows.len() as u32, 0).0],
            rules: (0..301).map(|n| rule(CfaKind::Rsp, n, 0)).collect(),
            rows,
            cache: vec![0; CACHE],
            new: Vec::new(),
        };
        // Twice: the second time from the cache.
        for _ in 0..2 {
            for at in 0..2048u64 {
                let expected = match (at / 4).min(u64::from(count)) {
                    0 => 300,
                    n => n as i32 - 1,
                };
                let mut current = UnwindMapping::UNUSED;
                let found = find(&mut map, &mut current, CODE + at);
                assert_eq!(found, Found::Rule(rule(CfaKind::Rsp, expected, 0)), "{count} rows, byte {at}");
            }
        }
    }
}

#[test]
fn every_address_finds_its_mapping_and_gaps_have_none() {
    for count in [0u64, 1, 2, 3, 255, 256, 257, 511, 512] {
        let mut map = all_under(Rule::NONE);
        map.mappings =
            (0..count).map(|n| mapping(CODE + 0x2000 * n, CODE + 0x2000 * n + 0x1000, NO_TABLE)).collect();
        let find = |map: &mut Map, pc| find(map, &mut UnwindMapping::UNUSED.clone(), pc);
        assert_eq!(find(&mut map, CODE - 1), Found::NoMapping);
        for n in 0..count {
            assert_eq!(find(&mut map, CODE + 0x2000 * n), Found::NoTable, "{n} of {count}");
            assert_eq!(find(&mut map, CODE + 0x2000 * n + 0xfff), Found::NoTable, "{n} of {count}");
            assert_eq!(find(&mut map, CODE + 0x2000 * n + 0x1000), Found::NoMapping, "{n} of {count}");
        }
    }
}

#[test]
fn a_new_generation_voids_the_cache() {
    let mut map = all_under(rule(CfaKind::Rsp, 8, 0));
    let find = |map: &mut Map| find(map, &mut UnwindMapping::UNUSED.clone(), CODE);
    assert_eq!(find(&mut map), Found::Rule(rule(CfaKind::Rsp, 8, 0)));
    map.mappings.clear();
    assert_eq!(find(&mut map), Found::Rule(rule(CfaKind::Rsp, 8, 0)));
    map.generation = 2;
    assert_eq!(find(&mut map), Found::NoMapping);
}

#[test]
fn a_newer_mapping_counts_before_the_list_and_the_cache() {
    let mut map = all_under(rule(CfaKind::Rsp, 8, 0));
    let find = |map: &mut Map| find(map, &mut UnwindMapping::UNUSED.clone(), CODE);
    assert_eq!(find(&mut map), Found::Rule(rule(CfaKind::Rsp, 8, 0)));
    map.rules.push(rule(CfaKind::Rsp, 24, 0));
    map.rows.push(Row::new(0, 2).0);
    map.pages.push(Page::new(2, 0).0);
    map.new = vec![mapping(CODE, CODE + 1024, NO_TABLE), mapping(CODE, CODE + 1024, 1)];
    assert_eq!(find(&mut map), Found::Rule(rule(CfaKind::Rsp, 24, 0)));
    map.new.truncate(1);
    assert_eq!(find(&mut map), Found::NoTable);
    // What was found by it is not kept: it goes by no generation.
    map.new.clear();
    assert_eq!(find(&mut map), Found::Rule(rule(CfaKind::Rsp, 8, 0)));
}
