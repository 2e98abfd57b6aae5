//! The parts of a process's RSS, and how each is known.

use crate::model::{Extent, Traced};
use serde::Serialize;

/// How a part is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Counted, by the kernel, by tracing, or in the heap itself.
    Measured,
    /// Computed from what was counted; right as far as the named assumption is.
    Inferred,
    /// Several things together: how much each of them is at most.
    Bound,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    TracedLive,
    /// In use and not counted as live: from before tracing, as a rule.
    BeforeAttach,
    AllocatorSlack,
    AllocatorFree,
    AllocatorTop,
    /// Free pages that jemalloc keeps.
    AllocatorPages,
    AllocatorMetadata,
    /// Where the allocator cannot be read: anonymous memory but for the traced blocks. An upper bound of `BeforeAttach`.
    Undivided,
    ThreadStacks,
    MainStack,
    FileBacked,
    FileCopied,
    Shared,
    OtherAnonymous,
    Kernel,
}

/// A part of the RSS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub part: PartKind,
    /// What it is in words.
    pub name: &'static str,
    pub resident_bytes: u64,
    /// Its bytes in memory or not; `None` where it has no addresses of its own.
    pub virtual_bytes: Option<u64>,
    /// Between these lies `resident_bytes`; both are the same where it is known.
    pub least_bytes: u64,
    pub most_bytes: u64,
    pub how: How,
    /// Where it comes from, or what it assumes.
    pub why: String,
}

/// Resident bytes that are still to be told apart.
pub(super) struct Left(pub(super) u64);

impl Left {
    pub(super) fn take(&mut self, wanted: u64) -> u64 {
        let got = wanted.min(self.0);
        self.0 -= got;
        got
    }
}

/// A part that is known as well as it can be.
pub(super) fn known(part: PartKind, name: &'static str, extent: Extent, how: How, why: &str) -> Part {
    let Extent { virtual_bytes, resident_bytes } = extent;
    Part {
        part,
        name,
        resident_bytes,
        virtual_bytes: Some(virtual_bytes),
        least_bytes: resident_bytes,
        most_bytes: resident_bytes,
        how,
        why: why.to_owned(),
    }
}

/// The live blocks: what of them is in memory, or an estimate, with bounds.
pub(super) struct Live {
    pub(super) requested: Extent,
    pub(super) least: u64,
    pub(super) most: u64,
    pub(super) slack: Extent,
    how: How,
    why: &'static str,
}

const TRACED: &str = "traced live";
const LOOKED_AT: &str = "requested bytes of blocks allocated since tracing began and not freed";

impl Live {
    /// `held`: what the allocator holds in use, of which the live blocks are a part.
    pub(super) fn of(traced: &Traced, held: Extent, slack_is_known: bool) -> Self {
        if let Some(blocks) = traced.blocks {
            let resident = blocks.requested.resident_bytes.min(held.resident_bytes);
            let how = if blocks.exact { How::Measured } else { How::Inferred };
            let why = match blocks.exact {
                true => LOOKED_AT,
                false => {
                    "requested bytes of blocks allocated since tracing began; resident by their mappings' share"
                }
            };
            let slack = if slack_is_known { blocks.slack } else { Extent::default() };
            return Self { requested: blocks.requested, least: resident, most: resident, slack, how, why };
        }
        let live = traced.live_bytes;
        // How much of all that is held is not in memory, and may or may not be of the live blocks.
        let missing = held.virtual_bytes.saturating_sub(held.resident_bytes);
        let most = live.min(held.resident_bytes);
        let least = live.saturating_sub(missing).min(most);
        let share = u128::from(live.min(held.virtual_bytes)) * u128::from(held.resident_bytes)
            / u128::from(held.virtual_bytes.max(1));
        let resident = u64::try_from(share).unwrap_or(u64::MAX).clamp(least, most);
        // A header of 8 bytes, and rounding by 0 to 15.
        let slack = if slack_is_known { traced.live_count.saturating_mul(16) } else { 0 };
        let slack = Extent { virtual_bytes: slack, resident_bytes: slack };
        let why =
            "requested bytes of blocks allocated since tracing began; resident in the share of all blocks";
        let requested = Extent { virtual_bytes: live, resident_bytes: resident };
        Self { requested, least, most, slack, how: How::Inferred, why }
    }

    pub(super) fn part(&self, resident: u64) -> Part {
        Part {
            part: PartKind::TracedLive,
            name: TRACED,
            resident_bytes: resident,
            virtual_bytes: Some(self.requested.virtual_bytes),
            least_bytes: self.least.min(resident),
            most_bytes: self.most.max(resident),
            how: self.how,
            why: self.why.to_owned(),
        }
    }
}

/// What more is known of blocks that are in use and not traced.
pub(super) fn why_before(traced: &Traced, from: &str) -> String {
    let Traced { unknown_frees, inherited_count, filtered_count, lost_count, .. } = *traced;
    let mut why = from.to_owned();
    let also = [
        (inherited_count, "inherited at fork"),
        (filtered_count, "filtered by size"),
        (lost_count, "without room in the tables"),
    ];
    for (count, what) in also.into_iter().filter(|(count, _)| *count > 0) {
        why.push_str(&format!("; blocks {what} ({count}, some freed since) are in it"));
    }
    if unknown_frees > 0 {
        why.push_str(&format!(
            "; {unknown_frees} more blocks from before were freed since, and are not in it"
        ));
    }
    why
}
