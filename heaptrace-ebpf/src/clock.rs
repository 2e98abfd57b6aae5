//! The time of blocks: `CLOCK_MONOTONIC`, as of the last tick.

use aya_ebpf::{macros::map, maps::Array};

use crate::{
    helpers::{now_ns, tick},
    maps::setting,
    value::{Lookup, at},
};

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
    if setting!(statistics) != 0 { now_ns() } else { coarse_ns() }
}

/// Nanoseconds, at most a tick (1 to 10 ms) old: the clock is read once a tick, as that takes 20 to 30 ns and an age needs
/// no more. The tick itself is one load, which the verifier inlines.
#[inline(always)]
fn coarse_ns() -> u64 {
    let tick = tick();
    let Some(last) = CLOCK.value(0) else { return 0 };
    if at!(last.tick).load() == tick {
        return at!(last.ns).load();
    }
    let now = now_ns();
    // The time first: whoever sees the tick sees no older time, but one of a CPU that was as late.
    if now > at!(last.ns).load() {
        at!(last.ns).store(now);
    }
    at!(last.tick).store(tick);
    now
}
