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

/// A ring of such numbers.
pub struct Free {
    ring: &'static Array<u64>,
    places: u32,
    given: Value<u64>,
    taken: Value<u64>,
}

/// Records that were given back.
#[inline(always)]
pub fn records(cursors: Value<Cursors>) -> Free {
    let (given, taken) = (at!(cursors.records_given), at!(cursors.records_taken));
    Free { ring: &FREE_RECORDS, places: RECORD_PLACES, given, taken }
}

/// Sites that were given back.
#[inline(always)]
pub fn sites(cursors: Value<Cursors>) -> Free {
    let (given, taken) = (at!(cursors.sites_given), at!(cursors.sites_taken));
    Free { ring: &FREE_SITES, places: SITE_PLACES, given, taken }
}

impl Free {
    /// How many there are.
    #[inline(always)]
    pub fn left(&self) -> u64 {
        // In this order it never goes below 0.
        let taken = self.taken.load();
        self.given.load().wrapping_sub(taken)
    }

    /// One of them; [`NONE`] if there is none.
    #[inline(always)]
    pub fn take(&self) -> u32 {
        let mut tries = 0;
        while tries < TRIES {
            let at = self.taken.load();
            if at == self.given.load() {
                break;
            }
            let Some(place) = self.ring.value(at as u32 & (self.places - 1)) else { break };
            // Nothing else is put in its place until it is taken.
            let number = place.load();
            if self.taken.replace(at, at.wrapping_add(1)) {
                return number as u32;
            }
            tries += 1;
        }
        NONE
    }
}
