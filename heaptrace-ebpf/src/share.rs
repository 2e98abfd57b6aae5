//! Shares of the tables: whose a process's is, and whether it may grow. See `heaptrace_common::share`.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use heaptrace_common::{
    record::{Cursors, ProcessRecord},
    share::{self, ShareRecord},
};

use crate::{
    atomic,
    maps::{CURSORS, SHARES, setting},
    process,
};

#[inline(always)]
pub fn record(share: u32) -> Option<*mut ShareRecord> {
    SHARES.get_ptr_mut(share)
}

/// That of a process.
#[inline(always)]
pub fn of(process: u32) -> Option<*mut ShareRecord> {
    let record = process::record(process)?;
    self::record(unsafe { core::ptr::read_volatile(&raw const (*record).share) })
}

#[inline(always)]
fn is_users(share: u32) -> bool {
    share >= setting!(max_processes)
}

/// No share. No `Option`: LLVM carries its payload along where there is none, and the verifier sees that it was never
/// written.
pub const NONE: u32 = u32::MAX;

/// The current user's, who is not trusted; [`NONE`] for one who is.
#[inline(always)]
pub fn of_current_user() -> u32 {
    // The real user, as the kernel's first user namespace knows him (kernel/bpf/helpers.c).
    let uid = bpf_get_current_uid_gid() as u32;
    if uid == 0 || uid == setting!(own_user) {
        return NONE;
    }
    share::of_user(uid, setting!(secret), setting!(max_processes))
}

/// Another process has a share.
#[inline(always)]
pub fn joined(share: u32) {
    let (Some(record), Some(cursors)) = (record(share), CURSORS.get_ptr_mut(0)) else { return };
    unsafe {
        if atomic::add_short(&raw mut (*record).processes, 1) == 0 {
            atomic::add(&raw mut (*cursors).shares, 1);
        }
    }
}

/// Whether there are several shares.
#[inline(always)]
fn are_several(cursors: *const Cursors) -> bool {
    unsafe { core::ptr::read_volatile(&raw const (*cursors).shares) > 1 }
}

/// Whether a share that has `used` may take one more, where `free` are left.
#[inline(always)]
pub fn may_take(used: u32, free: u64) -> bool {
    let Some(cursors) = CURSORS.get_ptr(0) else { return false };
    share::may_take(u64::from(used), free) || !are_several(cursors)
}

/// Whether a process has so many live blocks, or a user's together, that it is not given the last place of a line.
#[inline(always)]
pub fn has_much_live(record: *const ProcessRecord) -> bool {
    let own = unsafe { core::ptr::read_volatile(&raw const (*record).live_count) };
    has_much(record, own, setting!(few_live), |share| unsafe {
        u64::from(core::ptr::read_volatile(&raw const (*share).live))
    })
}

/// The same of its calls under way.
#[inline(always)]
pub fn has_many_calls(record: *const ProcessRecord) -> bool {
    let own = unsafe { core::ptr::read_volatile(&raw const (*record).calls_under_way) };
    has_much(record, own, setting!(few_calls), |share| unsafe {
        u64::from(core::ptr::read_volatile(&raw const (*share).calls))
    })
}

#[inline(always)]
fn has_much(
    record: *const ProcessRecord,
    own: u64,
    few: u32,
    of: impl FnOnce(*const ShareRecord) -> u64,
) -> bool {
    let share = unsafe { (*record).share };
    let used = if is_users(share) { self::record(share).map_or(own, |share| of(share)) } else { own };
    used >= u64::from(few) && CURSORS.get_ptr(0).is_some_and(|cursors| are_several(cursors))
}

/// A process has another live block, or one less: its record says so itself, and a user's share says it of all his.
#[inline(always)]
pub fn count_live(record: *const ProcessRecord, change: u32) {
    if let Some(share) = users(record) {
        unsafe { atomic::add_short(&raw mut (*share).live, change) };
    }
}

/// The same of calls under way.
#[inline(always)]
pub fn count_calls(record: *const ProcessRecord, change: u32) {
    if let Some(share) = users(record) {
        unsafe { atomic::add_short(&raw mut (*share).calls, change) };
    }
}

#[inline(always)]
fn users(record: *const ProcessRecord) -> Option<*mut ShareRecord> {
    let share = unsafe { (*record).share };
    if is_users(share) { self::record(share) } else { None }
}
