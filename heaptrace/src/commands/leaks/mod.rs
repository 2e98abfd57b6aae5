//! `heaptrace leaks`: prints old outstanding blocks, or memory that is held, again and again.

mod args;
mod judged;
mod trends;

pub use args::LeaksArgs;

use super::{
    output::Output,
    prints::Prints,
    target_args::{FollowArgs, session_options},
    threshold_args::say_crossed,
    tracing::{Prepared, exit_code, say_end},
    work::{Ended, Work},
};
use crate::{
    attribution::{Attribution, Suppressions},
    bpf::{Calls, MapSizes},
    engine::{Engine, Looks, Snapshots},
    error::Usage,
    model::{Amount, Cohorts, Mode, Names, OldBlocks, SiteId, StackId, Trend},
    printable::say,
    process::system::now_ns,
    report::{
        Leaks, Merged, PrintFormat, Thresholds, crossed_leaks, ignore_leaks, merge_leaks, render_leaks,
        uncounted_leaks, undecided_leaks,
    },
    session::SessionOptions,
    verdicts::{Judgement, judge_all},
};
use std::{collections::BTreeMap, ops::ControlFlow, process::ExitCode, time::Duration};
use trends::Trends;

/// Runs `heaptrace leaks`.
///
/// # Errors
/// If nothing can be traced ([`crate::error::CannotTrace`] is the cause), or the prints cannot be written.
pub fn run(args: LeaksArgs) -> anyhow::Result<ExitCode> {
    let LeaksArgs {
        target,
        older_than,
        interval,
        top,
        format,
        output,
        trace,
        threads,
        follow,
        filter,
        stacks,
        sizes,
        frames,
        ignore,
        thresholds,
        raw,
        verbose,
    } = args;
    let frames = frames.attribution()?;
    let suppressions = ignore.suppressions()?;
    let thresholds = thresholds.thresholds();
    let target = target.target()?;
    let tracing = threads.of(trace.of(&target)?)?;
    check_thresholds(tracing.mode, thresholds)?;
    let events = sizes.max_events.is_none().then(|| events(tracing.mode));
    let options = session_options(&target, &follow, &filter, &sizes, Some(&stacks), tracing)?;
    let calls = if tracing.mode.has_blocks() { Calls::Summed } else { Calls::Followed };
    let sizes = MapSizes { events: events.unwrap_or(options.sizes.events), ..options.sizes };
    let options = SessionOptions { log: verbose.bpf(), keep_old: Some(older_than), calls, sizes, ..options };
    let FollowArgs { duration, kill, propagate_exit, .. } = follow;
    let out = Output::open(&output)?.with(raw.numbers());
    let mut prepared = Prepared::new("leaks", target, &options)?;
    // Of a process that exits, what was seen the last time is all there is to know.
    let unmapped = calls == Calls::Followed;
    prepared.engine.look_into(Looks { unmapped, ..Looks::default() });
    let mut printing = Printing {
        trends: Trends::default(),
        prints: Prints::start(),
        number: 0,
        older_than,
        top,
        format,
        verbose: verbose.footer(),
        frames,
        suppressions,
        thresholds,
        crossed: Vec::new(),
        undecided: Vec::new(),
        out,
    };
    let mut running = prepared.begin(duration, kill)?;
    let why = running.follow(Some(interval), &mut printing)?;
    running.detach();
    running.engine.drain_last();
    // What is too much is so even if nobody reads.
    let judges = thresholds != Thresholds::default();
    let mut reads = why != Ended::NoReader;
    if reads || judges {
        reads &= running.print_rest(&mut printing)?.is_continue();
    }
    if reads || judges {
        reads &= printing.print_once(&mut running.engine, true)?.is_continue();
    }
    if reads || judges {
        // Whether anybody still reads makes no difference any more.
        let _ = running.print_rest(&mut printing)?;
    }
    let ended = running.end_of_command(why);
    say_end(ended.as_ref(), why);
    for undecided in &printing.undecided {
        say(format_args!("{undecided}"));
    }
    let crossed = say_crossed(&printing.crossed);
    Ok(crossed.unwrap_or_else(|| exit_code(ended.as_ref(), propagate_exit)))
}

/// # Errors
/// If a mode cannot tell whether a threshold is crossed.
fn check_thresholds(mode: Mode, Thresholds { above, leak_like }: Thresholds) -> Result<(), Usage> {
    let name = mode.name();
    if above.is_some() && mode.ends_unseen() {
        return Err(Usage(format!(
            "--fail-above is for modes that trace frees: in {name} what is live is at most what is shown, and may be nothing"
        )));
    }
    if leak_like && !mode.has_blocks() {
        return Err(Usage(format!("--fail-on is for modes that trace blocks: {name} has no verdicts")));
    }
    Ok(())
}

/// Events that may wait to be read, where nobody says how many: each call that maps memory is one, and each page fault.
fn events(mode: Mode) -> u32 {
    let times = match mode {
        Mode::Growth => 4,
        // A processor makes half a million a second, and they are read twenty times a second.
        Mode::Faults => 16,
        _ => 1,
    };
    times * MapSizes::default().events
}

