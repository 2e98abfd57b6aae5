use super::*;
use crate::fixtures::gimli_rows;
use heaptrace_common::unwind::{CfaKind, FpKind};
use proptest::prelude::*;
use std::fs::File;
use std::sync::LazyLock;

const CODE: [Code; 1] = [Code { start: 0x1000, end: 0x9000, offset: 0 }];

/// rsp + 8, return address at CFA - 8.
const AT_ENTRY: [u8; 5] = [0x0c, 7, 8, 0x90, 1];

fn rsp(offset: i32) -> Rule {
    Rule::new(CfaKind::Rsp, FpKind::Same, 0, offset, 0)
}

/// Writes `.eh_frame` sections.
#[derive(Default)]
struct Section(Vec<u8>);

impl Section {
    fn entry(&mut self, mut body: Vec<u8>) -> usize {
        let at = self.0.len();
        body.resize(body.len().next_multiple_of(4), 0);
        self.0.extend((body.len() as u32).to_le_bytes());
        self.0.extend(body);
        at
    }

    /// A CIE with absolute addresses; returns its offset.
    fn cie(&mut self, augmentation: &str, instructions: &[u8]) -> usize {
        let mut body = vec![0, 0, 0, 0, 1];
        body.extend(augmentation.as_bytes());
        // Ends the string; code alignment 1, data alignment -8, return address in 16, 1 byte of augmentation: absptr.
        body.extend([0, 1, 0x78, 16, 1, 0]);
        body.extend(instructions);
        self.entry(body)
    }

