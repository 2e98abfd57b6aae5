//! What `leaks` prints, again and again: old outstanding blocks by stack, or memory that is held. As text, or as one JSON object
//! a line.

mod json;
mod merged;
mod render;
mod text;
mod thresholds;

pub use merged::{Merged, merge};
pub use render::render;
pub use thresholds::{crossed, ignore, uncounted, undecided};

#[cfg(test)]
mod tests;

use crate::attribution::Attribution;
use crate::model::{Amount, Mode, Old, Profile, SiteId, Trend};
use crate::report::Ignored;
use crate::verdicts::Judgement;
use clap::ValueEnum;
use std::collections::BTreeMap;

/// How prints are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PrintFormat {
    #[default]
    Text,
    /// One object a print and line.
    Json,
}

/// One print. Its sites and their symbols are in the profile.
#[derive(Clone, Copy, Debug)]
pub struct Leaks<'a> {
    pub profile: &'a Profile,
    /// Counted from 1.
    pub number: u64,
    /// The last one.
    pub last: bool,
    /// Now, in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    pub older_than_ns: u64,
    /// The most suspicious, in order.
    pub shown: &'a [Trend],
    /// Old blocks that are not shown.
    pub hidden: &'a [Trend],
    /// Of those that stand for more than one stack: for how many.
    pub stacks: &'a BTreeMap<SiteId, u64>,
    /// Of those that can be judged.
    pub judged: &'a BTreeMap<SiteId, Judgement>,
    /// Outstanding and not old enough.
    pub younger: Amount,
    /// Old blocks of processes that exited: only the last print shows them.
    pub exited: Amount,
    /// See `OldBlocks`.
    pub removed: Amount,
    /// See `OldBlocks`.
    pub gone: Amount,
    /// Where somebody has judged stacks already: theirs, which are neither shown nor hidden.
    pub ignored: Option<&'a Ignored>,
    /// Text has a line for each process and file in its footer, too.
    pub verbose: bool,
    /// What of stacks text shows.
    pub frames: &'a Attribution,
}

/// What is counted, one and many.
fn units(mode: Mode) -> (&'static str, &'static str) {
    match mode {
        Mode::Growth => ("range", "ranges"),
        Mode::Faults => ("page", "pages"),
        Mode::Exact | Mode::Allocs | Mode::Sampled(_) | Mode::Native => ("block", "blocks"),
    }
}

/// Whether what is shown of a site is that much, and neither estimated nor at most that. Pages of a process that has exited could
/// not be looked at any more.
fn is_exact(mode: Mode, old: &Old) -> bool {
    match mode {
        Mode::Exact | Mode::Growth => true,
        Mode::Faults => !old.exited,
        Mode::Allocs | Mode::Sampled(_) | Mode::Native => false,
    }
}

/// Bytes, blocks and stacks of `trends`, some of which stand for several.
fn sum<'a>(trends: impl IntoIterator<Item = &'a Trend>, several: &BTreeMap<SiteId, u64>) -> (u64, u64, u64) {
    trends.into_iter().fold((0, 0, 0), |(bytes, blocks, stacks), Trend { old, .. }| {
        (bytes + old.bytes, blocks + old.count, stacks + several.get(&old.site).unwrap_or(&1))
    })
}
