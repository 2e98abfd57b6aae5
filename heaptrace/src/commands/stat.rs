//! `heaptrace stat`: counts, and prints the counters at the end, or at every interval too.

use super::{
    headings::OUTPUT,
    output::{Destination, Output},
    outside::now_ns,
    progress::Progress,
    size_args::SizeArgs,
    target_args::{FilterArgs, FollowArgs, TargetArgs, parse_duration, session_options},
    tracing::{Prepared, exit_code, say_end},
    verbose::VerboseArgs,
    work::{Ended, Work},
};
use crate::{
    model::Profile,
    report::{Glance, PrintFormat, Stat, render_stat},
    session::{Session, SessionOptions},
    target::CommandEnd,
};
use clap::Args;
use std::{ops::ControlFlow, process::ExitCode, time::Duration};

#[derive(Debug, Args)]
pub struct StatArgs {
    #[command(flatten)]
    pub target: TargetArgs,
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
    pub verbose: VerboseArgs,
}

/// Runs `heaptrace stat`.
///
/// # Errors
/// If nothing can be traced ([`crate::error::CannotTrace`] is the cause), or the counters cannot be written.
pub fn run(args: StatArgs) -> anyhow::Result<ExitCode> {
    let StatArgs { target, interval, format, output, follow, filter, sizes, verbose } = args;
    let target = target.target()?;
    let options = session_options(&target, &follow, &filter, &sizes, None)?;
    let options = SessionOptions { log: verbose.bpf(), ..options };
    let FollowArgs { duration, propagate_exit, .. } = follow;
    let out = Output::open(&output)?;
    let prepared = Prepared::new(target, &options)?;
    let mut counting = Counting {
        profile: Profile::new(prepared.start()),
        before: None,
        format,
        verbose: verbose.footer(),
        out,
        progress: interval.is_none().then(Progress::new),
    };
    let mut running = prepared.begin(duration)?;
    let why = running.follow(interval, &mut counting)?;
    drop(counting.progress.take());
    running.detach();
    running.session.drain_last();
    let ended = running.end_of_command(why);
    if why != Ended::NoReader {
        let followed = running.followed();
        // Whether anybody still reads makes no difference any more.
        let _ = counting.print_once(&mut running.session, followed, true, ended)?;
    }
    say_end(ended, why);
    Ok(exit_code(ended, propagate_exit))
}

struct Counting {
    profile: Profile,
    before: Option<Glance>,
    format: PrintFormat,
    verbose: bool,
    out: Output,
    /// Where nothing else is printed meanwhile.
    progress: Option<Progress>,
}

impl Work for Counting {
    fn tick(&mut self, session: &mut Session, elapsed: Duration) -> anyhow::Result<()> {
        if let Some(progress) = &mut self.progress {
            let (live, events, lost) = session.glance();
            progress.show(elapsed, live, events, lost);
        }
        Ok(())
    }

    fn print(&mut self, session: &mut Session, elapsed: Duration) -> anyhow::Result<ControlFlow<()>> {
        self.print_once(session, elapsed, false, None)
    }
}

impl Counting {
    /// After the session was drained.
    fn print_once(
        &mut self,
        session: &mut Session,
        elapsed: Duration,
        last: bool,
        command: Option<CommandEnd>,
    ) -> anyhow::Result<ControlFlow<()>> {
        self.profile.fold(session.chunk()?)?;
        self.profile.duration_ns = elapsed.as_nanos() as u64;
        self.profile.coverage.finished = true;
        let statistics = session.statistics();
        let stat = Stat {
            profile: &self.profile,
            statistics: &statistics,
            last,
            time_ns: now_ns(),
            before: self.before.as_ref(),
            command,
            verbose: self.verbose,
        };
        let read = self.out.print(|out| render_stat(self.format, &stat, out));
        self.before = Some(Glance::of(&self.profile));
        read
    }
}
