//! `heaptrace leaks`: prints old outstanding blocks, again and again.

mod args;
mod trends;

pub use args::LeaksArgs;

use super::{
    outside::now_ns,
    target_args::{FollowArgs, session_options},
    tracing::{Ended, Prepared, Work},
    written::Written,
};
use crate::{
    model::{Amount, Location, LocationId, OldBlocks, Profile, Trend},
    report::{Leaks, PrintFormat, render_leaks},
    session::Session,
};
use std::{collections::BTreeSet, ops::ControlFlow, process::ExitCode, time::Duration};
use trends::Trends;

/// Runs `heaptrace leaks`.
///
/// # Errors
/// If nothing can be traced ([`crate::error::CannotTrace`] is the cause), or the prints cannot be written.
pub fn run(args: LeaksArgs) -> anyhow::Result<ExitCode> {
    let LeaksArgs { target, older_than, interval, top, format, output, follow, filter, stacks, sizes } = args;
    let target = target.target()?;
    let options = session_options(&target, &follow, &filter, &sizes, Some(&stacks))?;
    let FollowArgs { duration, propagate_exit, .. } = follow;
    let out = Written::open(output.as_deref())?;
    let prepared = Prepared::new(target, &options)?;
    let mut printing = Printing {
        profile: Profile::new(prepared.start()),
        trends: Trends::default(),
        asked: BTreeSet::new(),
        number: 0,
        older_than,
        top,
        format,
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
    if let Some(ended) = running.end_of_command(why) {
        eprintln!("heaptrace: {ended}");
        if propagate_exit {
            return Ok(ExitCode::from(ended.code()));
        }
    }
    eprintln!("heaptrace: {why}");
    Ok(ExitCode::SUCCESS)
}

struct Printing {
    /// What was seen so far, with the symbols of what was printed.
    profile: Profile,
    trends: Trends,
    /// Locations that were symbolized, found or not.
    asked: BTreeSet<LocationId>,
    number: u64,
    older_than: Duration,
    top: usize,
    format: PrintFormat,
    out: Written,
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
        let OldBlocks { mut sites, younger, removed } = session.old_blocks(self.older_than)?;
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
        self.symbolize(session, shown);
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
        };
        self.out.write(|out| render_leaks(self.format, &leaks, out))
    }

    /// Finds symbols for the places of `shown` that were in no earlier print.
    fn symbolize(&mut self, session: &Session, shown: &[Trend]) {
        let profile = &mut self.profile;
        let mut new = Vec::new();
        let stacks = shown.iter().filter_map(|trend| profile.sites.get(trend.old.site.index()));
        for stack in stacks.filter_map(|site| profile.stacks.get(site.stack.index())) {
            let frames = stack.frames.iter().filter_map(|frame| profile.frames.get(frame.index()));
            new.extend(frames.map(|frame| frame.location).filter(|location| self.asked.insert(*location)));
        }
        let locations: Vec<Location> =
            new.iter().filter_map(|id| profile.locations.get(id.index()).cloned()).collect();
        profile.symbols.resize_with(profile.locations.len(), Vec::new);
        for (id, symbols) in new.into_iter().zip(session.symbols_of(&locations)) {
            if let Some(slot) = profile.symbols.get_mut(id.index()) {
                *slot = symbols;
            }
        }
    }
}
