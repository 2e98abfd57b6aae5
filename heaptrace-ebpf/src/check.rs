//! Verification of probe sites in place. What is compared: `heaptrace_common::check`.

use aya_ebpf::EbpfContext;
use heaptrace_common::{
    check::{self, BEING_MADE, CHECKED_CALLS, Check, CheckedCall},
    counter::Counter,
    probe::{Cookie, Place, ProbeRecord, Role, condition},
};

use crate::{
    helpers::{attach_cookie, read_user},
    log::log,
    maps::{CHECKED, CHECKS, PROBES, count},
    process,
    registers::{Registers, UNREADABLE},
    unwind,
    value::{Lookup, Value, at},
};

/// Places where a call may be kept.
const WAYS: u32 = 4;

/// An entry or a site was passed; the cookie's gate is the number of the function's check.
#[inline(always)]
pub fn hit(ctx: &impl EbpfContext) {
    let cookie = Cookie::from_bits(attach_cookie(ctx));
    let Some((process, record)) = process::traced(ctx) else { return };
    if !process::counts(record) {
        return;
    }
    let Some(check) = CHECKS.value(cookie.gate) else { return };
    let opening = at!(check.open).load();
    if opening == 0 {
        return;
    }
    let Some(probe) = PROBES.get(cookie.row) else { return };
    let registers = Registers::of(ctx);
    if !condition::holds(probe.condition, registers.flags()) {
        return;
    }
    let entry_sp = registers.sp().wrapping_add(u64::from(probe.pushed));
    let key = check::key(process, entry_sp, opening);
    if probe.role == Role::Entered as u8 {
        // A trap of its own.
        at!(record.other_hits).add(1);
        enter(check, key, registers.size(probe), unwind::return_address(entry_sp));
    } else if probe.role != Role::Begin as u8 {
        compare(check, key, probe, registers, unwind::return_address(entry_sp));
    }
}

#[inline(always)]
fn place(key: u64, way: u32) -> Option<Value<CheckedCall>> {
    let mixed = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32;
    CHECKED.value(mixed.wrapping_add(way) & (CHECKED_CALLS - 1))
}

#[inline(always)]
fn kept(key: u64) -> Option<Value<CheckedCall>> {
    let mut way = 0;
    while way < WAYS {
        let call = place(key, way)?;
        if at!(call.key).load() == key {
            return Some(call);
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn enter(check: Value<Check>, key: u64, size: u64, return_address: u64) {
    at!(check.calls).add(1);
    let mut to = None;
    if let Some(left) = kept(key)
        && at!(left.key).replace(key, BEING_MADE)
    {
        at!(check.left).add(1);
        to = Some(left);
    }
    let mut way = 0;
    while way < WAYS && to.is_none() {
        let Some(call) = place(key, way) else { return };
        if at!(call.key).load() == 0 && at!(call.key).replace(0, BEING_MADE) {
            to = Some(call);
        }
        way += 1;
    }
    let Some(to) = to.or_else(|| instead(check, key)) else { return };
    at!(to.return_address).store(return_address);
    at!(to.size).store(size);
    // Behind both: an atomic operation, which nothing is moved over.
    at!(to.key).replace(BEING_MADE, key);
}

/// The place of a call that gives way to one that finds all taken: by calls that were left perhaps, and which is the oldest
/// is not known.
#[inline(always)]
fn instead(check: Value<Check>, key: u64) -> Option<Value<CheckedCall>> {
    let call = place(key, 0)?;
    at!(check.not_kept).add(1);
    let other = at!(call.key).load();
    (other != BEING_MADE && at!(call.key).replace(other, BEING_MADE)).then_some(call)
}

#[inline(always)]
fn compare(check: Value<Check>, key: u64, probe: &ProbeRecord, registers: Registers, return_address: u64) {
    let Some(call) = kept(key) else {
        // Where several functions run through a site, this was another's.
        if probe.shared == 0 {
            at!(check.unannounced).add(1);
        }
        return;
    };
    let entered = at!(call.size).load();
    let entered_return = at!(call.return_address).load();
    // What could not be read says nothing.
    let same_return = entered_return == return_address || entered_return == 0 || return_address == 0;
    if !same_return && probe.shared != 0 {
        // Another function's, where a call of this one was left.
        return;
    }
    if !at!(call.key).replace(key, 0) {
        // It gave way to another call meanwhile, and what was read may be that one's.
        return;
    }
    at!(check.seen).add(1);
    let result = registers.value(probe.result);
    let mut agrees = same_return;
    if !same_return {
        at!(check.other_return).add(1);
    }
    // Of a call that failed, a product may have overflowed.
    if probe.role == Role::Whole as u8
        && result != 0
        && probe.size != 0
        && probe.result != Place::ZERO
        && differ(registers.size(probe), entered)
    {
        at!(check.other_size).add(1);
        agrees = false;
    }
    if result != 0 && result != UNREADABLE && !is_result(at!(check.glibc).load(), result, entered) {
        at!(check.no_result).add(1);
        agrees = false;
    }
    if !agrees {
        count(Counter::Disagreed);
        log!(
            Counter::Disagreed,
            "process {}: a call of function {} was not as its code says: {} bytes, result {:x}",
            function = u64::from(probe.function),
            entered = entered,
            result = result
        );
    }
}

#[inline(always)]
fn differ(size: u64, entered: u64) -> bool {
    size != entered && size != UNREADABLE && entered != UNREADABLE
}

/// Whether an allocator can have given this for a block of `size` bytes.
#[inline(always)]
fn is_result(glibc: u64, result: u64, size: u64) -> bool {
    if glibc == 0 {
        return true;
    }
    if result & 15 != 0 {
        return false;
    }
    let word = read_user(result.wrapping_sub(8)).unwrap_or(u64::MAX);
    check::is_chunk(word, size)
}
