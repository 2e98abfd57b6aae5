//! What of a print is too much, and what of it somebody has judged already.

use super::{merged::Merged, units};
use crate::{
    attribution::{Attribution, Suppressions},
    model::{Amount, Profile, Trend},
    report::{
        Ignored, Thresholds,
        ignoring::Known,
        labels::Labels,
        select::Estimated,
        table::place,
        thresholds::{self, blamed, ends_heaps, too_much},
        verdicts,
    },
    units::{counted, thousands},
    verdicts::Verdict,
};
use std::collections::BTreeMap;

/// Takes out of `trends` what is to be ignored.
pub fn ignore(trends: &mut Vec<Trend>, profile: &Profile, suppressions: &Suppressions) -> Ignored {
    let known = Known::new(profile, suppressions);
    let (mut ignored, mut places) = (Ignored::default(), BTreeMap::new());
    trends.retain(|Trend { old, .. }| {
        let site = profile.holders().get(old.site.index());
        let Some(number) = site.and_then(|site| known.suppression_of(site)) else { return true };
        if let Some(suppression) = suppressions.get(number) {
            ignored.take(suppression, number, &mut places, old.amount());
        }
        false
    });
    ignored.sort();
    ignored
}

/// What of a print is too much, in words; nothing if nothing is.
pub fn crossed(
    profile: &Profile,
    frames: &Attribution,
    Merged { trends, judged, .. }: &Merged,
    thresholds: Thresholds,
) -> Vec<String> {
    let Thresholds { above, leak_like } = thresholds;
    let labels = Labels::attributed(profile, frames);
    let mut lines = Vec::new();
    let of = |trend: &Trend| {
        let site = profile.holders().get(trend.old.site.index())?;
        Some((site.process, Some(site.stack), trend.old.amount()))
    };
    let counting: Vec<&Trend> = trends.iter().filter(|trend| !is_unsure(profile, trend)).collect();
    if let Some(most) = above.filter(|most| least(profile, &counting) > *most) {
        let mut sum = Amount::default();
        counting.iter().for_each(|Trend { old, .. }| sum.add(old.amount()));
        let sites = blamed(profile, &labels, counting.iter().filter_map(|trend| of(trend)));
        lines.extend(too_much(sum, most, units(profile.mode), &sites));
    }
    if leak_like {
        let is_sampled = profile.mode.sample_bytes() != 0;
        lines.extend(trends.iter().filter_map(|trend| {
            let judged = judged.get(&trend.old.site).filter(|of| of.verdict == Verdict::LeakLike)?;
            let (process, stack, _) = of(trend)?;
            let name = place(profile, &labels, process, labels.walk_shown(stack).next());
            Some(format!("{name}: {}", verdicts::in_words(judged, is_sampled)))
        }));
    }
    lines
}

/// Whether a row's blocks may have ended with their heap.
fn is_unsure(profile: &Profile, trend: &Trend) -> bool {
    let site = profile.holders().get(trend.old.site.index());
    profile.mode.has_blocks() && site.is_some_and(|site| ends_heaps(profile, site.process))
}

/// What does not count as too much, where that is asked for.
pub fn uncounted(
    profile: &Profile,
    Merged { trends, .. }: &Merged,
    Thresholds { above, .. }: Thresholds,
) -> Option<String> {
    let mut left_out = Amount::default();
    for Trend { old, .. } in trends.iter().filter(|trend| is_unsure(profile, trend)) {
        left_out.add(old.amount());
    }
    above.and_then(|_| thresholds::uncounted(left_out))
}

/// That some could not be judged, where leaks were asked for: then no answer is none.
pub fn undecided(Merged { trends, judged, .. }: &Merged, thresholds: Thresholds) -> Option<String> {
    let is_open = |trend: &&Trend| judged.get(&trend.old.site).is_none_or(|of| of.reason.is_too_early());
    let open = trends.iter().filter(is_open).count() as u64;
    (thresholds.leak_like && open > 0).then(|| {
        format!(
            "--fail-on: {} of {} could not be judged in so short a time (trace for a minute or more)",
            thousands(open),
            counted(trends.len() as u64, "row", "rows")
        )
    })
}

/// The fewest bytes that there are: of estimates the lower end of their interval.
fn least(profile: &Profile, trends: &[&Trend]) -> u64 {
    let mut certain = 0_u64;
    let mut estimated: Option<Estimated> = None;
    for Trend { old, .. } in trends {
        match old.samples.zip(profile.holders().get(old.site.index())) {
            Some((sums, site)) => {
                let part = Estimated::of_live(&sums, site, profile);
                estimated = Some(estimated.map_or(part, |sum| sum.with(part)));
            }
            None => certain = certain.saturating_add(old.bytes),
        }
    }
    certain.saturating_add(estimated.map_or(0, |of| of.bytes.interval95().0))
}
