use super::*;
use crate::fixtures::gimli_rows;
use crate::unwind::ehframe::{self, lookup};
use heaptrace_common::unwind::{CfaKind, FpKind};
use iced_x86::{Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction};
use proptest::prelude::*;

fn rule(offset: i32) -> Rule {
    Rule::new(CfaKind::Rsp, FpKind::Same, 0, offset, 0)
}

fn is_call(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::Call => instruction.code() == Opcode::Syscall || instruction.is_call_near(),
        FlowControl::IndirectCall => instruction.is_call_near_indirect(),
        _ => false,
    }
}

/// Addresses of the last bytes of calls, decoding from `start` on.
fn last_bytes(code: &[u8], start: u64) -> Vec<u64> {
    Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .iter()
        .filter(|instruction| !instruction.is_invalid() && is_call(instruction))
        .map(|instruction| instruction.next_ip() - 1)
        .collect()
}

#[test]
fn at_every_call_of_real_files_the_kept_rows_say_what_all_rows_and_gimli_say() {
    for path in gimli_rows::files() {
        let bytes = std::fs::read(&path).unwrap();
        let frames = ehframe::read(&bytes.as_slice()).unwrap();
        let kept = keep(&frames.rows, &frames.code, &bytes.as_slice(), &BTreeSet::new()).unwrap();
        let gimli = gimli_rows::Frames::of(&bytes.as_slice());
        let mut calls = Vec::new();
        for (start, end) in gimli.ranges() {
            let code = frames.code.iter().find(|code| code.start <= start && end <= code.end).unwrap();
            let at = (code.offset + (start - code.start)) as usize;
            calls.extend(last_bytes(&bytes[at..at + (end - start) as usize], start));
        }
        calls.sort_unstable();
        calls.dedup();
        for address in &calls {
            assert_eq!(
                lookup(&kept, *address),
                lookup(&frames.rows, *address),
                "{} {address:#x}",
                path.display()
            );
        }
        let visited = gimli.each(&calls, |address, row| {
            assert!(row.agrees(lookup(&kept, address), address), "{} {address:#x}", path.display());
        });
        assert!(visited * 100 > calls.len() * 99, "{}: {visited} of {}", path.display(), calls.len());
        assert!(calls.len() > 500 && kept.len() * 3 < frames.rows.len(), "{}", path.display());
    }
}

#[test]
fn rows_are_kept_for_calls_of_every_length_and_dropped_without_one() {
    let cases: [(&[u8], bool); 16] = [
        (&[0xe8, 1, 2, 3, 4], true),
        (&[0xff, 0xd0], true),
        (&[0x41, 0xff, 0xd4], true),
        (&[0x3e, 0xff, 0xd0], true),
        (&[0xff, 0x10], true),
        (&[0xff, 0x50, 0x08], true),
        (&[0xff, 0x15, 0, 0, 0, 0], true),
        (&[0xff, 0x14, 0x24], true),
        (&[0xff, 0x14, 0x25, 0, 0, 0, 0], true),
        (&[0xff, 0x94, 0x24, 0, 0, 0, 0], true),
        (&[0x0f, 0x05], true),
        (&[0xe9, 1, 2, 3, 4], false),
        (&[0xff, 0xe0], false),
        (&[0xff, 0x25, 0, 0, 0, 0], false),
        (&[0x0f, 0x1f, 0x40, 0x00], false),
        (&[0xff, 0x1c, 0x24], false),
    ];
    for (bytes, is_kept) in cases {
        // A row before, the case, and a row after; nops around.
        let image = [&[0x90; 16][..], bytes, &[0x90; 16]].concat();
        let end = 0x1000 + image.len() as u64;
        let code = [Code { start: 0x1000, end, offset: 0 }];
        let after = 0x1010 + bytes.len() as u64;
        let rows = [(0x1000, rule(8)), (0x1010, rule(16)), (after, rule(24)), (end, Rule::NONE)]
            .map(|(address, rule)| RawRow { address, rule });
        let kept = keep(&rows, &code, &image.as_slice(), &BTreeSet::new()).unwrap();
        assert_eq!(kept.iter().any(|row| row.rule == rule(16)), is_kept, "{bytes:x?}");
        assert!(!kept.iter().any(|row| row.rule == rule(8) || row.rule == rule(24)), "{bytes:x?}");
    }
}

