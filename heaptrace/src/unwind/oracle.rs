//! What tests hold rules against: gimli's rows, carried out on made-up registers and memory.

use super::image::Image;
use super::locate::{Located, locate};
use super::rule::Slice;
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, Encoding, EvaluationResult, FrameDescriptionEntry,
    LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection as _,
    UnwindTableRow, Value, X86_64,
};
use heaptrace_common::unwind::{CfaKind, FpKind, Rule};
use std::path::PathBuf;

/// Files with all that compilers and assemblers write; the test's own executable is Rust's.
pub fn files() -> Vec<PathBuf> {
    let libraries = ["libc.so.6", "libstdc++.so.6", "ld-linux-x86-64.so.2", "libcrypto.so.3"];
    let folders = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"];
    let library = |name| folders.iter().map(|f| PathBuf::from(f).join(name)).find(|path| path.exists());
    let mut files: Vec<PathBuf> = libraries.into_iter().filter_map(library).collect();
    files
        .extend(["/usr/bin/python3", "/proc/self/exe"].map(PathBuf::from).into_iter().filter(|p| p.exists()));
    assert!(files.len() >= 2, "libc and the test itself are everywhere: {files:?}");
    files
}

/// The `.eh_frame` of an image, for going through it independently.
pub struct Frames {
    located: Located,
}

impl Frames {
    pub fn of(image: &dyn Image) -> Self {
        Self { located: locate(image).unwrap() }
    }

    /// Calls `visit` with the row of gimli for each of the sorted `addresses` in FDEs that overlap no other; returns
    /// how many there were.
    pub fn each(&self, addresses: &[u64], mut visit: impl FnMut(u64, &GimliRow<'_, '_>)) -> usize {
        let section = EhFrame::new(&self.located.bytes, LittleEndian);
        let fdes = self.fdes(&section);
        let mut context = UnwindContext::new();
        let mut visited = 0;
        for (index, fde) in fdes.iter().enumerate() {
            let before = index.checked_sub(1).map(|index| &fdes[index]);
            let after = fdes.get(index + 1);
            if before.is_some_and(|other| other.end_address() > fde.initial_address())
                || after.is_some_and(|other| other.initial_address() < fde.end_address())
            {
                continue;
            }
            let first = addresses.partition_point(|address| *address < fde.initial_address());
            let mut inside =
                addresses[first..].iter().take_while(|address| fde.contains(**address)).peekable();
            let mut table = fde.rows(&section, &self.located.bases, &mut context).unwrap();
            while let Some(row) = table.next_row().unwrap() {
                while let Some(address) = inside.next_if(|address| row.contains(**address)) {
                    visited += 1;
                    visit(*address, &GimliRow { section: &section, fde, row });
                }
            }
        }
        visited
    }

    /// First and last address of every row.
    pub fn row_edges(&self) -> Vec<u64> {
        let section = EhFrame::new(&self.located.bytes, LittleEndian);
        let mut context = UnwindContext::new();
        let mut edges = Vec::new();
        for fde in self.fdes(&section) {
            let mut table = fde.rows(&section, &self.located.bases, &mut context).unwrap();
            while let Some(row) = table.next_row().unwrap() {
                if row.start_address() < row.end_address() {
                    edges.extend([row.start_address(), row.end_address() - 1]);
                }
            }
        }
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    /// Start and end of every FDE.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let section = EhFrame::new(&self.located.bytes, LittleEndian);
        self.fdes(&section).iter().map(|fde| (fde.initial_address(), fde.end_address())).collect()
    }

    fn fdes<'a>(&self, section: &EhFrame<Slice<'a>>) -> Vec<FrameDescriptionEntry<Slice<'a>>> {
        let bases: &BaseAddresses = &self.located.bases;
        let mut fdes: Vec<_> = section
            .entries(bases)
            .filter_map(|entry| match entry.unwrap() {
                CieOrFde::Cie(_) => None,
                CieOrFde::Fde(partial) => Some(partial.parse(EhFrame::cie_from_offset).unwrap()),
            })
            .filter(|fde| {
                let code = &self.located.code;
                code.iter().any(|part| part.start <= fde.initial_address() && fde.end_address() <= part.end)
            })
            .collect();
        fdes.sort_by_key(FrameDescriptionEntry::initial_address);
        fdes
    }
}

/// A row of gimli's.
pub struct GimliRow<'r, 'a> {
    section: &'r EhFrame<Slice<'a>>,
    fde: &'r FrameDescriptionEntry<Slice<'a>>,
    row: &'r UnwindTableRow<usize>,
}

const RSP: u64 = 0x7fff_1234_5670;
const RBP: u64 = 0x7fff_1234_6780;

