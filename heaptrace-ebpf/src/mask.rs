//! Index masks that survive optimization.

/// `value & MASK`, behind a barrier: LLVM proves a mask redundant and drops it, and verifiers before about 6.5
/// then lose the range.
#[inline(always)]
pub fn mask<const MASK: u64>(value: u64) -> usize {
    let mut index = value;
    // SAFETY: register arithmetic only. (A comment alone would leave two line records on one instruction, which
    // the kernel refuses.)
    unsafe { core::arch::asm!("{0} &= {1}", inout(reg) index, const MASK, options(pure, nomem, nostack)) };
    index as usize
}
