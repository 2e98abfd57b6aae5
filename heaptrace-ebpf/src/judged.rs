//! Of the judged build only: what is accounted, added up by function with addresses. See `heaptrace_common::judged`.

use heaptrace_common::judged::{Tallies, Tally, mix};

use crate::value::{Value, at};

#[cfg(feature = "judge")]
#[aya_ebpf::macros::map]
pub static TALLIES: aya_ebpf::maps::Array<Tallies> =
    aya_ebpf::maps::Array::with_max_entries(heaptrace_common::judged::FUNCTIONS as u32, 0);

#[cfg(feature = "judge")]
#[inline(always)]
fn of(function: u8) -> Option<Value<Tallies>> {
    crate::value::Lookup::value(&TALLIES, u32::from(function))
}

#[cfg(not(feature = "judge"))]
#[inline(always)]
const fn of(_: u8) -> Option<Value<Tallies>> {
    None
}

#[inline(always)]
fn add(tally: Value<Tally>, bytes: u64, sum: u64) {
    at!(tally.count).add(1);
    at!(tally.bytes).add(bytes);
    at!(tally.sum).add(sum);
}

/// A block is about to be accounted.
#[inline(always)]
pub fn allocated(function: u8, address: u64, size: u64) {
    if let Some(tallies) = of(function) {
        add(at!(tallies.allocated), size, mix(address, size));
    }
}

/// A live block's end was accounted.
#[inline(always)]
pub fn freed(function: u8, address: u64, size: u64) {
    if let Some(tallies) = of(function) {
        add(at!(tallies.freed), size, mix(address, size));
    }
}

/// Another block's.
#[inline(always)]
pub fn unknown(function: u8, address: u64) {
    if let Some(tallies) = of(function) {
        add(at!(tallies.unknown), 0, mix(address, 0));
    }
}

/// A call gave no memory.
#[inline(always)]
pub fn failed(function: u8) {
    if let Some(tallies) = of(function) {
        at!(tallies.failed).add(1);
    }
}
