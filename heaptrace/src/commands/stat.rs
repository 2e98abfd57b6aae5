//! `heaptrace stat`: counts, and prints the counters at the end, or at every interval too.

use super::{
    output::Output,
    outside::now_ns,
    progress::Progress,
    size_args::SizeArgs,
    target_args::{FilterArgs, FollowArgs, TargetArgs, parse_duration, session_options},
    tracing::{Ended, Prepared, Work, exit_code, say_end},
};
use crate::{
    model::Profile,
    report::{Glance, PrintFormat, Stat, render_stat},
    session::Session,
    target::CommandEnd,
};
use clap::Args;
use std::{ops::ControlFlow, path::PathBuf, process::ExitCode, time::Duration};

#[derive(Debug, Args)]
pub struct StatArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print at this interval, too: what happened since the last line in text, all so far in JSON.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: PrintFormat,
    /// Print to this file instead of standard output.
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub follow: FollowArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// Runs `heaptrace stat`.
///
/// # Errors
/// If nothing can be traced ([`crate::error::CannotTrace`] is the cause), or the counters cannot be written.
pub fn run(args: StatArgs) -> anyhow::Result<ExitCode> {
    let StatArgs { target, interval, format, output, follow, filter, sizes } = args;
    let target = target.target()?;
    let options = session_options(&target, &follow, &filter, &sizes, None)?;
    let FollowArgs { duration, propagate_exit, .. } = follow;
    let out = Output::open(output.as_deref())?;
    let prepared = Prepared::new(target, &options)?;
    let mut counting = Counting {
        profile: Profile::new(prepared.start()),
        before: None,
        format,
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
        };
        let read = self.out.print(|out| render_stat(self.format, &stat, out));
        self.before = Some(Glance::of(&self.profile));
        read
    }
}
