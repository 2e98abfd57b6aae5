//! `heaptrace stat`: counts, and prints the counters at the end, or at every interval too.

use super::{
    headings::{OUTPUT, WHAT},
    output::{Destination, Output},
    progress::Progress,
    raw_args::RawArgs,
    size_args::SizeArgs,
    started::Fate,
    target_args::{FilterArgs, FollowArgs, TargetArgs, parse_duration, session_options},
    thread_args::ThreadArgs,
    trace_args::Tracing,
    tracing::{Prepared, exit_code, say_end},
    verbose::VerboseArgs,
    work::{Ended, Work},
};
use crate::{
    engine::{Engine, Snapshots},
    model::Mode,
    process::system::now_ns,
    report::{Glance, PrintFormat, Stat, render_stat},
    session::SessionOptions,
    target::CommandEnd,
};
use clap::{Args, ValueEnum};
use std::{ops::ControlFlow, process::ExitCode, time::Duration};

#[derive(Debug, Args)]
pub struct StatArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// What to count: the fewer probes, the less it costs.
    #[arg(long, help_heading = WHAT, value_name = "MODE", value_enum, default_value_t)]
    pub trace: Counted,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Also print at this interval: in text what happened since the last line, in JSON the totals so far.
    #[arg(long, help_heading = OUTPUT, value_name = "TIME", value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// Output format.
    #[arg(long, value_enum, default_value_t, help_heading = OUTPUT)]
    pub format: PrintFormat,
    /// Write to this file; - is standard output.
    #[arg(short, long, value_name = "OUT", default_value = "-", help_heading = OUTPUT)]
    pub output: Destination,
    #[command(flatten)]
    pub follow: FollowArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
    #[command(flatten)]
    pub raw: RawArgs,
    #[command(flatten)]
    pub verbose: VerboseArgs,
}

/// What is counted, the cheapest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Counted {
    /// Calls that map memory (brk, mmap, munmap, mremap). Nothing is probed.
    Growth,
    /// Allocations, and no frees: half the price.
    Allocs,
    /// Both.
    #[default]
    Exact,
}

impl Counted {
    fn tracing(self) -> Tracing {
        let mode = match self {
            Self::Growth => Mode::Growth,
            Self::Allocs => Mode::Allocs,
            Self::Exact => Mode::Exact,
        };
        Tracing { mode, ..Tracing::EXACT }
    }
}

/// Runs `heaptrace stat`.
///
/// # Errors
/// If nothing can be traced ([`crate::error::CannotTrace`] is the cause), or the counters cannot be written.
pub fn run(args: StatArgs) -> anyhow::Result<ExitCode> {
    let StatArgs { target, trace, threads, interval, format, output, follow, filter, sizes, raw, verbose } =
        args;
    let target = target.target()?;
    let options = session_options(&target, &follow, &filter, &sizes, None, threads.of(trace.tracing())?)?;
    let options = SessionOptions { log: verbose.bpf(), ..options };
    let FollowArgs { duration, kill, propagate_exit, .. } = follow;
    let out = Output::open(&output)?.with(raw.numbers());
    let prepared = Prepared::new("stat", target, &options)?;
    let mut counting = Counting {
        before: None,
        format,
        verbose: verbose.footer(),
        out,
        progress: interval.is_none().then(Progress::new),
    };
    let mut running = prepared.begin(duration, kill)?;
    let why = running.follow(interval, &mut counting)?;
    drop(counting.progress.take());
    running.detach();
    running.engine.drain_last();
    let ended = running.end_of_command(why);
    if why != Ended::NoReader {
        // Whether anybody still reads makes no difference any more.
        let command = ended.as_ref().and_then(Fate::end);
        let _ = counting.print_once(&mut running.engine, true, command)?;
    }
    say_end(ended.as_ref(), why);
    Ok(exit_code(ended.as_ref(), propagate_exit))
}

struct Counting {
    before: Option<Glance>,
    format: PrintFormat,
    verbose: bool,
    out: Output,
    /// Where nothing else is printed meanwhile.
    progress: Option<Progress>,
}

impl Work for Counting {
    type Form = Snapshots;

    fn tick(&mut self, engine: &mut Engine<Snapshots>) -> anyhow::Result<()> {
        if let Some(progress) = &mut self.progress {
            let (live, events, lost) = engine.session().glance();
            let cost = engine.session().recent_overhead();
            progress.show(engine.followed(), Some(live), (events, lost), cost, 0);
        }
        Ok(())
    }

    fn print(&mut self, engine: &mut Engine<Snapshots>) -> anyhow::Result<ControlFlow<()>> {
        self.print_once(engine, false, None)
    }
}

impl Counting {
    /// After the engine was drained.
    fn print_once(
        &mut self,
        engine: &mut Engine<Snapshots>,
        last: bool,
        command: Option<CommandEnd>,
    ) -> anyhow::Result<ControlFlow<()>> {
        let profile = engine.snapshot()?;
        let statistics = engine.session().statistics();
        let stat = Stat {
            profile: &profile,
            statistics: &statistics,
            last,
            time_ns: now_ns(),
            before: self.before.as_ref(),
            command,
            verbose: self.verbose,
        };
        let read = self.out.print(|out| render_stat(self.format, &stat, out));
        self.before = Some(Glance::of(&profile));
        read
    }
}
