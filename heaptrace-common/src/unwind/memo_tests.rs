//! What is remembered of a walk says what the walk would find.

extern crate std;

use super::{
    CfaKind, FpKind, Rule,
    memo::{MEMO_WORDS, Memo},
    step::Registers,
    step_tests::{CODE, Map, SP, all_under, registers, stack},
};
use crate::{
    stack::StackEnd,
    unwind::{UnwindMapping, step::step},
};
use std::{vec, vec::Vec};

/// Words of a random stack, and frames of a walk at most.
const WORDS: u64 = 12;
const FRAMES: usize = 6;

/// A generator of numbers: no crate is needed for a few.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// What may lie on a stack: an address of code, of the stack, or neither.
    fn word(&mut self) -> u64 {
        match self.below(5) {
            0 | 1 => CODE + 1 + self.below(1000),
            2 | 3 => SP + 8 * self.below(WORDS),
            _ => self.below(3),
        }
    }

    fn rule(&mut self) -> Rule {
        let cfa = [CfaKind::Rsp, CfaKind::Rbp, CfaKind::DerefRsp, CfaKind::DerefRbp, CfaKind::None];
        let fp = [FpKind::Same, FpKind::CfaOffset, FpKind::RbpOffset, FpKind::Lost];
        let (cfa, fp) = (cfa[self.below(5) as usize], fp[self.below(4) as usize]);
        Rule::new(cfa, fp, -8 * (2 + self.below(2) as i16), 8 * (1 + self.below(3)) as i32, 8)
    }
}

/// The frames of a walk and why it ended, and what it read.
struct Walk {
    frames: Vec<u64>,
    end: Option<StackEnd>,
    needed_bp: u64,
    reads: Vec<u64>,
}

fn walk(first: Registers, words: &[(u64, u64)], tables: &mut Map) -> Walk {
    let mut memory = stack(words);
    let (mut registers, mut current) = (first, UnwindMapping::UNUSED);
    let (mut frames, mut end) = (vec![first.pc], None);
    while frames.len() < FRAMES && end.is_none() {
        match step(&mut registers, &mut current, tables, &mut memory, true) {
            Ok(()) => frames.push(registers.pc),
            Err(why) => end = Some(why),
        }
    }
    Walk { frames, end, needed_bp: registers.needed_bp, reads: memory.reads }
}

fn remembered(first: &Registers, walk: &Walk, words: &[(u64, u64)]) -> Option<Memo> {
    let content = |at: u64| words.iter().find(|(address, _)| *address == at).map(|(_, content)| *content);
    let mut memo = Memo {
        version: 2,
        pc: first.pc,
        sp: first.sp,
        bp: first.bp,
        bp_at: first.bp_at,
        needed_bp: walk.needed_bp,
        list: 1,
        thread: 0,
        process: 3,
        function: 4,
        site: 5,
        count: walk.reads.len() as u32,
        words: [[0; 2]; MEMO_WORDS],
    };
    for (to, at) in memo.words.iter_mut().zip(&walk.reads) {
        // What could not be read is not remembered.
        *to = [*at, content(*at)?];
    }
    (!walk.reads.is_empty()).then_some(memo)
}

/// Stacks, registers and rules at random, and the same with one word, or rbp, changed: where the memo fits still, so does what the
/// walk found.
#[test]
fn a_walk_whose_words_are_as_they_were_finds_the_same() {
    let mut numbers = Numbers(7);
    let (mut fitted, mut told_apart) = (0, 0);
    for _ in 0..20_000 {
        let mut tables = all_under(numbers.rule());
        let mut words: Vec<(u64, u64)> = (0..WORDS).map(|n| (SP + 8 * n, numbers.word())).collect();
        let mut first = registers();
        first.bp = numbers.word();
        if numbers.below(3) == 0 {
            first.bp_at = SP + 8 * numbers.below(WORDS);
        }
        let before = walk(first, &words, &mut tables);
        let Some(memo) = remembered(&first, &before, &words) else { continue };
        assert!(memo.began(3, 4, 0, 1, &first));
        assert!(!memo.began(2, 4, 0, 1, &first) && !memo.began(3, 5, 0, 1, &first));
        assert!(!memo.began(3, 4, 1, 1, &first) && !memo.began(3, 4, 0, 2, &first));
        match numbers.below(4) {
            0 => first.bp = numbers.word(),
            1 => first.bp_at = if first.bp_at == 0 { SP } else { 0 },
            _ => words[numbers.below(WORDS) as usize].1 = numbers.word(),
        }
        let read = memo.words.iter().take(memo.count as usize);
        let same = |[at, content]: &[u64; 2]| words.contains(&(*at, *content));
        if memo.began(3, 4, 0, 1, &first) && read.clone().all(same) {
            let after = walk(first, &words, &mut tables);
            assert_eq!((after.frames, after.end), (before.frames, before.end), "{first:?} {words:x?}");
            fitted += 1;
        } else {
            told_apart += 1;
        }
    }
    assert!(fitted > 1000 && told_apart > 1000, "{fitted} fitted, {told_apart} were told apart");
}
