//! Calls whose result is still to come, by process and stack pointer: a thread may leave a call by longjmp or an
//! exception, and another thread may go on with it.

use heaptrace_common::{
    counter::Counter,
    function::Shape,
    live,
    record::{BEING_MADE, PendingCall, ProcessRecord, pending_key, process_state},
};

use crate::{
    log::log,
    maps::{PENDING, count, setting},
    process, share, unwind,
    value::{Lookup, Value, at},
};

/// Places where a call may be kept; what has none of them left is in no total (`Counter::PendingFull`).
const WAYS: u32 = 4;

const PAGE: u64 = 4096;

#[inline(always)]
fn place(key: u64, way: u32) -> u32 {
    // The uppermost bits: those below know little of the process, and forks' stacks are at the same addresses.
    let first = live::line(key, setting!(pending_mask).wrapping_add(1));
    first.wrapping_add(way) & setting!(pending_mask)
}

/// The call at `entry_sp`, if one is kept.
#[inline(always)]
pub fn find(process: u32, entry_sp: u64) -> Option<Value<PendingCall>> {
    let key = pending_key(process, entry_sp);
    let mut way = 0;
    while way < WAYS {
        let slot = PENDING.value(place(key, way))?;
        if at!(slot.key).load() == key {
            return Some(slot);
        }
        way += 1;
    }
    None
}

/// A place for a call at `entry_sp`, where none is kept; without one, the call is lost and counted if it `counts`. Nobody
/// finds or takes it until the caller, who fills it at once, says with [`publish`] that it has.
#[inline(always)]
pub fn claim(
    process: u32,
    record: Value<ProcessRecord>,
    entry_sp: u64,
    counts: bool,
) -> Option<Value<PendingCall>> {
    let key = pending_key(process, entry_sp);
    let mut left = u32::from(share::has_many_calls(record));
    let mut way = 0;
    while way < WAYS {
        let slot = PENDING.value(place(key, way))?;
        if at!(slot.key).load() == 0 {
            if left != 0 {
                left = 0;
            } else if at!(slot.key).replace(0, BEING_MADE) {
                return Some(slot);
            } else {
                log!(
                    Counter::PendingFull,
                    "process {}: another thread took the place for the call at {:x}",
                    sp = entry_sp
                );
            }
        }
        way += 1;
    }
    let mut way = 0;
    while way < WAYS {
        let slot = PENDING.value(place(key, way))?;
        let held = at!(slot.key).load();
        let is_word = at!(slot.shape).get() == Shape::Free0 as u8;
        if held > BEING_MADE
            && (is_word || is_over(process, slot, held))
            && at!(slot.key).replace(held, BEING_MADE)
        {
            if !is_word {
                count(Counter::MissedReturn);
            }
            return Some(slot);
        }
        way += 1;
    }
    if counts {
        count(Counter::PendingFull);
        log!(Counter::PendingFull, "process {}: no place for the call at {:x}", sp = entry_sp);
    }
    None
}

/// Whether a kept call is known to be left: its process has ended, or its return address is gone from the stack, which
/// only its own process's threads can see.
#[inline(always)]
fn is_over(process: u32, slot: Value<PendingCall>, key: u64) -> bool {
    let owner = at!(slot.process).get();
    if owner == process {
        let at = live::unpacked(key).1;
        let there = unwind::return_address(at);
        // The beginning of a page is where another tracer's return probe leads, and whose call that was only its own
        // thread knows.
        let is_known = there & (PAGE - 1) != 0;
        return is_known && there != at!(slot.return_address).get();
    }
    process::record(owner).is_some_and(|record| at!(record.state).load() != process_state::RUNNING)
}

/// A place that was claimed for a call at `entry_sp` is filled.
#[inline(always)]
pub fn publish(slot: Value<PendingCall>, process: u32, entry_sp: u64) {
    // Behind all fields: an atomic operation, which nothing is moved over.
    at!(slot.key).replace(BEING_MADE, pending_key(process, entry_sp));
}

/// Gives the place of the call at `entry_sp`, which [`find`] found, back; whether it was still that call's.
#[inline(always)]
pub fn release(slot: Value<PendingCall>, process: u32, entry_sp: u64) -> bool {
    at!(slot.key).replace(pending_key(process, entry_sp), 0)
}
