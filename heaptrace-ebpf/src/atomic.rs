//! Atomics on map memory. BPF (v3) has fetch-add, exchange and compare-exchange (5.12), but the target's `core`
//! offers no `AtomicU64` methods for them.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd, atomic_xchg};

/// Adds and returns the value before.
///
/// # Safety
/// `at` points to a live map value (as every function here).
#[inline(always)]
pub unsafe fn add(at: *mut u64, value: u64) -> u64 {
    unsafe { atomic_xadd::<u64, u64, { SeqCst }>(at, value) }
}

/// Adds modulo 2^32, and returns the value before.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn add_short(at: *mut u32, value: u32) -> u32 {
    unsafe { atomic_xadd::<u32, u32, { SeqCst }>(at, value) }
}

/// Subtracts modulo 2^32.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn sub_short(at: *mut u32, value: u32) {
    unsafe { add_short(at, value.wrapping_neg()) };
}

/// Subtracts and returns the value before.
#[inline(always)]
pub unsafe fn sub(at: *mut u64, value: u64) -> u64 {
    unsafe { add(at, value.wrapping_neg()) }
}

/// Stores and returns the value before.
#[inline(always)]
pub unsafe fn swap(at: *mut u64, value: u64) -> u64 {
    unsafe { atomic_xchg::<u64, { SeqCst }>(at, value) }
}

/// Stores `new` if the value is `old`; says whether it did.
#[inline(always)]
pub unsafe fn replace(at: *mut u64, old: u64, new: u64) -> bool {
    unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(at, old, new).1 }
}

/// Raises the value at `at` to at least `value`.
#[inline(always)]
pub unsafe fn raise(at: *mut u64, value: u64) {
    let mut mine = value;
    let mut tries = 0;
    // Whoever takes a larger value out by exchanging has to put it back; so the largest is never lost, only
    // late. Eight rounds would need eight larger values racing on as many CPUs.
    while tries < 8 {
        if unsafe { core::ptr::read_volatile(at) } >= mine {
            return;
        }
        let before = unsafe { swap(at, mine) };
        if before <= mine {
            return;
        }
        mine = before;
        tries += 1;
    }
}
