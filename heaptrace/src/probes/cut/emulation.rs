//! What the kernel does with a probe on an instruction: emulate it in the same trap, single-step it in a second one, or
//! refuse it. arch/x86/kernel/uprobes.c: `branch_setup_xol_ops`, `push_setup_xol_ops`, `is_prefix_bad`,
//! `good_insns_64`.

use crate::process::kernel_version::KernelVersion;
use iced_x86::{Code, FlowControl, Instruction};
use serde::{Deserialize, Serialize};

/// What the running kernel emulates beside jumps and the one-byte nop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Emulation {
    /// `push` of a register: since Linux 4.20.
    pub push: bool,
    /// Nops of several bytes: since Linux 6.16.
    pub long_nops: bool,
}

impl Emulation {
    /// What every kernel that is traced on emulates.
    pub const SURE: Self = Self { push: true, long_nops: false };

    /// The running kernel's.
    pub fn running() -> Self {
        let kernel = KernelVersion::running().unwrap_or(KernelVersion::new(0, 0, 0));
        Self {
            push: kernel >= KernelVersion::new(4, 20, 0),
            long_nops: kernel >= KernelVersion::new(6, 16, 0),
        }
    }
}

/// What the kernel does with a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    Emulated,
    SingleStepped,
    Refused,
}

/// What a probe on `instruction`, whose bytes are `bytes`, comes to. Whatever is not certainly emulated is taken
/// for single-stepped.
pub fn treatment(bytes: &[u8], instruction: &Instruction, emulation: Emulation) -> Treatment {
    let opcode_at = bytes.iter().position(|byte| !is_legacy_prefix(*byte)).unwrap_or(bytes.len());
    let (prefixes, rest) = bytes.split_at(opcode_at);
    // is_prefix_bad(): segment overrides but fs and gs, and lock.
    let bad = prefixes.iter().any(|prefix| matches!(prefix, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0));
    if bad || bytes.is_empty() {
        return Treatment::Refused;
    }
    let branch = if prefixes.contains(&0x66) {
        Treatment::Refused
    } else if prefixes.iter().all(|prefix| *prefix == 0xf2) {
        Treatment::Emulated
    } else {
        Treatment::SingleStepped
    };
    match *rest {
        [0x50..=0x57] | [0x41, 0x50..=0x57] if prefixes.is_empty() && emulation.push => Treatment::Emulated,
        // `nop`; with prefixes it may be `pause` or `xchg r8, rax`.
        [0x90] if prefixes.is_empty() => Treatment::Emulated,
        [0x90] if prefixes.contains(&0x66) => Treatment::Refused,
        // Only those that 6.16 and 6.18 agree on: of the canonical forms, without prefixes.
        [0x0f, 0x1f, ..] if prefixes.is_empty() && emulation.long_nops => Treatment::Emulated,
        [0xe8 | 0xe9, _, _, _, _] | [0xeb | 0x70..=0x7f, _] | [0x0f, 0x80..=0x8f, _, _, _, _] => branch,
        _ if is_refused(instruction) => Treatment::Refused,
        _ => Treatment::SingleStepped,
    }
}

/// Whether a probe may lie on an instruction behind the entry, apart from what the kernel does with it. Never on a
/// call: emulated ones leave a user shadow stack alone before a late fix. Of nops only the shortest: since Linux 6.18
/// a probe on the one of five bytes becomes a call, which overwrites what lies below the stack pointer.
pub fn is_fit(instruction: &Instruction) -> bool {
    let is_nop = is_long_nop(instruction);
    !matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) && !is_nop
}

/// A nop of more than one byte.
fn is_long_nop(instruction: &Instruction) -> bool {
    use Code::{Nop_rm16, Nop_rm32, Nop_rm64, Nopd, Nopq, Nopw};
    let is_nop = matches!(instruction.code(), Nop_rm16 | Nop_rm32 | Nop_rm64 | Nopw | Nopd | Nopq);
    is_nop && instruction.len() > 1
}

fn is_legacy_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Instructions that `good_insns_64` and `good_2byte_insns` leave out, as far as an allocator could hold them:
/// privileged ones, traps and system calls; and, though they are stepped well, what repeats itself or ends a
/// transaction.
fn is_refused(instruction: &Instruction) -> bool {
    instruction.is_privileged()
        || matches!(instruction.flow_control(), FlowControl::Interrupt | FlowControl::Exception)
        || matches!(instruction.code(), Code::Syscall | Code::Sysenter | Code::INVALID)
}