#[test]
fn a_row_whose_code_is_not_in_the_file_is_kept() {
    let code = [Code { start: 0x1000, end: 0x3000, offset: 0 }];
    let rows = [RawRow { address: 0x1000, rule: rule(8) }, RawRow { address: 0x2000, rule: rule(16) }];
    let kept = keep(&rows, &code, &[0x90; 0x1800].as_slice(), &BTreeSet::new()).unwrap();
    assert_eq!(kept, rows[1..]);
}

#[test]
fn a_row_where_stacks_begin_is_kept() {
    let code = [Code { start: 0x1000, end: 0x1030, offset: 0 }];
    let rows = [(0x1000, rule(8)), (0x1010, rule(16)), (0x1020, rule(24)), (0x1030, Rule::NONE)]
        .map(|(address, rule)| RawRow { address, rule });
    for (begin, row) in [(0x1010, 1), (0x101f, 1), (0x1020, 2)] {
        let kept = keep(&rows, &code, &[0x90; 0x30].as_slice(), &BTreeSet::from([begin])).unwrap();
        assert_eq!(lookup(&kept, begin), rows[row].rule, "{begin:x}");
    }
}

proptest! {
    /// Of any code, decoded from any byte on: whatever a compiler's or an assembler's idea of rows is, none is lost.
    #[test]
    fn no_call_at_any_byte_loses_its_row(
        bytes in prop::collection::vec(
            prop_oneof![3 => any::<u8>(), 2 => prop::sample::select(vec![0xe8, 0xff, 0x0f, 0x05, 0x14, 0x15, 0x25])],
            16..300,
        ),
        steps in prop::collection::vec((1u64..24, 0i32..6), 1..30),
    ) {
        let start = 0x40_0100;
        let code = [Code { start, end: start + bytes.len() as u64, offset: 0 }];
        let mut rows: Vec<RawRow> = Vec::new();
        let mut address = start;
        for (step, offset) in steps {
            if address < code[0].end && rows.last().is_none_or(|last| last.rule != rule(offset * 8)) {
                rows.push(RawRow { address, rule: rule(offset * 8) });
            }
            address += step;
        }
        rows.push(RawRow { address: code[0].end, rule: Rule::NONE });
        let kept = keep(&rows, &code, &bytes.as_slice(), &BTreeSet::new()).unwrap();
        for at in 0..bytes.len() {
            let window = &bytes[at..bytes.len().min(at + 15)];
            if let Some(last) = last_bytes(window, start + at as u64).first() {
                prop_assert_eq!(lookup(&kept, *last), lookup(&rows, *last));
            }
        }
    }

    #[test]
    fn code_longer_than_the_window_is_searched_whole(
        at in any::<prop::sample::Index>(),
        before in 0usize..16,
    ) {
        let mut bytes = vec![0x90; 3 * WINDOW];
        let window = at.index(2) + 1;
        let call = window * WINDOW - before;
        bytes[call] = 0xe8;
        bytes[call + 1..call + 5].fill(0x90);
        let end = 0x1000 + bytes.len() as u64;
        let code = [Code { start: 0x1000, end, offset: 0 }];
        let rows = [(0x1000, rule(8)), (0x1001, rule(16)), (end, Rule::NONE)]
            .map(|(address, rule)| RawRow { address, rule });
        let kept = keep(&rows, &code, &bytes.as_slice(), &BTreeSet::new()).unwrap();
        prop_assert_eq!(lookup(&kept, 0x1000 + call as u64 + 4), rule(16));
        prop_assert_eq!(kept.len(), 2);
    }
}