/// Sites that are named, so that those that read the same are one row: a look into debug information takes its time.
const NAMED: usize = 2_000;

struct Printing {
    trends: Trends,
    prints: Prints<Print>,
    number: u64,
    older_than: Duration,
    top: usize,
    format: PrintFormat,
    verbose: bool,
    frames: Attribution,
    suppressions: Option<Suppressions>,
    thresholds: Thresholds,
    /// What of the last print is too much, in words.
    crossed: Vec<String>,
    /// What of it could not be judged, or does not count, where it was to be.
    undecided: Vec<String>,
    out: Output,
}

/// What is printed of the engine's latest snapshot: there is none after it before this is out.
struct Print {
    last: bool,
    time_ns: i64,
    /// The most suspicious first.
    trends: Vec<Trend>,
    judged: BTreeMap<SiteId, Judgement>,
    cohorts: BTreeMap<SiteId, Cohorts>,
    younger: Amount,
    exited: Amount,
    removed: Amount,
    gone: Amount,
}

impl Work for Printing {
    type Form = Snapshots;

    fn tick(&mut self, _: &mut Engine<Snapshots>) -> anyhow::Result<()> {
        Ok(())
    }

    fn print(&mut self, engine: &mut Engine<Snapshots>) -> anyhow::Result<ControlFlow<()>> {
        self.print_once(engine, false)
    }

    fn waits(&self) -> bool {
        self.prints.are_waiting()
    }

    async fn found(&mut self) -> Names {
        self.prints.found().await
    }

    fn take(&mut self, engine: &mut Engine<Snapshots>, names: Names) -> anyhow::Result<ControlFlow<()>> {
        engine.name(names)?;
        self.prints.look_up(engine.session());
        self.print_ready(engine)
    }
}

impl Printing {
    /// After the engine was drained, and where no print waits.
    fn print_once(&mut self, engine: &mut Engine<Snapshots>, last: bool) -> anyhow::Result<ControlFlow<()>> {
        let OldBlocks { mut sites, younger, removed, gone, cohorts } = engine.old_blocks(self.older_than)?;
        let profile = engine.snapshot()?;
        let mut exited = Amount::default();
        // While others run, what they hold matters; in the end, all that was never freed.
        sites.retain(|old| {
            let keep = last || !old.exited;
            if !keep {
                exited.add(old.amount());
            }
            keep
        });
        let judged = judge_all(&cohorts, profile.mode);
        let mut trends = self.trends.update(&sites);
        judged::order(&mut trends, &judged);
        // What is ignored, and what reads the same, is known by its names. What is far behind is merged without.
        let merges = self.format == PrintFormat::Text || self.thresholds.leak_like;
        let looked_up = match () {
            () if self.suppressions.is_some() => trends.len(),
            () if merges => self.top.max(NAMED),
            () => self.top,
        };
        let sites =
            trends.iter().take(looked_up).filter_map(|trend| profile.holders().get(trend.old.site.index()));
        let stacks: Vec<StackId> = sites.map(|site| site.stack).collect();
        let print =
            Print { last, time_ns: now_ns(), trends, judged, cohorts, younger, exited, removed, gone };
        self.prints.add(print, &profile, stacks.into_iter(), engine.session());
        // Let go of before it gets its symbols, or a successor, which it becomes.
        drop(profile);
        self.print_ready(engine)
    }

    fn print_ready(&mut self, engine: &Engine<Snapshots>) -> anyhow::Result<ControlFlow<()>> {
        while let Some(print) = self.prints.next_ready() {
            let Print { last, time_ns, mut trends, mut judged, cohorts, younger, exited, removed, gone } =
                print;
            let ignored = self.suppressions.as_ref();
            let ignored =
                ignored.map(|suppressions| ignore_leaks(&mut trends, engine.latest(), suppressions));
            let mut stacks = BTreeMap::new();
            let profile = engine.latest();
            // Whatever is printed, a threshold goes by the rows that people see.
            let judges = last && self.thresholds != Thresholds::default();
            if judges || self.format == PrintFormat::Text {
                let merged = merge_leaks(trends.clone(), &cohorts, profile, &self.frames);
                if judges {
                    self.crossed = crossed_leaks(profile, &self.frames, &merged, self.thresholds);
                    let undecided = undecided_leaks(&merged, self.thresholds);
                    let uncounted = uncounted_leaks(profile, &merged, self.thresholds);
                    self.undecided = undecided.into_iter().chain(uncounted).collect();
                }
                if self.format == PrintFormat::Text {
                    Merged { trends, judged, stacks } = merged;
                    judged::order(&mut trends, &judged);
                }
            }
            let (shown, hidden) = trends.split_at(self.top.min(trends.len()));
            self.number += 1;
            let leaks = Leaks {
                profile,
                number: self.number,
                last,
                time_ns,
                older_than_ns: u64::try_from(self.older_than.as_nanos()).unwrap_or(u64::MAX),
                shown,
                hidden,
                stacks: &stacks,
                judged: &judged,
                younger,
                exited,
                removed,
                gone,
                ignored: ignored.as_ref(),
                verbose: self.verbose,
                frames: &self.frames,
            };
            if self.out.print(|out| render_leaks(self.format, &leaks, out))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
