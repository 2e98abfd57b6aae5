//! Rows for people: sites that differ in nothing that is shown are one, and are judged together.

use crate::{
    attribution::Attribution,
    model::{Change, Cohorts, Profile, Site, SiteId, Trend},
    report::{alike::groups, labels::Labels},
    verdicts::{Judgement, judge_together},
};
use std::{cmp::Reverse, collections::BTreeMap};

/// See the module.
#[derive(Debug, Default)]
pub struct Merged {
    /// By the site with most bytes of each row, the largest first.
    pub trends: Vec<Trend>,
    pub judged: BTreeMap<SiteId, Judgement>,
    /// Of rows of more than one.
    pub stacks: BTreeMap<SiteId, u64>,
}

/// Makes rows of `trends`.
pub fn merge(
    trends: Vec<Trend>,
    cohorts: &BTreeMap<SiteId, Cohorts>,
    profile: &Profile,
    frames: &Attribution,
) -> Merged {
    let labels = Labels::attributed(profile, frames);
    let known = |trend: &Trend| profile.holders().get(trend.old.site.index());
    let (trends, sites): (Vec<Trend>, Vec<&Site>) =
        trends.into_iter().filter_map(|trend| Some((trend, known(&trend)?))).unzip();
    let mut merged = Merged::default();
    for group in groups(&labels, &sites, profile.by_thread) {
        let members: Vec<&Trend> = group.iter().map(|at| &trends[*at]).collect();
        let Some(row) = members.iter().copied().copied().reduce(with) else { continue };
        let of: Vec<&Cohorts> = members.iter().filter_map(|of| cohorts.get(&of.old.site)).collect();
        if let Some(judged) = judge_together(&of, profile.mode.has_frees()) {
            merged.judged.insert(row.old.site, judged);
        }
        if members.len() > 1 {
            merged.stacks.insert(row.old.site, members.len() as u64);
        }
        merged.trends.push(row);
    }
    merged.trends.sort_by_key(|trend| (Reverse((trend.old.bytes, trend.old.count)), trend.old.site));
    merged
}

/// Two rows as one, which has the site of the larger.
fn with(one: Trend, other: Trend) -> Trend {
    let Trend { old, change, growing } = other;
    let mut sum = one;
    if (old.bytes, old.count) > (one.old.bytes, one.old.count) {
        sum.old.site = old.site;
    }
    sum.old.bytes = one.old.bytes.saturating_add(old.bytes);
    sum.old.count = one.old.count.saturating_add(old.count);
    sum.old.oldest_ns = one.old.oldest_ns.max(old.oldest_ns);
    sum.old.youngest_ns = one.old.youngest_ns.min(old.youngest_ns);
    sum.old.exited = one.old.exited && old.exited;
    sum.old.samples = match (one.old.samples, old.samples) {
        (Some(one), Some(other)) => Some(one.with(other)),
        (one, other) => one.or(other),
    };
    sum.change = one.change.zip(change).map(|(one, other)| Change {
        bytes: one.bytes.saturating_add(other.bytes),
        count: one.count.saturating_add(other.count),
    });
    sum.growing = one.growing.max(growing);
    sum
}