    fn fde(&mut self, cie: usize, start: u64, length: u64, instructions: &[u8]) {
        let mut body = ((self.0.len() + 4 - cie) as u32).to_le_bytes().to_vec();
        body.extend(start.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.push(0);
        body.extend(instructions);
        self.entry(body);
    }

    fn read(&self) -> Result<(Vec<RawRow>, FrameStats), FrameError> {
        rows(&self.0, &EhFrame::new(&self.0, LittleEndian), &BaseAddresses::default(), &CODE)
    }

    fn rows(&self) -> Vec<(u64, Rule)> {
        self.read().unwrap().0.iter().map(|row| (row.address, row.rule)).collect()
    }
}

#[test]
fn every_row_of_real_files_means_what_gimli_says_it_means() {
    for path in gimli_rows::files() {
        let file = File::open(&path).unwrap();
        let frames = read(&file).unwrap();
        let gimli = gimli_rows::Frames::of(&file);
        let edges = gimli.row_edges();
        let visited = gimli.each(&edges, |address, row| {
            let rule = lookup(&frames.rows, address);
            assert!(row.agrees(rule, address), "{} {address:#x} {rule:?}", path.display());
        });
        assert!(visited * 100 > edges.len() * 99, "{}: {visited} of {}", path.display(), edges.len());
        assert!(
            frames
                .rows
                .windows(2)
                .all(|pair| { pair[0].address < pair[1].address && pair[0].rule != pair[1].rule })
        );
    }
}

#[test]
fn libc_has_its_signal_trampoline_and_its_outermost_frames() {
    let libc = File::open("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let frames = read(&libc).unwrap();
    let FrameStats { signal, stop, cfa_rsp, cfa_rbp, unsupported_return_address, .. } = frames.stats;
    assert_eq!(signal, 1);
    assert!(stop >= 1, "clone");
    assert!(cfa_rsp > 10_000 && cfa_rbp > 100);
    // vfork, between popping the return address and pushing it again.
    assert!((1..10).contains(&unsupported_return_address));
}

#[test]
fn a_file_without_section_headers_gives_the_same_rows() {
    let mut libc = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let whole = read(&libc.as_slice()).unwrap();
    // e_shoff, e_shnum and e_shstrndx.
    libc[0x28..0x30].fill(0);
    libc[0x3c..0x40].fill(0);
    let without = read(&libc.as_slice()).unwrap();
    assert_eq!(without.rows, whole.rows);
}

#[test]
fn code_between_fdes_has_no_rule() {
    let mut section = Section::default();
    let cie = section.cie("zR", &AT_ENTRY);
    section.fde(cie, 0x3000, 0x10, &[]);
    section.fde(cie, 0x1000, 0x10, &[0x44, 0x0e, 16]);
    assert_eq!(
        section.rows(),
        [(0x1000, rsp(8)), (0x1004, rsp(16)), (0x1010, Rule::NONE), (0x3000, rsp(8)), (0x3010, Rule::NONE)]
    );
}

#[test]
fn of_overlapping_fdes_the_first_wins_as_far_as_it_reaches() {
    let mut section = Section::default();
    let cie = section.cie("zR", &AT_ENTRY);
    section.fde(cie, 0x1000, 0x20, &[]);
    section.fde(cie, 0x1008, 0x28, &[0x0e, 24, 0x60, 0x0e, 32]);
    section.fde(cie, 0x1010, 0x08, &[0x0e, 40]);
    assert_eq!(
        section.rows(),
        [(0x1000, rsp(8)), (0x1020, rsp(24)), (0x1028, rsp(32)), (0x1030, Rule::NONE)]
    );
    assert_eq!(section.read().unwrap().1.fdes_overlapping, 2);
}

#[test]
fn what_follows_an_instruction_that_cannot_be_read_is_unsupported() {
    let mut section = Section::default();
    let cie = section.cie("zR", &AT_ENTRY);
    // 0x3f is no instruction.
    section.fde(cie, 0x1000, 0x20, &[0x44, 0x0e, 16, 0x44, 0x3f, 0x44, 0x0e, 8]);
    section.fde(cie, 0x1020, 0x10, &[]);
    assert_eq!(
        section.rows(),
        [
            (0x1000, rsp(8)),
            (0x1004, rsp(16)),
            (0x1008, Rule::UNSUPPORTED),
            (0x1020, rsp(8)),
            (0x1030, Rule::NONE)
        ]
    );
    assert_eq!(section.read().unwrap().1.unsupported_malformed, 1);
}

#[test]
fn what_a_rule_cannot_say_is_unsupported_and_counted_by_reason() {
    let mut section = Section::default();
    let cie = section.cie("zR", &AT_ENTRY);
    let cases: [&[u8]; 6] = [
        // CFA in r10.
        &[0x0c, 10, 0],
        // CFA offset of 2^31, then a save of rbp 2^16 below.
        &[0x0e, 0x80, 0x80, 0x80, 0x80, 0x08],
        &[0x86, 0x80, 0x40],
        // Return address at CFA - 16, and in a register.
        &[0x90, 2],
        &[0x09, 16, 3],
        // CFA by an expression: a constant.
        &[0x0f, 1, 0x30],
    ];
    for (index, instructions) in cases.into_iter().enumerate() {
        section.fde(cie, 0x1000 + index as u64 * 0x10, 0x10, instructions);
    }
    let (rows, stats) = section.read().unwrap();
    assert_eq!(rows.len(), 2, "{rows:x?}");
    assert_eq!(rows[0].rule, Rule::UNSUPPORTED);
    assert_eq!(stats.unsupported_cfa_register, 1);
    assert_eq!(stats.unsupported_offset, 2);
    assert_eq!(stats.unsupported_return_address, 2);
    assert_eq!(stats.unsupported_cfa_expression, 1);
}

#[test]
fn dereferences_and_saved_frame_pointers_become_rules() {
    let mut section = Section::default();
    let cie = section.cie("zR", &AT_ENTRY);
    let deref = |register: u8, fp: FpKind, offset| {
        Rule::new(if register == 7 { CfaKind::DerefRsp } else { CfaKind::DerefRbp }, fp, offset, -8, 1)
    };
    // *(rsp - 8) + 8; the same of rbp with rbp at rbp + 0; rbp lost; rbp by rsp + 8, which is CFA + 0.
    section.fde(cie, 0x1000, 0x10, &[0x0f, 5, 0x77, 0x78, 0x06, 0x23, 8]);
    section.fde(cie, 0x1010, 0x10, &[0x0f, 5, 0x76, 0x78, 0x06, 0x23, 8, 0x10, 6, 2, 0x76, 0]);
    section.fde(cie, 0x1020, 0x10, &[0x07, 6]);
    section.fde(cie, 0x1030, 0x10, &[0x10, 6, 2, 0x77, 8]);
    section.fde(cie, 0x1040, 0x10, &[0x07, 16]);
    assert_eq!(
        section.rows(),
        [
            (0x1000, deref(7, FpKind::Same, 0)),
            (0x1010, deref(6, FpKind::RbpOffset, 0)),
            (0x1020, Rule::new(CfaKind::Rsp, FpKind::Lost, 0, 8, 0)),
            (0x1030, Rule::new(CfaKind::Rsp, FpKind::CfaOffset, 0, 8, 0)),
            (0x1040, Rule::STOP),
            (0x1050, Rule::NONE)
        ]
    );
}

#[test]
fn only_a_marked_fde_that_finds_rsp_in_the_ucontext_is_a_signal_trampoline() {
    let mut section = Section::default();
    let plain = section.cie("zR", &AT_ENTRY);
    let marked = section.cie("zRS", &AT_ENTRY);
    // *(rsp + 160), the return address at rsp + 168.
    let trampoline = [0x0f, 4, 0x77, 0xa0, 0x01, 0x06, 0x10, 16, 3, 0x77, 0xa8, 0x01];
    section.fde(marked, 0x1000, 0x10, &trampoline);
    section.fde(plain, 0x1010, 0x10, &trampoline);
    section.fde(marked, 0x1020, 0x10, &[]);
    assert_eq!(
        section.rows(),
        [(0x1000, Rule::SIGNAL), (0x1010, Rule::UNSUPPORTED), (0x1020, rsp(8)), (0x1030, Rule::NONE)]
    );
}

#[test]
fn a_plt_has_its_rule_only_where_the_expression_is_exactly_the_linkers() {
    let mut section = Section::default();
    let cie = section.cie("zR", &AT_ENTRY);
    let plt = |constant| [0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, constant, 0x2a, 0x33, 0x24, 0x22];
    section.fde(cie, 0x1000, 0x10, &plt(0x3b));
    section.fde(cie, 0x1010, 0x10, &plt(0x35));
    section.fde(cie, 0x1020, 0x10, &plt(0x3a));
    assert_eq!(
        section.rows(),
        [(0x1000, Rule::PLT), (0x1010, Rule::UNSUPPORTED), (0x1020, Rule::PLT), (0x1030, Rule::NONE)]
    );
}

#[test]
fn fdes_outside_the_code_and_of_absurd_ranges_are_left_out() {
    let mut section = Section::default();
    let cie = section.cie("zR", &AT_ENTRY);
    for (start, length) in [(0, 0x10), (0x8ff0, 0x20), (0x1000, u64::MAX), (u64::MAX, 2), (0x1000, 0)] {
        section.fde(cie, start, length, &[]);
    }
    let (rows, stats) = section.read().unwrap();
    assert_eq!((rows.len(), stats.fdes, stats.fdes_outside), (0, 5, 5));
}

#[test]
fn a_cie_that_would_make_each_fde_costly_gives_no_rules() {
    let mut section = Section::default();
    let cie = section.cie("zR", &vec![0x0a; 100_000]);
    for index in 0..0x1000 {
        section.fde(cie, 0x1000 + index * 8, 8, &[]);
    }
    let (rows, stats) = section.read().unwrap();
    assert_eq!((rows.len(), stats.fdes_malformed), (0, 0x1000));
}

#[test]
fn rows_with_rules_for_more_registers_than_there_are_are_not_made() {
    // Each byte behind would copy them all.
    let rules =
        |registers: u8| -> Vec<u8> { (0..registers).flat_map(|register| [0x05, register, 2]).collect() };
    for (registers, malformed) in [(30, 0), (120, 1)] {
        let mut section = Section::default();
        let cie = section.cie("zR", &AT_ENTRY);
        section.fde(cie, 0x1000, 0x20, &[rules(registers), [0x0a, 0x0b].repeat(1000)].concat());
        assert_eq!(section.read().unwrap().1.unsupported_malformed, malformed, "{registers}");
    }
}

#[test]
fn cies_are_run_so_often_and_no_more() {
    let mut section = Section::default();
    let cie = section.cie("zR", &[0; 480]);
    for _ in 0..MAX_CIE_BYTES_RUN / 480 {
        section.fde(cie, 0x1000, 1, &[]);
    }
    // Those that overlap are not.
    assert!(section.read().is_ok());
    let mut section = Section::default();
    let cie = section.cie("zR", &[0; 480]);
    for index in 0..MAX_CIE_BYTES_RUN as u64 / 480 {
        section.fde(cie, 0x1000 + index, 1, &[]);
    }
    let code = [Code { start: 0x1000, end: 0x1000_0000, offset: 0 }];
    let frames = EhFrame::new(&section.0, LittleEndian);
    let error = rows(&section.0, &frames, &BaseAddresses::default(), &code).expect_err("too many");
    assert!(matches!(error, FrameError::TooMany { what: "bytes of CIEs", .. }), "{error}");
}

#[test]
fn debug_frame_serves_where_there_is_no_eh_frame() {
    let mut bytes = Vec::new();
    let mut entry = |body: &[u8]| {
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
    };
    entry(&[&[0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0x78, 16][..], &AT_ENTRY].concat());
    entry(&[&[0; 4][..], &0x1000u64.to_le_bytes(), &0x10u64.to_le_bytes(), &[0x44, 0x0e, 16]].concat());
    let section = DebugFrame::new(&bytes, LittleEndian);
    let (rows, _) = rows(&bytes, &section, &BaseAddresses::default(), &CODE).unwrap();
    let expected = [(0x1000, rsp(8)), (0x1004, rsp(16)), (0x1010, Rule::NONE)];
    assert_eq!(rows, expected.map(|(address, rule)| RawRow { address, rule }));
}

#[test]
fn an_image_that_is_no_elf_file_or_has_no_unwind_information_is_an_error() {
    assert!(matches!(read(&&b"#!/bin/sh"[..]), Err(FrameError::Elf(_))));
    assert!(matches!(read(&&b""[..]), Err(FrameError::Elf(_))));
    let elf =
        crate::fixtures::test_elf::TestElf { exported: vec![("malloc", &[0xc3])], ..Default::default() };
    assert!(matches!(read(&elf.build().as_slice()), Err(FrameError::NoFrames)));
}

/// libc's unwind information, and what it is about.
static LIBC: LazyLock<Located> =
    LazyLock::new(|| locate(&File::open("/lib/x86_64-linux-gnu/libc.so.6").unwrap()).unwrap());

fn read_libc(bytes: &[u8]) -> Result<(Vec<RawRow>, FrameStats), FrameError> {
    let mut section = EhFrame::new(bytes, LittleEndian);
    section.set_address_size(8);
    rows(bytes, &section, &LIBC.bases, &LIBC.code)
}

fn check_shape(rows: &[RawRow]) {
    assert!(rows.windows(2).all(|pair| pair[0].address < pair[1].address && pair[0].rule != pair[1].rule));
    assert!(rows.last().is_none_or(|last| last.rule == Rule::NONE));
    assert!(rows.iter().all(|row| LIBC.code.iter().any(|c| c.start <= row.address && row.address <= c.end)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_unwind_information_gives_an_error_or_rows_in_order(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        first in 0usize..4000,
    ) {
        let mut bytes = LIBC.bytes.clone();
        for (at, byte) in damage {
            // Much of it where the first CIEs are, which all others refer to.
            let within = if byte % 2 == 0 { bytes.len() } else { first + 64 };
            let at = at.index(within);
            bytes[at] = byte;
        }
        if let Ok((rows, _)) = read_libc(&bytes) {
            check_shape(&rows);
        }
    }

    #[test]
    fn truncated_unwind_information_keeps_the_rows_before_the_cut(cut in any::<prop::sample::Index>()) {
        let cut = cut.index(LIBC.bytes.len());
        let whole = read_libc(&LIBC.bytes).unwrap().0;
        let Ok((rows, stats)) = read_libc(&LIBC.bytes[..cut]) else { return Ok(()) };
        check_shape(&rows);
        // Nothing that is there contradicts the whole.
        for row in rows.iter().filter(|row| row.rule != Rule::NONE) {
            prop_assert_eq!(lookup(&whole, row.address), row.rule);
        }
        let fdes = read_libc(&LIBC.bytes).unwrap().1.fdes;
        prop_assert!(stats.fdes <= fdes);
    }

    #[test]
    fn a_damaged_file_gives_an_error_or_rows_in_order(
        damage in prop::collection::vec((0usize..1024, any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        static FILE: LazyLock<Vec<u8>> =
            LazyLock::new(|| std::fs::read("/lib64/ld-linux-x86-64.so.2").unwrap());
        let mut bytes = FILE.clone();
        // The headers are at the beginning, those of the sections at the end.
        for (at, byte) in damage {
            let at = if byte % 4 == 0 { bytes.len() - 1 - at } else { at };
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(FILE.len()));
        }
        if let Ok(table) = crate::unwind::FileTable::of(&bytes.as_slice(), crate::unwind::RowKind::Calls) {
            prop_assert!(table.pages().len() as u64 <= crate::unwind::table::MAX_PAGES);
        }
    }
}

#[test]
fn code_at_the_entry_that_no_fde_describes_is_outermost() {
    let code = [Code { start: 0x1000, end: 0x2000, offset: 0 }];
    let rule = Rule::new(CfaKind::Rsp, FpKind::Same, 0, 8, 0);
    let row = |address, rule| RawRow { address, rule };
    let described =
        vec![row(0x1100, rule), row(0x1200, Rule::NONE), row(0x1234, rule), row(0x1800, Rule::NONE)];
    let marked = |entry| {
        let mut rows = described.clone();
        mark_entry(&mut rows, &code, entry);
        rows
    };
    // In a gap; where one begins; in front of all rows; past all; described; outside.
    let gap = marked(0x1204);
    assert_eq!(gap[2..4], [row(0x1204, Rule::STOP), row(0x1234, rule)]);
    assert_eq!(marked(0x1200)[1..3], [row(0x1200, Rule::STOP), row(0x1234, rule)]);
    let front = marked(0x1010);
    assert_eq!(front[..3], [row(0x1010, Rule::STOP), row(0x1100, rule), row(0x1200, Rule::NONE)]);
    let past = marked(0x1900);
    assert_eq!(past[4..], [row(0x1900, Rule::STOP), row(0x1a00, Rule::NONE)]);
    for elsewhere in [0, 0x1100, 0x17ff, 0x2000, u64::MAX] {
        assert_eq!(marked(elsewhere), described, "{elsewhere:#x}");
    }
}
