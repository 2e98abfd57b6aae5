//! Numbers of records and sites that userspace has given back.

use aya_ebpf::maps::Array;
use heaptrace_common::record::{Cursors, FREE_RECORDS as RECORD_PLACES, FREE_SITES as SITE_PLACES};

use crate::{
    atomic,
    maps::{FREE_RECORDS, FREE_SITES},
};

/// No number.
pub const NONE: u32 = u32::MAX;

/// Others may take what was seen to be free.
const TRIES: u32 = 4;

/// A record that was given back; [`NONE`] if there is none.
#[inline(always)]
pub fn record(cursors: *mut Cursors) -> u32 {
    // SAFETY: `cursors` is the map's element.
    unsafe {
        let taken = &raw mut (*cursors).records_taken;
        take(&FREE_RECORDS, RECORD_PLACES, &raw const (*cursors).records_given, taken)
    }
}

/// Such records.
#[inline(always)]
pub fn records(cursors: *const Cursors) -> u64 {
    // SAFETY: as in [`record`].
    unsafe { left(&raw const (*cursors).records_given, &raw const (*cursors).records_taken) }
}

/// A site that was given back; [`NONE`] if there is none.
#[inline(always)]
pub fn site(cursors: *mut Cursors) -> u32 {
    // SAFETY: as in [`record`].
    unsafe {
        let taken = &raw mut (*cursors).sites_taken;
        take(&FREE_SITES, SITE_PLACES, &raw const (*cursors).sites_given, taken)
    }
}

/// Such sites.
#[inline(always)]
pub fn sites(cursors: *const Cursors) -> u64 {
    // SAFETY: as in [`record`].
    unsafe { left(&raw const (*cursors).sites_given, &raw const (*cursors).sites_taken) }
}

#[inline(always)]
unsafe fn take(ring: &Array<u64>, places: u32, given: *const u64, taken: *mut u64) -> u32 {
    let mut tries = 0;
    while tries < TRIES {
        unsafe {
            let at = core::ptr::read_volatile(taken);
            if at == core::ptr::read_volatile(given) {
                break;
            }
            let Some(place) = ring.get_ptr(at as u32 & (places - 1)) else { break };
            // Nothing else is put in its place until it is taken.
            let number = core::ptr::read_volatile(place);
            if atomic::replace(taken, at, at.wrapping_add(1)) {
                return number as u32;
            }
        }
        tries += 1;
    }
    NONE
}

#[inline(always)]
unsafe fn left(given: *const u64, taken: *const u64) -> u64 {
    // In this order it never goes below 0.
    unsafe {
        let taken = core::ptr::read_volatile(taken);
        core::ptr::read_volatile(given).wrapping_sub(taken)
    }
}
