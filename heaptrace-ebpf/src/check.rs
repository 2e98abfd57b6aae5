//! Verification of probe sites in place. What is compared: `heaptrace_common::check`.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_attach_cookie, bpf_probe_read_user},
};
use heaptrace_common::{
    check::{self, BEING_MADE, CHECKED_CALLS, Check, CheckedCall},
    counter::Counter,
    probe::{Cookie, Place, ProbeRecord, Role, condition},
};

use crate::{
    atomic,
    log::log,
    maps::{CHECKED, CHECKS, PROBES, count},
    process,
    registers::{Registers, UNREADABLE},
    unwind,
};

/// Places where a call may be kept.
const WAYS: u32 = 4;

/// An entry or a site was passed; the cookie's gate is the number of the function's check.
#[inline(always)]
pub fn hit(ctx: &impl EbpfContext) {
    let cookie = Cookie::from_bits(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    let Some((process, _)) = process::counted(ctx) else { return };
    let Some(check) = CHECKS.get_ptr_mut(cookie.gate) else { return };
    let opening = unsafe { core::ptr::read_volatile(&raw const (*check).open) };
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
        enter(check, key, registers.size(probe), unwind::return_address(entry_sp));
    } else if probe.role != Role::Begin as u8 {
        compare(check, key, probe, registers, unwind::return_address(entry_sp));
    }
}

#[inline(always)]
fn place(key: u64, way: u32) -> Option<*mut CheckedCall> {
    let mixed = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32;
    CHECKED.get_ptr_mut(mixed.wrapping_add(way) & (CHECKED_CALLS - 1))
}

#[inline(always)]
fn kept(key: u64) -> Option<*mut CheckedCall> {
    let mut way = 0;
    while way < WAYS {
        let call = place(key, way)?;
        if unsafe { core::ptr::read_volatile(&raw const (*call).key) } == key {
            return Some(call);
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn enter(check: *mut Check, key: u64, size: u64, return_address: u64) {
    unsafe {
        atomic::add(&raw mut (*check).calls, 1);
        let mut to = core::ptr::null_mut();
        if let Some(left) = kept(key)
            && atomic::replace(&raw mut (*left).key, key, BEING_MADE)
        {
            atomic::add(&raw mut (*check).left, 1);
            to = left;
        }
        let mut way = 0;
        while way < WAYS && to.is_null() {
            let Some(call) = place(key, way) else { return };
            if core::ptr::read_volatile(&raw const (*call).key) == 0
                && atomic::replace(&raw mut (*call).key, 0, BEING_MADE)
            {
                to = call;
            }
            way += 1;
        }
        if to.is_null() {
            // Full, of calls that were left perhaps: the oldest is not known, so one gives way, or this one.
            let Some(call) = place(key, 0) else { return };
            atomic::add(&raw mut (*check).not_kept, 1);
            let other = core::ptr::read_volatile(&raw const (*call).key);
            if other == BEING_MADE || !atomic::replace(&raw mut (*call).key, other, BEING_MADE) {
                return;
            }
            to = call;
        }
        core::ptr::write_volatile(&raw mut (*to).return_address, return_address);
        core::ptr::write_volatile(&raw mut (*to).size, size);
        // Behind both: an atomic operation, which nothing is moved over.
        atomic::replace(&raw mut (*to).key, BEING_MADE, key);
    }
}

#[inline(always)]
fn compare(check: *mut Check, key: u64, probe: &ProbeRecord, registers: Registers, return_address: u64) {
    let Some(call) = kept(key) else {
        // Where several functions run through a site, this was another's.
        if probe.shared == 0 {
            unsafe { atomic::add(&raw mut (*check).unannounced, 1) };
        }
        return;
    };
    unsafe {
        let entered = core::ptr::read_volatile(&raw const (*call).size);
        let entered_return = core::ptr::read_volatile(&raw const (*call).return_address);
        // What could not be read says nothing.
        let same_return = entered_return == return_address || entered_return == 0 || return_address == 0;
        if !same_return && probe.shared != 0 {
            // Another function's, where a call of this one was left.
            return;
        }
        if !atomic::replace(&raw mut (*call).key, key, 0) {
            // It gave way to another call meanwhile, and what was read may be that one's.
            return;
        }
        atomic::add(&raw mut (*check).seen, 1);
        let result = registers.value(probe.result);
        let mut agrees = same_return;
        if !same_return {
            atomic::add(&raw mut (*check).other_return, 1);
        }
        // Of a call that failed, a product may have overflowed.
        if probe.role == Role::Whole as u8
            && result != 0
            && probe.size != 0
            && probe.result != Place::ZERO
            && differ(registers.size(probe), entered)
        {
            atomic::add(&raw mut (*check).other_size, 1);
            agrees = false;
        }
        if result != 0
            && result != UNREADABLE
            && !is_result(core::ptr::read_volatile(&raw const (*check).glibc), result, entered)
        {
            atomic::add(&raw mut (*check).no_result, 1);
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
    let word = unsafe { bpf_probe_read_user(result.wrapping_sub(8) as *const u64) }.unwrap_or(u64::MAX);
    check::is_chunk(word, size)
}
