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

/// The same, by the largest such mask that an array of `N` has an element for.
#[inline(always)]
pub fn within<const N: usize>(value: u64) -> usize {
    let mut index = value;
    // SAFETY: as in [`mask`].
    unsafe {
        core::arch::asm!(
            "{0} &= {1}",
            inout(reg) index,
            const (1_u64 << N.ilog2()) - 1,
            options(pure, nomem, nostack)
        )
    };
    index as usize
}
