//! Shares of the tables: whose a process's is, and whether it may grow. See `heaptrace_common::share`.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use heaptrace_common::{
    record::{Cursors, ProcessRecord},
    share::{self, ShareRecord},
};

use crate::{
    maps::{CURSORS, SHARES, setting},
    records,
    value::{Lookup, Value, at},
};

#[inline(always)]
pub fn record(share: u32) -> Option<Value<ShareRecord>> {
    SHARES.value(share)
}

/// That of a process; [`NONE`] if there is no such.
#[inline(always)]
pub fn of(process: u32) -> u32 {
    match records::record(process) {
        Some(record) => at!(record.share).load(),
        None => NONE,
    }
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
    let (Some(record), Some(cursors)) = (record(share), CURSORS.value(0)) else { return };
    if at!(record.processes).add(1) == 0 {
        at!(cursors.shares).add(1);
    }
}

/// Whether there are several shares.
#[inline(always)]
fn are_several(cursors: Value<Cursors>) -> bool {
    at!(cursors.shares).load() > 1
}

/// Whether a share that has `used` may take one more, where `free` are left.
#[inline(always)]
pub fn may_take(cursors: Value<Cursors>, share: u32, used: u32, free: u64) -> bool {
    !is_users(share) || share::may_take(u64::from(used), free) || !are_several(cursors)
}

/// Whether a user's processes together have so many live blocks that they are not given the last place of a line.
#[inline(always)]
pub fn has_much_live(record: Value<ProcessRecord>) -> bool {
    let few = setting!(few_live);
    users(record).is_some_and(|share| at!(share.live).load() >= few) && several()
}

/// The same of their calls under way.
#[inline(always)]
pub fn has_many_calls(record: Value<ProcessRecord>) -> bool {
    let few = setting!(few_calls);
    users(record).is_some_and(|share| at!(share.calls).load() >= few) && several()
}

#[inline(always)]
fn several() -> bool {
    CURSORS.value(0).is_some_and(are_several)
}

/// A process has another live block, or one less: a user's share has those of all his.
#[inline(always)]
pub fn count_live(record: Value<ProcessRecord>, change: u32) {
    if let Some(share) = users(record) {
        at!(share.live).add(change);
    }
}

/// The same of calls under way.
#[inline(always)]
pub fn count_calls(record: Value<ProcessRecord>, change: u32) {
    if let Some(share) = users(record) {
        at!(share.calls).add(change);
    }
}

#[inline(always)]
fn users(record: Value<ProcessRecord>) -> Option<Value<ShareRecord>> {
    let share = at!(record.share).get();
    if is_users(share) { self::record(share) } else { None }
}