/// Memory that differs everywhere.
fn memory(address: u64) -> u64 {
    (address ^ 0x5555).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A caller's frame: rsp (the CFA), where its pc is saved, and its rbp.
#[derive(Debug, PartialEq, Eq)]
struct Caller {
    cfa: u64,
    pc_at: u64,
    rbp: Option<u64>,
}

impl GimliRow<'_, '_> {
    /// Whether `rule` does at `pc` what the row says, or says truly that it cannot.
    pub fn agrees(&self, rule: Rule, pc: u64) -> bool {
        let return_address = self.row.register(X86_64::RA);
        let kind = rule.cfa_kind();
        if kind == CfaKind::Stop as u64 || return_address == Some(RegisterRule::Undefined) {
            return kind == CfaKind::Stop as u64 && return_address == Some(RegisterRule::Undefined);
        }
        let by_row = self.carry_out(pc);
        if kind == CfaKind::Unsupported as u64 {
            return !self.is_plain();
        }
        let by_rule = carry_out(rule, pc);
        if rule.fp_kind() == FpKind::Lost as u64 {
            let plain = matches!(
                self.row.register(X86_64::RBP),
                None | Some(RegisterRule::SameValue | RegisterRule::Offset(_))
            );
            return !plain && by_rule.cfa == by_row.cfa && by_rule.pc_at == by_row.pc_at;
        }
        by_rule == by_row
    }

    fn is_plain(&self) -> bool {
        matches!(self.row.cfa(), CfaRule::RegisterAndOffset { register: X86_64::RSP | X86_64::RBP, .. })
            && self.row.register(X86_64::RA) == Some(RegisterRule::Offset(-8))
    }

    fn carry_out(&self, pc: u64) -> Caller {
        let cfa = match self.row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                value_of(*register, pc).wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None, pc),
        };
        let place = |register| match self.row.register(register) {
            Some(RegisterRule::Offset(offset)) => Some(cfa.wrapping_add_signed(offset)),
            Some(RegisterRule::Expression(expression)) => Some(self.evaluate(&expression, Some(cfa), pc)),
            _ => None,
        };
        let rbp = match self.row.register(X86_64::RBP) {
            None | Some(RegisterRule::SameValue) => Some(RBP),
            _ => place(X86_64::RBP).map(memory),
        };
        Caller { cfa, pc_at: place(X86_64::RA).unwrap_or_default(), rbp }
    }

    fn evaluate(&self, expression: &UnwindExpression<usize>, cfa: Option<u64>, pc: u64) -> u64 {
        let encoding: Encoding = self.fde.cie().encoding();
        let mut evaluation = expression.get(self.section).unwrap().evaluation(encoding);
        if let Some(cfa) = cfa {
            evaluation.set_initial_value(cfa);
        }
        let mut state = evaluation.evaluate().unwrap();
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(value_of(register, pc))).unwrap()
                }
                EvaluationResult::RequiresMemory { address, .. } => {
                    evaluation.resume_with_memory(Value::Generic(memory(address))).unwrap()
                }
                other => panic!("{other:?}"),
            };
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => address,
                ref other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn value_of(register: Register, pc: u64) -> u64 {
    match register {
        X86_64::RSP => RSP,
        X86_64::RBP => RBP,
        X86_64::RA => pc,
        other => u64::from(other.0) << 32,
    }
}

/// Carries out a rule as the format's documentation says.
fn carry_out(rule: Rule, pc: u64) -> Caller {
    let offset = rule.cfa_offset();
    let cfa = match rule.cfa_kind() {
        kind if kind == CfaKind::Rsp as u64 => RSP.wrapping_add_signed(offset),
        kind if kind == CfaKind::Rbp as u64 => RBP.wrapping_add_signed(offset),
        kind if kind == CfaKind::DerefRsp as u64 => {
            memory(RSP.wrapping_add_signed(offset)).wrapping_add(rule.add())
        }
        kind if kind == CfaKind::DerefRbp as u64 => {
            memory(RBP.wrapping_add_signed(offset)).wrapping_add(rule.add())
        }
        kind if kind == CfaKind::Plt as u64 => RSP + 8 + if pc & 15 >= 11 { 8 } else { 0 },
        kind if kind == CfaKind::Signal as u64 => {
            return Caller { cfa: memory(RSP + 160), pc_at: RSP + 168, rbp: Some(memory(RSP + 120)) };
        }
        _ => 0,
    };
    let rbp = match rule.fp_kind() {
        kind if kind == FpKind::Same as u64 => Some(RBP),
        kind if kind == FpKind::CfaOffset as u64 => Some(memory(cfa.wrapping_add_signed(rule.fp_offset()))),
        kind if kind == FpKind::RbpOffset as u64 => Some(memory(RBP.wrapping_add_signed(rule.fp_offset()))),
        _ => None,
    };
    Caller { cfa, pc_at: cfa.wrapping_sub(8), rbp }
}
