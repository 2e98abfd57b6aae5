//! One row of call frame information as a `Rule`, or the reason why the format cannot express it.

use crate::process::cfi::Storage;
use gimli::{
    CfaRule, Encoding, EndianSlice, LittleEndian, Operation, Register, RegisterRule, UnwindExpression,
    UnwindSection, UnwindTableRow, X86_64,
};
use heaptrace_common::unwind::{CfaKind, FpKind, Rule};

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Why a row has no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// The CFA hangs on a register other than rsp and rbp (stack realignment keeps it in r10 for a moment).
    CfaRegister,
    /// A CFA expression of another form.
    CfaExpression,
    /// The return address is not at CFA - 8.
    ReturnAddress,
    /// An offset or addend that the rule has no room for.
    Offset,
    /// The instructions that make the row cannot be understood.
    Malformed,
}

/// The CFA's rule, without what it means for rbp.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cfa {
    kind: CfaKind,
    offset: i64,
    add: u64,
}

/// Translates one row of an FDE. `signal` tells that the FDE is marked as a signal handler's caller.
pub fn rule<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    encoding: Encoding,
    row: &UnwindTableRow<usize, Storage>,
    signal: bool,
) -> Result<Rule, Unsupported> {
    // The outermost frame, whatever else the row says.
    if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        return Ok(Rule::STOP);
    }
    let cfa = cfa(section, encoding, row.cfa())?;
    // Not every FDE with the mark is the trampoline; the trampoline takes rsp from the ucontext at rsp.
    if signal && cfa == (Cfa { kind: CfaKind::DerefRsp, offset: UCONTEXT_RSP, add: 0 }) {
        return Ok(Rule::SIGNAL);
    }
    if row.register(X86_64::RA) != Some(RegisterRule::Offset(-8)) {
        return Err(Unsupported::ReturnAddress);
    }
    if cfa.kind == CfaKind::Plt {
        return Ok(Rule::PLT);
    }
    let (fp, fp_offset) = fp(section, encoding, row.register(X86_64::RBP), cfa);
    let offset = i32::try_from(cfa.offset).map_err(|_| Unsupported::Offset)?;
    let fp_offset = i16::try_from(fp_offset).map_err(|_| Unsupported::Offset)?;
    let add = u8::try_from(cfa.add / 8).map_err(|_| Unsupported::Offset)?;
    if cfa.add % 8 != 0 {
        return Err(Unsupported::Offset);
    }
    Ok(Rule::new(cfa.kind, fp, fp_offset, offset, add))
}

/// Offset of the interrupted rsp in a `ucontext`: uc_mcontext at 40, REG_RSP (15) of 8 bytes in it.
const UCONTEXT_RSP: i64 = 160;

fn cfa<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    encoding: Encoding,
    rule: &CfaRule<usize>,
) -> Result<Cfa, Unsupported> {
    match rule {
        CfaRule::RegisterAndOffset { register, offset } => {
            let kind = match *register {
                X86_64::RSP => CfaKind::Rsp,
                X86_64::RBP => CfaKind::Rbp,
                _ => return Err(Unsupported::CfaRegister),
            };
            Ok(Cfa { kind, offset: *offset, add: 0 })
        }
        CfaRule::Expression(expression) => {
            let bytes = expression.get(section).map_err(|_| Unsupported::Malformed)?.0;
            if is_plt(bytes.slice()) {
                return Ok(Cfa { kind: CfaKind::Plt, offset: 0, add: 0 });
            }
            dereference(section, encoding, expression).ok_or(Unsupported::CfaExpression)
        }
    }
}

/// What GNU ld, gold and lld write for a PLT: `rsp + 8 + ((rip & 15) >= 11) * 8`. With IBT the constant is 10:
/// the same thing, because no instruction of such an entry begins at byte 10.
fn is_plt(expression: &[u8]) -> bool {
    matches!(expression, [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3a | 0x3b, 0x2a, 0x33, 0x24, 0x22])
}

/// `*(register + offset)`, and perhaps a constant added.
fn dereference<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    encoding: Encoding,
    expression: &UnwindExpression<usize>,
) -> Option<Cfa> {
    let mut operations = expression.get(section).ok()?.operations(encoding);
    let (register, offset) = register_offset(operations.next().ok()??)?;
    match operations.next().ok()?? {
        Operation::Deref { size: 8, space: false, .. } => {}
        _ => return None,
    }
    let add = match operations.next().ok()? {
        None => 0,
        Some(Operation::PlusConstant { value }) if operations.next().ok()?.is_none() => value,
        Some(_) => return None,
    };
    let kind = match register {
        X86_64::RSP => CfaKind::DerefRsp,
        X86_64::RBP => CfaKind::DerefRbp,
        _ => return None,
    };
    Some(Cfa { kind, offset, add })
}

fn register_offset<R: gimli::Reader>(operation: Operation<R>) -> Option<(Register, i64)> {
    match operation {
        Operation::RegisterOffset { register, offset, .. } => Some((register, offset)),
        _ => None,
    }
}

/// The caller's rbp. What cannot be expressed is lost, which ends only those walks that need it.
fn fp<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    encoding: Encoding,
    rule: Option<RegisterRule<usize>>,
    cfa: Cfa,
) -> (FpKind, i64) {
    match rule {
        // Without a rule the ABI's applies: the callee keeps it.
        None | Some(RegisterRule::SameValue) => (FpKind::Same, 0),
        Some(RegisterRule::Offset(offset)) => (FpKind::CfaOffset, offset),
        Some(RegisterRule::Expression(expression)) => {
            let place = expression.get(section).ok().and_then(|expression| {
                let mut operations = expression.operations(encoding);
                let place = register_offset(operations.next().ok()??)?;
                operations.next().ok()?.is_none().then_some(place)
            });
            match place {
                Some((X86_64::RBP, offset)) => (FpKind::RbpOffset, offset),
                Some((X86_64::RSP, offset)) if cfa.kind == CfaKind::Rsp => {
                    (FpKind::CfaOffset, offset.wrapping_sub(cfa.offset))
                }
                _ => (FpKind::Lost, 0),
            }
        }
        Some(_) => (FpKind::Lost, 0),
    }
}
