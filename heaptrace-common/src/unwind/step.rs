//! One step of a walk: from a frame's registers to its caller's, by the tables' rule, else by frame pointer.
//!
//! Runs in the kernel and, for its tests, on the host: no panic, no indexing.

use super::{
    CfaKind, FpKind, Rule, UnwindMapping,
    lookup::{Found, Tables, find},
};
use crate::stack::StackEnd;

/// The page where uretprobes make functions return to: the highest one that mmap gives out below 2^47
/// (`xol_add_vma`, kernel/events/uprobes.c). No program's own code is there or above.
pub const TRAMPOLINE: u64 = 0x7fff_ffff_e000;

/// A frame this far above the last one is no frame: perf's limit for one function's locals.
const FARTHEST: u64 = 1 << 20;

/// Where rbp is saved if its value is lost.
pub const LOST: u64 = u64::MAX;

/// Offsets in the kernel's signal frame, from the `ucontext` that rsp points at in the trampoline
/// (arch/x86/include/uapi/asm/sigcontext.h).
const SIGNAL_RBP: u64 = 120;
const SIGNAL_RSP: u64 = 160;
const SIGNAL_RIP: u64 = 168;

/// `syscall`, little-endian.
const SYSCALL: u16 = 0x050f;

/// The user memory of the process.
pub trait Memory {
    /// 8 bytes at an address that is a multiple of 8.
    fn read(&mut self, address: u64) -> Option<u64>;
    /// 2 bytes of code; 0 if they cannot be read. No `Option`, whose content LLVM carries along though there is none:
    /// stack that was never written, which kernels before 6.3 refuse to have read.
    fn read_code(&mut self, address: u64) -> u16;
    /// The address that the return address at `slot` of the stack was before a return probe replaced it.
    fn replaced_return(&mut self, slot: u64) -> Option<u64>;
}

/// A frame's registers. `pc` is a return address: its call ends there. Where no call was under way (`interrupted`), it
/// is the address of the next instruction plus one, so that whoever looks it up minus one finds that instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub pc: u64,
    pub sp: u64,
    pub bp: u64,
    /// Where rbp was saved, until someone needs it: most rules do not. 0: `bp` is it.
    pub bp_at: u64,
    /// 1: see above; only exact rows tell the rule.
    interrupted: u64,
    /// 1: rbp is still that of the walk's first frame.
    bp_is_first: u64,
    /// 1: the walk needed rbp of its first frame.
    pub needed_bp: u64,
}

impl Registers {
    #[inline(always)]
    pub const fn new(pc: u64, sp: u64, bp: u64) -> Self {
        Self { pc, sp, bp, bp_at: 0, interrupted: 0, bp_is_first: 1, needed_bp: 0 }
    }

    /// Those of a thread that a signal or a fault stopped before the instruction at `pc`.
    #[inline(always)]
    pub const fn at_instruction(pc: u64, sp: u64, bp: u64) -> Self {
        Self { pc: pc.wrapping_add(1), interrupted: 1, ..Self::new(pc, sp, bp) }
    }

    /// The caller's of a function that is under way: its return address lies at `entry_sp`. rbp is `bp`, or, if `bp_at` is
    /// not 0, what lies there; it is not known if that is [`LOST`].
    ///
    /// # Errors
    /// The return address cannot be read, or is none.
    #[inline(always)]
    pub fn of_caller(entry_sp: u64, bp: u64, bp_at: u64, memory: &mut impl Memory) -> Result<Self, StackEnd> {
        let pc = return_address(entry_sp, memory)?;
        Ok(Self { bp_at, ..Self::new(pc, entry_sp.wrapping_add(8), bp) })
    }

    /// Whether the next step needs tables of exact rows: others hold only what is in force at calls.
    #[inline(always)]
    pub const fn need_exact_rows(&self) -> bool {
        self.interrupted != 0
    }

    /// rbp; 0 if it is not known.
    #[inline(always)]
    pub fn frame_pointer(&mut self, memory: &mut impl Memory) -> u64 {
        self.bp(memory).unwrap_or(0)
    }

    #[inline(always)]
    fn saved_bp(&mut self, at: u64) {
        self.bp_at = at;
        self.bp_is_first = 0;
    }

    #[inline(always)]
    fn bp(&mut self, memory: &mut impl Memory) -> Result<u64, StackEnd> {
        self.needed_bp |= self.bp_is_first;
        if self.bp_at == LOST {
            return Err(StackEnd::UnsupportedRule);
        }
        if self.bp_at != 0 {
            let Some(bp) = memory.read(self.bp_at) else { return Err(StackEnd::Unreadable) };
            self.bp = bp;
            self.bp_at = 0;
        }
        Ok(self.bp)
    }
}

/// Steps to the caller, whose return address is then `registers.pc`. `tables` are of exact rows if
/// [`Registers::need_exact_rows`]. `follow_bp`: by frame pointer where the tables know nothing.
///
/// # Errors
/// Why there is no further frame.
#[inline(always)]
pub fn step<T: Tables, M: Memory>(
    registers: &mut Registers,
    current: &mut UnwindMapping,
    tables: &mut T,
    memory: &mut M,
    follow_bp: bool,
) -> Result<(), StackEnd> {
    let interrupted = registers.interrupted != 0;
    registers.interrupted = 0;
    let why = match find(tables, current, registers.pc.wrapping_sub(1)) {
        Found::Rule(rule) if rule.cfa_kind() != CfaKind::None as u64 => {
            return apply(registers, rule, memory);
        }
        // By frame pointer, a function that was stopped before it kept one would hide its caller.
        _ if interrupted => return Err(StackEnd::Interrupted),
        Found::Rule(_) | Found::NoTable => StackEnd::NoUnwindInfo,
        Found::NoMapping => StackEnd::NoMapping,
    };
    if follow_bp { by_frame_pointer(registers, memory, why) } else { Err(why) }
}

