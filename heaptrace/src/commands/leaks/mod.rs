//! `heaptrace leaks`: prints old outstanding blocks, again and again.

mod args;
mod trends;

pub use args::LeaksArgs;

use super::{
    names::Names,
    output::Output,
    outside::now_ns,
    target_args::{FollowArgs, session_options},
    tracing::{Prepared, exit_code, say_end},
    work::{Ended, Work},
};
use crate::{
    model::{Amount, OldBlocks, Profile, StackId},
    report::{Leaks, PrintFormat, render_leaks},
    session::{Session, SessionOptions},
};
use std::{ops::ControlFlow, process::ExitCode, time::Duration};
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
        follow,
        filter,
        stacks,
        sizes,
        verbose,
    } = args;
    let target = target.target()?;
    let options = session_options(&target, &follow, &filter, &sizes, Some(&stacks))?;
    let options = SessionOptions { log: verbose.bpf(), keep_old: Some(older_than), ..options };
    let FollowArgs { duration, propagate_exit, .. } = follow;
    let out = Output::open(&output)?;
    let prepared = Prepared::new(target, &options)?;
    let mut printing = Printing {
        profile: Profile::new(prepared.start()),
        trends: Trends::default(),
        names: Names::default(),
        number: 0,
        older_than,
        top,
        format,
        verbose: verbose.footer(),
        out,
    };
    let mut running = prepared.begin(duration)?;
    let why = running.follow(Some(interval), &mut printing)?;
    running.detach();
    running.session.drain_last();
    if why != Ended::NoReader {
        let followed = running.followed();
        // Whether anybody still reads makes no difference any more.
        let _ = printing.print_once(&mut running.session, followed, true)?;
    }
    let ended = running.end_of_command(why);
    say_end(ended, why);
    Ok(exit_code(ended, propagate_exit))
}

struct Printing {
    /// What was seen so far, with the symbols of what was printed.
    profile: Profile,
    trends: Trends,
    names: Names,
    number: u64,
    older_than: Duration,
    top: usize,
    format: PrintFormat,
    verbose: bool,
    out: Output,
}

impl Work for Printing {
    fn tick(&mut self, _: &mut Session, _: Duration) -> anyhow::Result<()> {
        Ok(())
    }

    fn print(&mut self, session: &mut Session, elapsed: Duration) -> anyhow::Result<ControlFlow<()>> {
        self.print_once(session, elapsed, false)
    }
}

impl Printing {
    /// After the session was drained.
    fn print_once(
        &mut self,
        session: &mut Session,
        elapsed: Duration,
        last: bool,
    ) -> anyhow::Result<ControlFlow<()>> {
        let OldBlocks { mut sites, younger, removed, gone } = session.old_blocks(self.older_than)?;
        self.profile.fold(session.chunk()?)?;
        self.profile.duration_ns = elapsed.as_nanos() as u64;
        self.profile.coverage.finished = true;
        let mut exited = Amount::default();
        // While others run, what they hold matters; in the end, all that was never freed.
        sites.retain(|old| {
            let keep = last || !old.exited;
            if !keep {
                exited.add(Amount { bytes: old.bytes, count: old.count });
            }
            keep
        });
        let trends = self.trends.update(&sites);
        let (shown, hidden) = trends.split_at(self.top.min(trends.len()));
        let sites = shown.iter().filter_map(|trend| self.profile.sites.get(trend.old.site.index()));
        let stacks: Vec<StackId> = sites.map(|site| site.stack).collect();
        self.names.find(session, &mut self.profile, stacks.into_iter());
        self.number += 1;
        let leaks = Leaks {
            profile: &self.profile,
            number: self.number,
            last,
            time_ns: now_ns(),
            older_than_ns: u64::try_from(self.older_than.as_nanos()).unwrap_or(u64::MAX),
            shown,
            hidden,
            younger,
            exited,
            removed,
            gone,
            verbose: self.verbose,
        };
        self.out.print(|out| render_leaks(self.format, &leaks, out))
    }
}
