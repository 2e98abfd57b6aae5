//! Keeping an index within bounds so that every verifier sees it.

/// `index` within a table of `N` elements, a power of two.
///
/// Masked behind a barrier: LLVM proves a mask redundant and drops it, and verifiers before about 6.5 then lose the
/// range.
#[inline(always)]
pub fn masked<const N: usize>(index: u64) -> usize {
    const { assert!(N.is_power_of_two()) };
    let mut index = index;
    // SAFETY: register arithmetic only.
    unsafe { core::arch::asm!("{0} &= {1}", inout(reg) index, const N - 1, options(pure, nomem, nostack)) };
    index as usize
}
