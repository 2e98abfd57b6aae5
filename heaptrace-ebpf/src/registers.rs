//! x86_64 user registers in a probe's `pt_regs` (arch/x86/include/uapi/asm/ptrace.h), System V arguments.

use aya_ebpf::{EbpfContext, bindings::pt_regs};

/// The user registers at a probe hit.
#[derive(Clone, Copy)]
pub struct Registers(*const pt_regs);

impl Registers {
    #[inline(always)]
    pub fn of(ctx: &impl EbpfContext) -> Self {
        Self(ctx.as_ptr().cast())
    }

    #[inline(always)]
    pub fn arg0(self) -> u64 {
        unsafe { (*self.0).rdi }
    }

    #[inline(always)]
    pub fn arg1(self) -> u64 {
        unsafe { (*self.0).rsi }
    }

    #[inline(always)]
    pub fn arg2(self) -> u64 {
        unsafe { (*self.0).rdx }
    }

    #[inline(always)]
    pub fn result(self) -> u64 {
        unsafe { (*self.0).rax }
    }

    #[inline(always)]
    pub fn ip(self) -> u64 {
        unsafe { (*self.0).rip }
    }

    #[inline(always)]
    pub fn sp(self) -> u64 {
        unsafe { (*self.0).rsp }
    }

    #[inline(always)]
    pub fn bp(self) -> u64 {
        unsafe { (*self.0).rbp }
    }
}
