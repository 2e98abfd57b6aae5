//! What `watch` prints: calls that changed a process's mappings, one a line, and in the end what they came to. As
//! text, or as one JSON object a line.

mod json;
mod render;
mod text;

pub use render::{render_calls, render_end};

#[cfg(test)]
mod tests;

use crate::{
    growth::Kind,
    model::{Profile, StackId},
};
use heaptrace_common::stack::StackEnd;
use std::collections::BTreeMap;

/// One call. Its stack is in the profile that goes with it.
#[derive(Clone, Debug)]
pub struct GrowthCall {
    /// When it returned, in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub call: &'static str,
    /// Bytes, negative when given back.
    pub delta: i64,
    /// Bytes that the process maps now; `None` if the kernel does not say.
    pub total: Option<u64>,
    pub address: u64,
    pub kind: Kind,
    pub stack: Option<StackId>,
}

/// What all calls of one process came to, shown or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrowthTotals {
    pub pid: u32,
    pub comm: String,
    pub calls: u64,
    pub grown_bytes: u64,
    pub given_back_bytes: u64,
    /// Given back by madvise, and still mapped.
    pub madvised_bytes: u64,
    /// Bytes mapped before the first call and after the last; `None` if the kernel does not say.
    pub first: Option<u64>,
    pub last: Option<u64>,
}

impl GrowthTotals {
    /// Bytes, negative if fewer.
    pub fn net(&self) -> i64 {
        self.grown_bytes.cast_signed().wrapping_sub_unsigned(self.given_back_bytes)
    }

    /// By how much other things than these calls changed what is mapped: stacks that grew, shmat, an exec.
    pub fn other(&self) -> Option<i64> {
        let change = self.last?.cast_signed().wrapping_sub_unsigned(self.first?);
        Some(change.wrapping_sub(self.net()))
    }
}

/// The end.
#[derive(Clone, Copy, Debug)]
pub struct WatchEnd<'a> {
    pub profile: &'a Profile,
    pub min_bytes: u64,
    pub shown: u64,
    /// Why stacks of the shown calls ended, and how many did.
    pub ends: &'a BTreeMap<StackEnd, u64>,
    pub totals: &'a [GrowthTotals],
    /// Text has a line for each process and file, too.
    pub verbose: bool,
}
