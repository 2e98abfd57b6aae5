//! The time of blocks: `CLOCK_MONOTONIC`, as of the last tick.

use aya_ebpf::{
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};

use crate::maps::setting;

/// The clock, as last read.
#[map]
static CLOCK: Array<Reading> = Array::with_max_entries(1, 0);

/// When the clock was last read.
#[repr(C)]
pub struct Reading {
    tick: u64,
    ns: u64,
}

/// The time of a block: exact where lifetimes are counted, as most blocks live for less than a tick.
#[inline(always)]
pub fn block_ns() -> u64 {
    if setting!(statistics) != 0 { unsafe { bpf_ktime_get_ns() } } else { coarse_ns() }
}

/// Nanoseconds, at most a tick (1 to 10 ms) old: the clock is read once a tick, as that takes 20 to 30 ns and an age needs
/// no more. The tick itself is one load, which the verifier inlines.
#[inline(always)]
fn coarse_ns() -> u64 {
    let tick = unsafe { bpf_jiffies64() };
    let Some(last) = CLOCK.get_ptr_mut(0) else { return 0 };
    unsafe {
        if core::ptr::read_volatile(&raw const (*last).tick) == tick {
            return core::ptr::read_volatile(&raw const (*last).ns);
        }
        let now = bpf_ktime_get_ns();
        // The time first: whoever sees the tick sees no older time, but one of a CPU that was as late.
        if now > core::ptr::read_volatile(&raw const (*last).ns) {
            core::ptr::write_volatile(&raw mut (*last).ns, now);
        }
        core::ptr::write_volatile(&raw mut (*last).tick, tick);
        now
    }
}
