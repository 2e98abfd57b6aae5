//! Of the judged build only: what is accounted, added up by function with addresses. See `heaptrace_common::judged`.

use heaptrace_common::judged::{Tallies, Tally, mix};

use crate::atomic;

#[cfg(feature = "judge")]
#[aya_ebpf::macros::map]
pub static TALLIES: aya_ebpf::maps::Array<Tallies> =
    aya_ebpf::maps::Array::with_max_entries(heaptrace_common::judged::FUNCTIONS as u32, 0);

#[cfg(feature = "judge")]
#[inline(always)]
fn of(function: u8) -> Option<*mut Tallies> {
    TALLIES.get_ptr_mut(u32::from(function))
}

#[cfg(not(feature = "judge"))]
#[inline(always)]
const fn of(_: u8) -> Option<*mut Tallies> {
    None
}

#[inline(always)]
unsafe fn add(tally: *mut Tally, bytes: u64, sum: u64) {
    unsafe {
        atomic::add(&raw mut (*tally).count, 1);
        atomic::add(&raw mut (*tally).bytes, bytes);
        atomic::add(&raw mut (*tally).sum, sum);
    }
}

/// A block is about to be accounted.
#[inline(always)]
pub fn allocated(function: u8, address: u64, size: u64) {
    if let Some(tallies) = of(function) {
        unsafe { add(&raw mut (*tallies).allocated, size, mix(address, size)) };
    }
}

/// A live block's end was accounted.
#[inline(always)]
pub fn freed(function: u8, address: u64, size: u64) {
    if let Some(tallies) = of(function) {
        unsafe { add(&raw mut (*tallies).freed, size, mix(address, size)) };
    }
}

/// Another block's.
#[inline(always)]
pub fn unknown(function: u8, address: u64) {
    if let Some(tallies) = of(function) {
        unsafe { add(&raw mut (*tallies).unknown, 0, mix(address, 0)) };
    }
}

/// A call gave no memory.
#[inline(always)]
pub fn failed(function: u8) {
    if let Some(tallies) = of(function) {
        unsafe { atomic::add(&raw mut (*tallies).failed, 1) };
    }
}
