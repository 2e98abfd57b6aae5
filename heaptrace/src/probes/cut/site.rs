//! Where in a function to put its probe, decided from the function's bytes alone.
//!
//! A uprobe on an instruction that the kernel emulates costs one trap; on any other it costs a second one, for
//! the single step. So the first
//! emulated instruction is taken that every relevant path runs through exactly once, with the arguments still
//! in their registers and the caller's frame still to be found.

use super::emulation::{Emulation, Treatment, treatment};
use heaptrace_common::function::Shape;
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};
use std::fmt;

/// Where a function's probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Bytes from the function's entry; always the start of an instruction.
    pub offset: u32,
    /// Bytes by which the stack pointer is lower at the site than at the entry (the return address is at
    /// `[rsp + pushed]`); 0 for every shape that needs its return value.
    pub pushed: u16,
    /// Whether the kernel emulates the instruction (one trap) or single-steps it (two).
    pub emulated: bool,
    /// Why here.
    pub why: Why,
}

/// Why a site was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The entry, which is emulated.
    Entry,
    /// The first emulated instruction of the straight-line prologue.
    Prologue,
    /// Past the NULL check of a free: emulated, and never hit by `free(NULL)`.
    PastNullCheck,
    /// The entry, single-stepped: no emulated instruction before the arguments, the stack or the control flow
    /// change.
    NothingEmulated,
    /// Not the entry, which the kernel refuses to probe; single-stepped.
    EntryRefused,
    /// The kernel refuses every instruction that would do; a probe cannot be attached.
    Unprobeable,
}

impl Why {
    /// Whether a probe can be attached at all.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Unprobeable)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entry => "entry, emulated by the kernel",
            Self::Prologue => "first emulated instruction of the prologue",
            Self::PastNullCheck => "past the NULL check, emulated by the kernel",
            Self::NothingEmulated => "entry, single-stepped: no emulated instruction could stand in for it",
            Self::EntryRefused => "the kernel refuses to probe the entry; single-stepped",
            Self::Unprobeable => "the kernel refuses to probe this code",
        })
    }
}

/// Registers that must hold the caller's values at the site, so that the caller's frame can be unwound from it.
const CALLEE_SAVED: [Register; 6] =
    [Register::RBP, Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];

/// Chooses the probe site of the function whose bytes are `code` (its whole body where that is known: branches
/// back into the prologue are looked for in all of it).
pub fn choose(code: &[u8], shape: Shape) -> Site {
    let instructions = decode(code);
    let limit = lowest_inner_target(&instructions, code.len() as u64);
    let mut found = Found::default();
    let mut walk = Walk { shape, pushed: 0, past_null_check: false, info: InstructionInfoFactory::new() };
    let mut previous: Option<&Instruction> = None;
    for instruction in &instructions {
        if instruction.ip() >= limit || instruction.is_invalid() {
            break;
        }
        let start = instruction.ip() as usize;
        let bytes = code.get(start..start + instruction.len()).unwrap_or_default();
        found.note(&walk, instruction, treatment(bytes, instruction, Emulation::SURE));
        if !walk.step(previous, instruction) {
            break;
        }
        previous = Some(instruction);
    }
    found.best()
}

/// The function's instructions by linear sweep. Data between them decodes to something: at worst that adds a
/// branch target, which makes the choice more careful.
fn decode(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter().collect()
}

/// The lowest offset past the entry that a branch of the function jumps to: from there on an instruction may
/// run more than once in a call, or on some paths only.
fn lowest_inner_target(instructions: &[Instruction], len: u64) -> u64 {
    let is_branch = |i: &&Instruction| {
        matches!(i.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32 | OpKind::NearBranch16)
    };
    let branches = instructions.iter().filter(|i| !i.is_invalid()).filter(is_branch);
    let targets = branches.map(Instruction::near_branch_target);
    targets.filter(|target| (1..len).contains(target)).min().unwrap_or(len)
}

/// The candidates seen on the way.
#[derive(Default)]
struct Found {
    entry: Option<Treatment>,
    prologue: Option<Site>,
    past_null_check: Option<Site>,
    single_stepped: Option<Site>,
}

