//! A print of `leaks` for programs: one object on a line. Keys are only ever added, at the end.

use super::{Leaks, is_exact, sum, units};
use crate::printable::write_json;
use crate::{
    model::{Amount, Profile, Trend},
    report::json::{Coverage, Frames, SCHEMA, ThreadEntry, coverage},
    report::{Ignored, ignored, select::Estimated, verdicts},
    units::in_seconds,
    verdicts::Judgement,
};
use heaptrace_common::stack::StackEnd;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
struct Print<'a> {
    schema: u32,
    heaptrace: &'a str,
    time: String,
    print: u64,
    last: bool,
    traced_s: f64,
    older_than_s: f64,
    /// All that is old, shown or not.
    old: Sum,
    not_shown: Sum,
    younger: Blocks,
    exited: Blocks,
    removed: Blocks,
    rows: Vec<Row<'a>>,
    coverage: Coverage<'a>,
    gone: Blocks,
    mode: &'static str,
    sample_bytes: u64,
    /// Frees were not traced: what is outstanding is at most that.
    live_is_bound: bool,
    /// What counts are of.
    unit: &'static str,
    /// Of stacks that suppression files name; `null` where there are none. In no other number.
    ignored: Option<ignored::Entry<'a>>,
}

#[derive(Serialize)]
struct Sum {
    bytes: u64,
    count: u64,
    stacks: u64,
}

#[derive(Serialize)]
struct Blocks {
    bytes: u64,
    count: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    pid: u32,
    comm: &'a str,
    exited: bool,
    function: &'static str,
    bytes: u64,
    count: u64,
    oldest_age_s: f64,
    youngest_age_s: f64,
    bytes_change: Option<i64>,
    count_change: Option<i64>,
    growing_prints: u32,
    stack_end: &'static str,
    stack: Frames<'a>,
    /// `null` where blocks are not sampled.
    estimate: Option<Intervals>,
    /// Neither an estimate nor a bound; but for what the coverage says was lost.
    is_exact: bool,
    /// `null` for what cannot be judged.
    verdict: Option<verdicts::Entry>,
    /// Whose calls they are, where threads are told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<ThreadEntry<'a>>,
}

/// Between what the truth lies 95 times in 100, `[low, high]`, and the samples that it is estimated from.
#[derive(Serialize)]
struct Intervals {
    samples: u64,
    bytes: (u64, u64),
    count: (u64, u64),
}

pub(super) fn render(leaks: &Leaks<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Leaks {
        profile,
        number,
        last,
        time_ns,
        older_than_ns,
        shown,
        hidden,
        stacks,
        judged,
        younger,
        exited,
        removed,
        gone,
        ignored,
        verbose: _,
        frames: _,
    } = *leaks;
    let blocks = |Amount { bytes, count }| Blocks { bytes, count };
    let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap_or_default();
    let of = |(bytes, count, stacks)| Sum { bytes, count, stacks };
    let print = Print {
        schema: SCHEMA,
        heaptrace: &profile.heaptrace,
        time: time.to_string(),
        print: number,
        last,
        traced_s: in_seconds(profile.duration_ns),
        older_than_s: in_seconds(older_than_ns),
        old: of(sum(shown.iter().chain(hidden), stacks)),
        not_shown: of(sum(hidden, stacks)),
        younger: blocks(younger),
        exited: blocks(exited),
        removed: blocks(removed),
        rows: shown.iter().filter_map(|trend| row(profile, trend, judged.get(&trend.old.site))).collect(),
        coverage: coverage(profile),
        gone: blocks(gone),
        mode: profile.mode.name(),
        sample_bytes: profile.sample_bytes(),
        live_is_bound: profile.mode.has_blocks() && !profile.mode.has_frees(),
        unit: units(profile.mode).1,
        ignored: ignored.map(Ignored::entry),
    };
    write_json(&print, out)?;
    writeln!(out)
}

fn row<'a>(profile: &'a Profile, trend: &Trend, judged: Option<&Judgement>) -> Option<Row<'a>> {
    let Trend { old, change, growing } = trend;
    let site = profile.holders().get(old.site.index())?;
    let process = profile.processes.get(site.process.index())?;
    Some(Row {
        pid: process.pid,
        comm: &process.comm,
        exited: old.exited,
        function: site.function.name(),
        bytes: old.bytes,
        count: old.count,
        oldest_age_s: in_seconds(old.oldest_ns),
        youngest_age_s: in_seconds(old.youngest_ns),
        bytes_change: change.map(|change| change.bytes),
        count_change: change.map(|change| change.count),
        growing_prints: *growing,
        stack_end: profile
            .stacks
            .get(site.stack.index())
            .map_or(StackEnd::NotWalked, |stack| stack.end)
            .name(),
        stack: Frames { profile, stack: site.stack },
        estimate: old.samples.map(|sums| {
            let Estimated { bytes, count } = Estimated::of_live(&sums, site, profile);
            Intervals { samples: sums.samples, bytes: bytes.interval95(), count: count.interval95() }
        }),
        is_exact: is_exact(profile.mode, old),
        verdict: judged.map(|judged| verdicts::Entry::new(judged, profile.mode.sample_bytes() != 0)),
        thread: ThreadEntry::of(profile, site.thread),
    })
}