#[inline(always)]
fn apply(registers: &mut Registers, rule: Rule, memory: &mut impl Memory) -> Result<(), StackEnd> {
    const RSP: u64 = CfaKind::Rsp as u64;
    const RBP: u64 = CfaKind::Rbp as u64;
    const DEREF_RSP: u64 = CfaKind::DerefRsp as u64;
    const DEREF_RBP: u64 = CfaKind::DerefRbp as u64;
    const PLT: u64 = CfaKind::Plt as u64;
    const SIGNAL: u64 = CfaKind::Signal as u64;
    const STOP: u64 = CfaKind::Stop as u64;
    let kind = rule.cfa_kind();
    if kind == STOP {
        return Err(StackEnd::Complete);
    }
    if kind == SIGNAL {
        return out_of_signal(registers, memory);
    }
    let fp = rule.fp_kind();
    if kind == RBP || kind == DEREF_RBP || fp == FpKind::RbpOffset as u64 {
        registers.bp(memory)?;
    }
    let offset = rule.cfa_offset() as u64;
    let cfa = if kind == RSP {
        registers.sp.wrapping_add(offset)
    } else if kind == RBP {
        registers.bp.wrapping_add(offset)
    } else if kind == DEREF_RSP || kind == DEREF_RBP {
        let base = if kind == DEREF_RSP { registers.sp } else { registers.bp };
        let at = base.wrapping_add(offset);
        if at & 7 != 0 {
            return Err(StackEnd::BadStackPointer);
        }
        let Some(value) = memory.read(at) else { return Err(StackEnd::Unreadable) };
        value.wrapping_add(rule.add())
    } else if kind == PLT {
        // Its `jmp` has pushed the relocation's index by then. A return address minus one is never here, but
        // the pc of a probe or a system call may be.
        registers.sp.wrapping_add(8 + (((registers.pc.wrapping_sub(1) & 15) >= 11) as u64) * 8)
    } else {
        return Err(StackEnd::UnsupportedRule);
    };
    if cfa <= registers.sp || cfa & 7 != 0 {
        return Err(StackEnd::BadStackPointer);
    }
    let address = return_address(cfa - 8, memory)?;
    if fp == FpKind::CfaOffset as u64 {
        registers.saved_bp(saved_at(cfa.wrapping_add(rule.fp_offset() as u64)));
    } else if fp == FpKind::RbpOffset as u64 {
        registers.saved_bp(saved_at(registers.bp.wrapping_add(rule.fp_offset() as u64)));
    } else if fp == FpKind::Lost as u64 {
        registers.saved_bp(LOST);
    }
    registers.sp = cfa;
    registers.pc = address;
    Ok(())
}

/// No rule saves at an odd place; damaged tables must not make us read there.
#[inline(always)]
fn saved_at(address: u64) -> u64 {
    if address & 7 == 0 { address } else { LOST }
}

/// From a signal trampoline to the interrupted code.
#[inline(always)]
fn out_of_signal(registers: &mut Registers, memory: &mut impl Memory) -> Result<(), StackEnd> {
    let sp = registers.sp;
    if sp & 7 != 0 {
        return Err(StackEnd::BadStackPointer);
    }
    let Some(bp) = memory.read(sp.wrapping_add(SIGNAL_RBP)) else { return Err(StackEnd::Unreadable) };
    let Some(caller_sp) = memory.read(sp.wrapping_add(SIGNAL_RSP)) else { return Err(StackEnd::Unreadable) };
    let Some(pc) = memory.read(sp.wrapping_add(SIGNAL_RIP)) else { return Err(StackEnd::Unreadable) };
    *registers = if memory.read_code(pc.wrapping_sub(2)) == SYSCALL {
        Registers::new(pc, caller_sp, bp)
    } else {
        Registers::at_instruction(pc, caller_sp, bp)
    };
    Ok(())
}

#[inline(always)]
fn return_address(slot: u64, memory: &mut impl Memory) -> Result<u64, StackEnd> {
    let Some(mut address) = memory.read(slot) else { return Err(StackEnd::Unreadable) };
    if (TRAMPOLINE..TRAMPOLINE + 4096).contains(&address) {
        let Some(original) = memory.replaced_return(slot) else { return Err(StackEnd::ReturnProbe) };
        address = original;
    }
    if address == 0 {
        return Err(StackEnd::Complete);
    }
    if address < 0x1000 || address >> 47 != 0 {
        return Err(StackEnd::Implausible);
    }
    Ok(address)
}

#[inline(always)]
fn by_frame_pointer(
    registers: &mut Registers,
    memory: &mut impl Memory,
    why: StackEnd,
) -> Result<(), StackEnd> {
    // Whether this frame, too, kept rbp at its top: then 0 marks the outermost (System V ABI, 3.4.1).
    let chained = registers.bp_at == registers.sp.wrapping_sub(16);
    let Ok(frame) = registers.bp(memory) else { return Err(why) };
    if frame == 0 && chained {
        return Err(StackEnd::Complete);
    }
    if frame < registers.sp || frame & 7 != 0 || frame - registers.sp > FARTHEST {
        return Err(why);
    }
    match return_address(frame + 8, memory) {
        Ok(address) => {
            registers.saved_bp(frame);
            registers.sp = frame + 16;
            registers.pc = address;
            Ok(())
        }
        Err(end @ (StackEnd::Complete | StackEnd::ReturnProbe)) => Err(end),
        Err(_) => Err(why),
    }
}
