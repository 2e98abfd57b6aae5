//! x86_64 user registers in a probe's `pt_regs` (arch/x86/include/uapi/asm/ptrace.h), System V arguments.

use aya_ebpf::{EbpfContext, bindings::pt_regs};
use heaptrace_common::{
    probe::{Place, ProbeRecord},
    unwind::step::LOST,
};

use crate::{helpers::read_user, stack::Caller};

/// In the place of a value that lies in memory and cannot be read: no address of a program's, and a size that no
/// allocator can give. No `Option`: see [`Registers::value`].
pub const UNREADABLE: u64 = u64::MAX - 14;

/// The user registers at a probe hit: the context of the program that runs.
#[derive(Clone, Copy)]
pub struct Registers(*const pt_regs);

impl Registers {
    #[inline(always)]
    pub fn of(ctx: &impl EbpfContext) -> Self {
        Self(ctx.as_ptr().cast())
    }

    #[inline(always)]
    pub fn arg0(self) -> u64 {
        // SAFETY: the program's context.
        unsafe { (*self.0).rdi }
    }

    /// Not loaded as `arg0` is: where one of the two is wanted, LLVM would make one load at a computed offset.
    #[inline(always)]
    pub fn arg1(self) -> u64 {
        /// rsi.
        const ARG1: u8 = 6;
        self.numbered(ARG1)
    }

    #[inline(always)]
    pub fn ip(self) -> u64 {
        // SAFETY: as in `arg0`.
        unsafe { (*self.0).rip }
    }

    #[inline(always)]
    pub fn sp(self) -> u64 {
        // SAFETY: as in `arg0`.
        unsafe { (*self.0).rsp }
    }

    /// What a call asks for: one value, or the product of two; the largest size if that is larger than any.
    #[inline(always)]
    pub fn size(self, probe: &ProbeRecord) -> u64 {
        let size = self.value(probe.size);
        if probe.factor == 0 {
            return size;
        }
        let factor = self.value(probe.factor);
        if size == UNREADABLE || factor == UNREADABLE { UNREADABLE } else { product(size, factor) }
    }

    #[inline(always)]
    pub fn flags(self) -> u64 {
        // SAFETY: as in `arg0`.
        unsafe { (*self.0).eflags }
    }

    /// A general register by its number in machine code.
    #[inline(always)]
    fn numbered(self, number: u8) -> u64 {
        /// One load that LLVM can't merge with others into one at a computed offset, which the verifier refuses.
        macro_rules! load {
            ($offset:literal) => {{
                let value: u64;
                // SAFETY: reads a field of `pt_regs`.
                unsafe {
                    core::arch::asm!(
                        concat!("{0} = *(u64 *)({1} + ", $offset, ")"),
                        out(reg) value,
                        in(reg) self.0,
                        options(pure, readonly, nostack)
                    )
                };
                value
            }};
        }
        match number {
            0 => load!("80"),
            1 => load!("88"),
            2 => load!("96"),
            3 => load!("40"),
            4 => load!("152"),
            5 => load!("32"),
            6 => load!("104"),
            7 => load!("112"),
            8 => load!("72"),
            9 => load!("64"),
            10 => load!("56"),
            11 => load!("48"),
            12 => load!("24"),
            13 => load!("16"),
            14 => load!("8"),
            _ => load!("0"),
        }
    }

    /// Where the thread is.
    #[inline(always)]
    pub fn now(self) -> Caller {
        // SAFETY: as in `arg0`.
        Caller { entry_sp: self.sp(), bp: unsafe { (*self.0).rbp }, bp_at: 0, ip: self.ip() }
    }

    /// All general registers, by their numbers in machine code. Without a branch for each, of which the verifier would follow all
    /// combinations where several are asked for.
    #[inline(always)]
    pub fn all(self) -> [u64; 16] {
        // SAFETY: as in `arg0`.
        let pt_regs { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, .. } =
            unsafe { *self.0 };
        [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15]
    }

    /// What is at a `Place`, as the table has it; 0 if it is nowhere, [`UNREADABLE`] if it
    /// cannot be read. No `Option` and no decoded `Place`:
    /// LLVM carries their contents along where there are none, and the verifier sees that they were never written.
    #[inline(always)]
    pub fn value(self, place: u16) -> u64 {
        if place >= Place::FIRST_SLOT {
            let at = self.stack(place);
            return read_user(at).unwrap_or(UNREADABLE);
        }
        if place >= Place::FIRST_REGISTER { self.numbered(place as u8 & 15) } else { 0 }
    }

    #[inline(always)]
    fn stack(self, place: u16) -> u64 {
        self.sp().wrapping_add(u64::from(place.wrapping_sub(Place::FIRST_SLOT)))
    }

    /// The caller's rbp, and the address that it has been saved at: 0 if the value is known, [`LOST`] if neither is.
    #[inline(always)]
    pub fn caller_bp(self, place: u16) -> (u64, u64) {
        if place >= Place::FIRST_SLOT {
            (0, self.stack(place))
        } else if place >= Place::FIRST_REGISTER {
            (self.numbered(place as u8 & 15), 0)
        } else {
            (0, LOST)
        }
    }
}

/// a * b; the largest size on overflow, where the call fails.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    if (a | b) >> 32 == 0 {
        return a.wrapping_mul(b);
    }
    // By halves: LLVM makes a 128-bit product, which BPF lacks, of a check by division.
    let (large, small) = if a > b { (a, b) } else { (b, a) };
    let high = (large >> 32).wrapping_mul(small);
    if small >> 32 != 0 || high >> 32 != 0 {
        return u64::MAX;
    }
    let low = (large & 0xffff_ffff).wrapping_mul(small);
    let sum = (high << 32).wrapping_add(low);
    if sum < low { u64::MAX } else { sum }
}
