//! Numbers of records and sites that userspace has given back.

use aya_ebpf::maps::Array;
use heaptrace_common::record::{Cursors, FREE_RECORDS as RECORD_PLACES, FREE_SITES as SITE_PLACES};

use crate::{
    maps::{FREE_RECORDS, FREE_SITES},
    value::{Lookup, Value, at},
};

/// No number.
pub const NONE: u32 = u32::MAX;

/// Others may take what was seen to be free.
const TRIES: u32 = 4;

/// A record that was given back; [`NONE`] if there is none.
#[inline(always)]
pub fn record(cursors: Value<Cursors>) -> u32 {
    take(&FREE_RECORDS, RECORD_PLACES, at!(cursors.records_given), at!(cursors.records_taken))
}

/// Such records.
#[inline(always)]
pub fn records(cursors: Value<Cursors>) -> u64 {
    left(at!(cursors.records_given), at!(cursors.records_taken))
}

/// A site that was given back; [`NONE`] if there is none.
#[inline(always)]
pub fn site(cursors: Value<Cursors>) -> u32 {
    take(&FREE_SITES, SITE_PLACES, at!(cursors.sites_given), at!(cursors.sites_taken))
}

/// Such sites.
#[inline(always)]
pub fn sites(cursors: Value<Cursors>) -> u64 {
    left(at!(cursors.sites_given), at!(cursors.sites_taken))
}

#[inline(always)]
fn take(ring: &Array<u64>, places: u32, given: Value<u64>, taken: Value<u64>) -> u32 {
    let mut tries = 0;
    while tries < TRIES {
        let at = taken.load();
        if at == given.load() {
            break;
        }
        let Some(place) = ring.value(at as u32 & (places - 1)) else { break };
        // Nothing else is put in its place until it is taken.
        let number = place.load();
        if taken.replace(at, at.wrapping_add(1)) {
            return number as u32;
        }
        tries += 1;
    }
    NONE
}

#[inline(always)]
fn left(given: Value<u64>, taken: Value<u64>) -> u64 {
    // In this order it never goes below 0.
    let taken = taken.load();
    given.load().wrapping_sub(taken)
}
