//! What a probe is, and which programs probes run.

use heaptrace_common::probe::{Cookie, ProbeRecord};

/// One probe: a file offset, and what a hit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    pub offset: u64,
    pub record: ProbeRecord,
    /// File offset of what the kernel counts up meanwhile; 0 for none.
    pub semaphore: u64,
}

impl ProbeSite {
    /// As it is placed, where its hits come with this cookie.
    pub fn placed(&self, cookie: Cookie) -> PlacedSite {
        PlacedSite { offset: self.offset, cookie, semaphore: self.semaphore }
    }
}

/// One probe as it is placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacedSite {
    pub offset: u64,
    pub cookie: Cookie,
    pub semaphore: u64,
}

/// The program that probes run.
pub(super) const HIT: &str = "call_hit";

/// The one of probes that programs offer.
pub(super) const OWN: &str = "own_hit";

/// The program that verifies them.
pub(super) const CHECK: &str = "check_hit";
