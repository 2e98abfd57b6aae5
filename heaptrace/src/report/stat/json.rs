//! `stat` for programs: one object on a line for each print. Keys are only ever added, at the end.

use super::{
    Stat,
    scope::{Scope, scopes},
};
use crate::printable::write_json;
use crate::{
    model::{Profile, Statistics, ThreadId, Totals},
    report::{
        json::{Coverage, Host, SCHEMA, SizeClass, ThreadEntry, coverage, size_classes},
        text::started,
    },
    target::CommandEnd,
    units::in_seconds,
};
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
struct Print<'a> {
    schema: u32,
    heaptrace: &'a str,
    host: Host<'a>,
    started: String,
    time: String,
    last: bool,
    duration_s: f64,
    command: Option<Command>,
    /// `peak_live_bytes` here is the sum of the processes' own peaks, an upper bound.
    total: Counts,
    processes: Vec<Process<'a>>,
    coverage: Coverage<'a>,
    mode: &'static str,
    /// Frees were not traced: what is live is at most that.
    live_is_bound: bool,
}

/// How the command ended: one of the two.
#[derive(Serialize)]
struct Command {
    exit_code: Option<u8>,
    signal: Option<u8>,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    comm: &'a str,
    exe: &'a str,
    exited: bool,
    #[serde(flatten)]
    counts: Counts,
    /// As in the report: from the fork, or the exec that made it a target, until probes were in place.
    attach_gap_s: Option<f64>,
    attached_fraction: f64,
    /// Where threads are told apart: what each allocated, whoever freed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<Vec<Thread<'a>>>,
}

#[derive(Serialize)]
struct Thread<'a> {
    /// `null` for what found no room among the sites.
    thread: Option<ThreadEntry<'a>>,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Serialize)]
struct Sums {
    alloc_bytes: u64,
    alloc_count: u64,
    free_bytes: u64,
    free_count: u64,
    live_bytes: u64,
    live_count: u64,
}

impl Sums {
    fn of(totals: &Totals) -> Self {
        Self {
            alloc_bytes: totals.alloc_bytes,
            alloc_count: totals.alloc_count,
            free_bytes: totals.free_bytes,
            free_count: totals.free_count,
            live_bytes: totals.live_bytes(),
            live_count: totals.live_count(),
        }
    }
}

#[derive(Serialize)]
struct Counts {
    #[serde(flatten)]
    sums: Sums,
    peak_live_bytes: u64,
    alloc_bytes_per_s: f64,
    alloc_count_per_s: f64,
    failed_count: u64,
    unknown_frees: u64,
    inherited_free_count: u64,
    inherited_bytes: u64,
    inherited_count: u64,
    missed_frees: u64,
    released_bytes: u64,
    released_count: u64,
    lost_bytes: u64,
    lost_count: u64,
    filtered_bytes: u64,
    filtered_count: u64,
    brk_bytes: i64,
    mmap_bytes: u64,
    munmap_bytes: u64,
    functions: Vec<Function>,
    /// Allocated blocks by size: `[least, most, count]`, classes without blocks left out.
    sizes: Vec<SizeClass>,
    /// Freed blocks by lifetime in seconds: `[from, below, count]`, the last class without an end.
    lifetimes: Vec<(f64, Option<f64>, u64)>,
    gone_bytes: u64,
    gone_count: u64,
}

#[derive(Serialize)]
struct Function {
    function: &'static str,
    alloc_count: u64,
    alloc_bytes: u64,
    free_count: u64,
    free_bytes: u64,
    failed_count: u64,
}

pub(super) fn render(stat: &Stat<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Stat { profile, statistics, last, time_ns, before: _, command, verbose: _ } = *stat;
    let (all, each) = scopes(profile, statistics);
    let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap_or_default();
    let duration_s = in_seconds(profile.duration_ns);
    let print = Print {
        schema: SCHEMA,
        heaptrace: &profile.heaptrace,
        host: Host { kernel: &profile.host.kernel, arch: &profile.host.arch },
        started: started(profile),
        time: time.to_string(),
        last,
        duration_s,
        command: command.map(|end| match end {
            CommandEnd::Exited(code) => Command { exit_code: Some(code), signal: None },
            CommandEnd::Killed(signal) => Command { exit_code: None, signal: Some(signal) },
        }),
        total: counts(&all, duration_s),
        processes: each
            .iter()
            .map(|scope| Process {
                pid: scope.process.pid,
                comm: &scope.process.comm,
                exe: &scope.process.exe,
                exited: scope.process.exited,
                counts: counts(scope, duration_s),
                attach_gap_s: scope.process.attach_gap_ns.map(in_seconds),
                attached_fraction: scope.process.attached_fraction(),
                threads: profile.by_thread.then(|| threads(scope, profile)),
            })
            .collect(),
        coverage: coverage(profile),
        mode: profile.mode.name(),
        live_is_bound: profile.mode.has_blocks() && !profile.mode.has_frees(),
    };
    write_json(&print, out)?;
    writeln!(out)
}

fn threads<'a>(scope: &Scope, profile: &'a Profile) -> Vec<Thread<'a>> {
    let of = |(thread, totals): &(Option<ThreadId>, Totals)| Thread {
        thread: ThreadEntry::of(profile, *thread),
        sums: Sums::of(totals),
    };
    scope.threads.iter().map(of).collect()
}

fn counts(scope: &Scope, duration_s: f64) -> Counts {
    let Scope { process, functions, threads: _, growth: _, sizes, lifetimes } = scope;
    let totals = &process.totals;
    let rate = |count: u64| if duration_s > 0.0 { count as f64 / duration_s } else { 0.0 };
    Counts {
        sums: Sums::of(totals),
        peak_live_bytes: process.peak_live_bytes,
        alloc_bytes_per_s: rate(totals.alloc_bytes),
        alloc_count_per_s: rate(totals.alloc_count),
        failed_count: process.failed_count,
        unknown_frees: process.unknown_frees,
        inherited_free_count: process.inherited_free_count,
        inherited_bytes: process.inherited_bytes,
        inherited_count: process.inherited_count,
        missed_frees: process.missed_frees,
        released_bytes: totals.released_bytes,
        released_count: totals.released_count,
        lost_bytes: process.lost_bytes,
        lost_count: process.lost_count,
        filtered_bytes: process.filtered_bytes,
        filtered_count: process.filtered_count,
        brk_bytes: process.brk_bytes,
        mmap_bytes: process.mmap_bytes,
        munmap_bytes: process.munmap_bytes,
        functions: functions
            .iter()
            .map(|(function, calls)| Function {
                function: function.name(),
                alloc_count: calls.alloc_count,
                alloc_bytes: calls.alloc_bytes,
                free_count: calls.free_count,
                free_bytes: calls.free_bytes,
                failed_count: calls.failed_count,
            })
            .collect(),
        sizes: size_classes(sizes),
        lifetimes: lifetimes
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(class, count)| {
                let (from, below) = Statistics::lifetime_range(class);
                (in_seconds(from), below.map(in_seconds), *count)
            })
            .collect(),
        gone_bytes: totals.gone_bytes,
        gone_count: totals.gone_count,
    }
}