impl Found {
    fn note(&mut self, walk: &Walk, instruction: &Instruction, treatment: Treatment) {
        let offset = instruction.ip() as u32;
        if offset == 0 {
            self.entry = Some(treatment);
        }
        let site =
            |why| Site { offset, pushed: walk.pushed, emulated: treatment == Treatment::Emulated, why };
        match treatment {
            Treatment::Emulated if walk.past_null_check => {
                self.past_null_check.get_or_insert(site(Why::PastNullCheck));
            }
            Treatment::Emulated => {
                let why = if offset == 0 { Why::Entry } else { Why::Prologue };
                self.prologue.get_or_insert(site(why));
            }
            Treatment::SingleStepped if offset > 0 => {
                self.single_stepped.get_or_insert(site(Why::EntryRefused));
            }
            Treatment::SingleStepped | Treatment::Refused => {}
        }
    }

    fn best(self) -> Site {
        let entry = |why| Site { offset: 0, pushed: 0, emulated: false, why };
        let emulated = self.past_null_check.or(self.prologue);
        match self.entry {
            Some(Treatment::Refused) => {
                emulated.or(self.single_stepped).unwrap_or_else(|| entry(Why::Unprobeable))
            }
            Some(_) => emulated.unwrap_or_else(|| entry(Why::NothingEmulated)),
            None => entry(Why::Unprobeable),
        }
    }
}

/// The state of the machine before an instruction, as far as it matters.
struct Walk {
    shape: Shape,
    pushed: u16,
    past_null_check: bool,
    info: InstructionInfoFactory,
}

impl Walk {
    /// Goes past `instruction`. False if nothing behind it can be a site.
    fn step(&mut self, previous: Option<&Instruction>, instruction: &Instruction) -> bool {
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::ConditionalBranch => {
                let checks_null = previous.is_some_and(tests_rdi)
                    && matches!(instruction.mnemonic(), Mnemonic::Je)
                    && self.shape == Shape::Free0;
                self.past_null_check |= checks_null;
                return checks_null;
            }
            _ => return false,
        }
        let kept = self.adjust_stack(instruction);
        kept && !self.clobbers(instruction)
    }

    /// Follows the stack pointer. False if it is lost, or moved although the shape needs it at the return
    /// address.
    fn adjust_stack(&mut self, instruction: &Instruction) -> bool {
        let moves = instruction.stack_pointer_increment();
        let writes_rsp = moves != 0
            || matches!(instruction.op0_register().full_register(), Register::RSP)
                && !only_reads(instruction);
        if !writes_rsp {
            return true;
        }
        if self.shape.allocates() {
            return false;
        }
        let lowered = match instruction.mnemonic() {
            Mnemonic::Push => i64::from(-moves),
            Mnemonic::Sub if instruction.op0_register() == Register::RSP && is_immediate(instruction) => {
                instruction.immediate(1) as i64
            }
            _ => return false,
        };
        let pushed = u16::try_from(lowered).ok().and_then(|lowered| self.pushed.checked_add(lowered));
        pushed.map(|pushed| self.pushed = pushed).is_some()
    }

    /// Whether `instruction` changes an argument register, or one that the caller's frame is found by.
    fn clobbers(&mut self, instruction: &Instruction) -> bool {
        let arguments = [Register::RDI, Register::RSI, Register::RDX, Register::RCX];
        let arguments = &arguments[..usize::from(self.shape.arguments())];
        writes(&mut self.info, instruction, arguments) || writes(&mut self.info, instruction, &CALLEE_SAVED)
    }
}

/// Whether `instruction` changes any of `registers`, or a part of one.
pub fn writes(info: &mut InstructionInfoFactory, instruction: &Instruction, registers: &[Register]) -> bool {
    info.info(instruction).used_registers().iter().any(|used| {
        let reads_only = [OpAccess::None, OpAccess::Read, OpAccess::CondRead, OpAccess::NoMemAccess];
        !reads_only.contains(&used.access()) && registers.contains(&used.register().full_register())
    })
}

fn only_reads(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Bt)
}

fn is_immediate(instruction: &Instruction) -> bool {
    matches!(instruction.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64)
}

/// `test rdi, rdi` or `cmp rdi, 0`.
pub fn tests_rdi(instruction: &Instruction) -> bool {
    if instruction.op0_register() != Register::RDI {
        return false;
    }
    match instruction.mnemonic() {
        Mnemonic::Test => instruction.op1_register() == Register::RDI,
        Mnemonic::Cmp => is_immediate(instruction) && instruction.immediate(1) == 0,
        _ => false,
    }
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
