//! What a probe is, and which programs probes run.

use heaptrace_common::probe::{Cookie, ProbeRecord};

/// One probe: a file offset, and what a hit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    pub offset: u64,
    pub record: ProbeRecord,
}

/// One probe as it is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedSite {
    pub offset: u64,
    pub cookie: Cookie,
}

/// The program that probes run.
pub(super) const HIT: &str = "call_hit";

/// The program that verifies them.
pub(super) const CHECK: &str = "check_hit";
