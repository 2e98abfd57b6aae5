//! The page's table of stacks: what each process has of each stack.

use super::calls::Calls;
use super::names::PIECE;
use super::page;
use crate::model::{ProcessId, SiteId};
use crate::report::Options;
use crate::report::labels::Labels;
use crate::report::select::{Estimated, chosen, estimated, sites};
use crate::report::stacks::{Measure, Stacks};
use crate::report::verdicts;
use crate::units::in_seconds;
use crate::verdicts::{Judgement, Verdict};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

/// Of those that are not there.
const NONE: u32 = u32::MAX;

/// What a measure is called in the page's data.
pub(super) const fn key(measure: Measure) -> &'static str {
    match measure {
        Measure::Allocated => "alloc",
        Measure::Live => "live",
        Measure::Mapped => "mapped",
        Measure::Touched => "touched",
    }
}

/// The numbers of the processes that are shown: their places in the page's list of them.
fn places(stacks: &Stacks<'_>, options: &Options) -> HashMap<ProcessId, u32> {
    let all = (0..).map(ProcessId).zip(&stacks.profile.processes);
    all.filter(|(_, process)| chosen(process, options)).map(|(id, _)| id).zip(0..).collect()
}

/// Stacks of processes, and what they have.
#[derive(Default, Serialize)]
struct StacksPiece {
    process: Vec<u32>,
    /// The innermost one.
    call: Vec<u32>,
    /// How many of the inner ones are not the user's; never all.
    folded: Vec<u32>,
    /// By measure.
    bytes: BTreeMap<&'static str, Vec<u64>>,
    count: BTreeMap<&'static str, Vec<u64>>,
    /// Of the oldest live block; `null` where there is none.
    oldest_s: Vec<Option<f64>>,
    /// Between what the bytes that the report is about lie, 95 times in 100; none where blocks are not sampled.
    low: Vec<u64>,
    high: Vec<u64>,
    /// What its blocks look like: with the evidence where they look like more and more, else in a word.
    verdict: Vec<Option<String>>,
}

/// What sites know beside what a stack is weighed by.
#[derive(Default)]
struct Beside {
    oldest_ns: Option<u64>,
    estimated: Option<Estimated>,
    /// The most suspicious one.
    judged: Option<Judgement>,
}

/// Writes all rows in their order.
pub(super) fn write(
    stacks: &Stacks<'_>,
    labels: &Labels<'_>,
    calls: &Calls,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let places = places(stacks, options);
    let mut beside: HashMap<_, Beside> =
        stacks.rows.iter().map(|row| ((row.process, row.stack), Beside::default())).collect();
    // None of those of blocks is left out before.
    for (site_id, site) in (0..).map(SiteId).zip(sites(stacks.profile, options.view)) {
        if let Some(of) = beside.get_mut(&(site.process, Some(site.stack))) {
            of.oldest_ns = of.oldest_ns.max(site.oldest_age_ns);
            let part = estimated(site, stacks.profile, options.view);
            of.estimated = match (of.estimated, part) {
                (Some(sum), Some(part)) => Some(sum.with(part)),
                (sum, part) => sum.or(part),
            };
            let judged = verdicts::of_site(stacks.profile, site_id).filter(|_| options.view.is_of_blocks());
            of.judged = of.judged.into_iter().chain(judged).min_by_key(Judgement::rank);
        }
    }
    let is_sampled = stacks.profile.mode.sample_bytes() > 0;
    for rows in stacks.rows.chunks(PIECE) {
        let mut piece = StacksPiece::default();
        for row in rows {
            piece.process.push(places.get(&row.process).copied().unwrap_or(NONE));
            piece.call.push(calls.end(row.stack).unwrap_or(NONE));
            piece.folded.push(labels.folded(row.stack) as u32);
            for (measure, amount) in stacks.measures.iter().zip(row.amounts) {
                piece.bytes.entry(key(*measure)).or_default().push(amount.bytes);
                piece.count.entry(key(*measure)).or_default().push(amount.count);
            }
            let of = beside.get(&(row.process, row.stack));
            piece.oldest_s.push(of.and_then(|of| of.oldest_ns).map(in_seconds));
            piece.verdict.push(of.and_then(|of| of.judged).map(|judged| told(&judged, is_sampled)));
            if is_sampled {
                let bytes = stacks.bytes(row);
                let interval = of.and_then(|of| of.estimated).map(|of| of.bytes.interval95());
                let (low, high) = interval.unwrap_or((bytes, bytes));
                piece.low.push(low);
                piece.high.push(high);
            }
        }
        page::data(out, "stacks", &piece)?;
    }
    Ok(())
}

/// In full only of what grows, which people are to look at.
fn told(judged: &Judgement, is_sampled: bool) -> String {
    match judged.verdict {
        Verdict::LeakLike | Verdict::WarmingUp => verdicts::in_words(judged, is_sampled),
        Verdict::CacheLike | Verdict::PoolLike | Verdict::Steady => judged.verdict.title().to_owned(),
    }
}
