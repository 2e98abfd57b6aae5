//! What is outstanding and old, as `leaks` shows it: blocks, or where none are traced memory.

use super::{Cohorts, SiteId, Sums};
use std::collections::BTreeMap;

/// What is old at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldBlocks {
    pub sites: Vec<Old>,
    /// Outstanding too, and not old enough.
    pub younger: Amount,
    /// Outstanding when their processes exited, and removed from the live map since: it had to make room. Where blocks are
    /// sampled, the count is of samples.
    pub removed: Amount,
    /// Neither outstanding nor freed: see [`super::Totals::gone_bytes`].
    pub gone: Amount,
    /// How blocks of sites came and stayed, old or not, of those in the live map.
    pub cohorts: BTreeMap<SiteId, Cohorts>,
}

/// Bytes in so many blocks; of memory, in ranges that were mapped, or pages that were touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub bytes: u64,
    pub count: u64,
}

impl Amount {
    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.count = self.count.saturating_add(other.count);
    }
}

/// The old blocks of one site. Ages are of those blocks alone; of a process that exited, at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// Of [`super::Profile::holders`].
    pub site: SiteId,
    pub bytes: u64,
    pub count: u64,
    pub oldest_ns: u64,
    pub youngest_ns: u64,
    pub exited: bool,
    /// What `bytes` and `count` are estimated from, where blocks are sampled.
    pub samples: Option<Sums>,
}

impl Old {
    pub const fn amount(&self) -> Amount {
        Amount { bytes: self.bytes, count: self.count }
    }
}

/// The old blocks of one site, and how they have become so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trend {
    pub old: Old,
    /// Since the last print; `None` in the first.
    pub change: Option<Change>,
    /// Prints in a row in which the bytes rose; those in which they stayed as they were do not count.
    pub growing: u32,
}

/// More or less than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub bytes: i64,
    pub count: i64,
}
