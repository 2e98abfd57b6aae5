//! `watch` for programs: one object a call and line, and a last one, with the only key `summary`, for the end. Keys
//! are only ever added, at the end.

use super::{GrowthCall, WatchEnd};
use crate::printable::write_json;
use crate::{
    model::{Profile, StackId},
    report::{
        counters::Lost,
        json::{Frames, SCHEMA, Stacks, Untraceable},
        notes::{self, Fact},
    },
    units::in_seconds,
};
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
struct Call<'a> {
    time: String,
    pid: u32,
    tid: u32,
    comm: &'a str,
    call: &'static str,
    delta: i64,
    total: Option<u64>,
    addr: u64,
    kind: &'static str,
    stack: Frames<'a>,
    /// Why the stack ended; `null` if there is none.
    stack_end: Option<&'static str>,
}

#[derive(Serialize)]
struct Last<'a> {
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct Summary<'a> {
    schema: u32,
    heaptrace: &'a str,
    traced_s: f64,
    min_bytes: u64,
    calls: u64,
    shown: u64,
    processes: Vec<Process<'a>>,
    coverage: Coverage<'a>,
}

/// Of a report's coverage, what concerns calls that are no allocations.
#[derive(Serialize)]
struct Coverage<'a> {
    lost: Lost<'a>,
    /// Of the calls shown.
    stacks: Stacks,
    untraceable: Vec<Untraceable<'a>>,
    finished: bool,
    /// Sentences, one a case.
    notes: Vec<String>,
    facts: Vec<Fact<'a>>,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    comm: &'a str,
    calls: u64,
    grown_bytes: u64,
    given_back_bytes: u64,
    total: Option<u64>,
    /// At most: what was advised, whether it was in memory or not.
    madvised_bytes: u64,
    other_bytes: Option<i64>,
}

/// In no table: a call without a stack has an empty list.
const NO_STACK: StackId = StackId(u32::MAX);

pub(super) fn render_calls(profile: &Profile, calls: &[GrowthCall], out: &mut dyn Write) -> io::Result<()> {
    for GrowthCall { time_ns, pid, tid, comm, call, delta, total, address, kind, stack } in calls {
        let time = jiff::Timestamp::from_nanosecond((*time_ns).into()).unwrap_or_default();
        let line = Call {
            time: time.strftime("%FT%T%.6fZ").to_string(),
            pid: *pid,
            tid: *tid,
            comm,
            call,
            delta: *delta,
            total: *total,
            addr: *address,
            kind: kind.name(),
            stack: Frames { profile, stack: stack.unwrap_or(NO_STACK) },
            stack_end: stack
                .and_then(|stack| profile.stacks.get(stack.index()))
                .map(|stack| stack.end.name()),
        };
        write_json(&line, out)?;
        writeln!(out)?;
    }
    Ok(())
}

pub(super) fn render_end(end: &WatchEnd<'_>, out: &mut dyn Write) -> io::Result<()> {
    let WatchEnd { profile, min_bytes, shown, ends, totals, verbose: _ } = *end;
    let covered = &profile.coverage;
    let summary = Summary {
        schema: SCHEMA,
        heaptrace: &profile.heaptrace,
        traced_s: in_seconds(profile.duration_ns),
        min_bytes,
        calls: totals.iter().map(|process| process.calls).sum(),
        shown,
        processes: totals
            .iter()
            .map(|process| Process {
                pid: process.pid,
                comm: &process.comm,
                calls: process.calls,
                grown_bytes: process.grown_bytes,
                given_back_bytes: process.given_back_bytes,
                total: process.last,
                madvised_bytes: process.madvised_bytes,
                other_bytes: process.other(),
            })
            .collect(),
        coverage: Coverage {
            lost: Lost(&covered.counts),
            stacks: Stacks::new(ends.clone()),
            untraceable: covered.untraceable.iter().map(Untraceable::new).collect(),
            finished: covered.finished,
            notes: notes::sentences(&covered.notes),
            facts: notes::facts(&covered.notes),
        },
    };
    write_json(&Last { summary }, out)?;
    writeln!(out)
}
