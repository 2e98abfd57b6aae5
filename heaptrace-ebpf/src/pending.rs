//! The call that each thread is in: pairing a return with its entry.

use heaptrace_common::{counter::Counter, record::PendingCall};

use crate::{
    atomic,
    maps::{PENDING, count, setting},
};

/// Places where a thread's slot may be; more than four threads that share the low bits of their ids, all alive,
/// cannot all be served (`Counter::PendingFull`).
const WAYS: u32 = 4;

#[inline(always)]
fn place(tid: u32, way: u32) -> u32 {
    (tid ^ way.wrapping_mul(0x9E37_79B1)) & setting!(pending_mask)
}

/// The slot that the thread owns.
#[inline(always)]
pub fn find(tid: u32) -> Option<*mut PendingCall> {
    let mut way = 0;
    while way < WAYS {
        let slot = PENDING.get_ptr_mut(place(tid, way))?;
        if unsafe { core::ptr::read_volatile(&raw const (*slot).tid) } == u64::from(tid) {
            return Some(slot);
        }
        way += 1;
    }
    None
}

/// The slot that the thread owns, or a new one.
#[inline(always)]
pub fn find_or_claim(tid: u32) -> Option<*mut PendingCall> {
    if let Some(slot) = find(tid) {
        return Some(slot);
    }
    let mut way = 0;
    while way < WAYS {
        let slot = PENDING.get_ptr_mut(place(tid, way))?;
        if unsafe { atomic::replace(&raw mut (*slot).tid, 0, u64::from(tid)) } {
            return Some(slot);
        }
        way += 1;
    }
    count(Counter::PendingFull);
    None
}

/// Gives the slot of an exiting thread back.
#[inline(always)]
pub fn release(tid: u32) {
    if let Some(slot) = find(tid) {
        unsafe {
            if (*slot).active != 0 {
                count(Counter::MissedReturn);
                (*slot).active = 0;
            }
            core::ptr::write_volatile(&raw mut (*slot).tid, 0);
        }
    }
}
