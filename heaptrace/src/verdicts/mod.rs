//! What a site's blocks make of it: a leak, a cache, a pool, something that fills, or nothing to look at. From how its blocks came,
//! went and stayed, by when they were allocated. Pure; `docs/verdicts.md` has the rule in words, and how often it errs.

mod rule;

#[cfg(test)]
mod simulated_tests;

pub use rule::{judge, judge_all, judge_together};

use std::cmp::Reverse;

/// What a site looks like, the most suspicious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Some of its blocks, or all, are never freed, and that goes on.
    LeakLike,
    /// It grows, and it is too early to say how that ends; or it grows slower and slower.
    WarmingUp,
    /// Its blocks live for long, and as many are freed as are allocated.
    CacheLike,
    /// Its blocks stay, and no more are allocated.
    PoolLike,
    /// No growth beyond noise.
    Steady,
}

impl Reason {
    /// Whether more time would tell.
    pub const fn is_too_early(self) -> bool {
        matches!(self, Self::TooEarly { .. } | Self::JustBegun { .. })
    }
}

impl Verdict {
    /// In capitals, as text has it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::LeakLike => "LEAK-LIKE",
            Self::WarmingUp => "WARMING UP",
            Self::CacheLike => "CACHE-LIKE",
            Self::PoolLike => "POOL-LIKE",
            Self::Steady => "STEADY",
        }
    }

    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeakLike => "leak-like",
            Self::WarmingUp => "warming-up",
            Self::CacheLike => "cache-like",
            Self::PoolLike => "pool-like",
            Self::Steady => "steady",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No block was freed for longer than most things take to fill.
    NothingFreed,
    /// Of the older blocks a part is live that does not become smaller with age.
    NoneOfTheOldFreed,
    /// Blocks are replaced by larger ones.
    LargerAndLarger,
    /// It was looked at for too short a time: so many nanoseconds are missing.
    TooEarly { needed_ns: u64 },
    /// Its first block came so late that its own time is too short, however long others were looked at.
    JustBegun { age_ns: u64, needed_ns: u64 },
    /// Fewer blocks stay than in the beginning: so much less of them, in percent.
    Slowing { percent: u64 },
    /// It grows, but what is old is freed.
    OldFreed,
    /// As many are freed as are allocated.
    Balanced,
    /// Nothing is allocated any more.
    Stopped,
    /// None of the above.
    NoGrowth,
}

/// A verdict with its evidence. Where blocks are sampled, counts are of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reason: Reason,
    /// Since the site's first block.
    pub span_ns: u64,
    /// Blocks of this age and older are the old ones, of which the following are.
    pub old_age_ns: u64,
    pub old_allocated: u64,
    pub old_live: u64,
    /// Of all ages.
    pub live: u64,
    pub allocated: u64,
    pub freed: u64,
    /// In the last third of the time.
    pub late_ns: u64,
    pub late_allocated: u64,
    pub late_freed: u64,
    /// Age of the oldest live block, to the length of a cohort.
    pub oldest_ns: u64,
    /// By how many bytes blocks that stay become more in a minute.
    pub bytes_per_minute: u64,
    /// Whether frees are traced; else what is live is at most that.
    pub knows_frees: bool,
}

impl Judgement {
    /// What sites are ordered by, the most suspicious first.
    pub fn rank(&self) -> (Verdict, Reverse<u64>) {
        (self.verdict, Reverse(self.bytes_per_minute))
    }
}

/// The same where sites without a verdict are among them, and those that do not grow are alike.
pub fn suspicion(judgement: Option<&Judgement>) -> (Verdict, Reverse<u64>) {
    let grows = |of: &&Judgement| matches!(of.verdict, Verdict::LeakLike | Verdict::WarmingUp);
    judgement.filter(grows).map_or((Verdict::Steady, Reverse(0)), Judgement::rank)
}
