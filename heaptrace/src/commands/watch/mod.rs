//! `heaptrace watch`: brk, mmap, munmap and mremap as they happen.

mod args;
mod spaces;

pub use args::WatchArgs;

use super::{
    output::Output,
    prints::Prints,
    stack_args::{StackArg, stack_options},
    tracing::{Prepared, exit_code, say_end},
    work::{Ended, Work},
};
use crate::printable::say;
use crate::{
    bpf::{Calls, MapSizes, Members, Told},
    engine::Engine,
    error::CannotTrace,
    growth::Change,
    model::{Mode, Names, Note, Notes, Profile, StackId},
    process::system::now_ns,
    report::{GrowthCall, GrowthTotals, PrintFormat, WatchEnd, render_watch_calls, render_watch_end},
    session::{Limits, Session, SessionOptions, monotonic_ns},
    target::Target,
};
use anyhow::bail;
use heaptrace_common::stack::{MAX_FRAMES, StackEnd};
use heaptrace_common::{
    event::{Event, kind},
    growth::{GrowthEvent, call},
};
use spaces::{Applied, Spaces};
use std::{collections::BTreeMap, ops::ControlFlow, process::ExitCode};

/// Runs `heaptrace watch`.
///
/// # Errors
/// If nothing can be traced ([`crate::error::CannotTrace`] is the cause), or the lines cannot be written.
pub fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let target = args.target.clone().target_or_all()?;
    let on_terminal = args.output.is_terminal();
    let stacks = args.stacks || !args.no_stacks && (on_terminal || args.format == PrintFormat::Json);
    let options = options(&target, &args, stacks);
    let WatchArgs { min_bytes, format, output, duration, kill, propagate_exit, raw, verbose, .. } = args;
    let out = Output::open(&output)?.with(raw.numbers());
    let prepared = Prepared::new("watch", target, &options)?;
    let session = prepared.engine.session();
    if let Some(why) = session.growth_unavailable() {
        bail!(CannotTrace(format!("brk, mmap, munmap and mremap cannot be watched: {why}")));
    }
    let mut watching = Watching {
        profile: Profile::new(prepared.engine.start()),
        spaces: Spaces::new(),
        totals: BTreeMap::new(),
        ended: Vec::new(),
        prints: Prints::start(),
        calls_waiting: 0,
        not_awaited: 0,
        unnamed: Notes::default(),
        epoch_ns: 0,
        ends: BTreeMap::new(),
        warned: false,
        last_ns: 0,
        written: false,
        shown: 0,
        min_bytes,
        stacks,
        format,
        verbose: verbose.footer(),
        out,
    };
    for (record, pid) in session.running() {
        watching.spaces.begin(session, record, pid);
    }
    let mut running = prepared.begin(duration, kill)?;
    let why = running.follow(None, &mut watching)?;
    running.detach();
    let ended = running.end_of_command(why);
    if why != Ended::NoReader && running.print_rest(&mut watching)?.is_continue() {
        watching.end(&running.engine)?;
    }
    say_end(ended.as_ref(), why);
    Ok(exit_code(ended.as_ref(), propagate_exit))
}

fn options(target: &Target, args: &WatchArgs, stacks: bool) -> SessionOptions {
    let walks = (stacks && args.walks.stack != StackArg::None).then_some(&args.walks);
    let (stacks, unwind) = stack_options(walks);
    SessionOptions {
        all: *target == Target::All,
        follow: !args.no_follow,
        exact_children: false,
        stacks,
        sizes: MapSizes {
            // No blocks, and no calls of allocators.
            live: 1,
            live_chunks: 0,
            threads: 1,
            // Calls are told of one by one.
            sites: 1,
            frames: walks.map_or(1, |walks| frames(walks.max_frames, args.max_stacks)),
            processes: args.max_processes,
            events: args.max_events,
            unwind,
            ..MapSizes::default()
        },
        growth: true,
        faults: false,
        calls: Calls::Shown { min_bytes: args.min_bytes },
        mode: Mode::Growth,
        members: match target {
            Target::User { id, .. } => Some(Members::User(*id)),
            Target::Cgroup(cgroup) => Some(Members::Cgroup(cgroup.id)),
            _ => None,
        },
        size_filter: None,
        keep_old: None,
        limits: Limits::default(),
        own_samples: false,
        served: false,
        log: args.verbose.bpf(),
    }
}

/// The most frames that stacks may have.
fn frames(frames: Option<u32>, stacks: Option<u32>) -> u32 {
    const MOST: u32 = 1 << 28;
    let of_stacks = |stacks: u32| stacks.saturating_mul(MAX_FRAMES as u32).min(MOST);
    frames.or(stacks.map(of_stacks)).unwrap_or(MapSizes::default().frames)
}

/// The most calls that wait for symbols, some 20 MB: where more come while a large file is read, the first are printed as
/// they are, with addresses.
const MOST_WAITING: usize = 1 << 17;

struct Watching {
    /// What stacks are made of, with the symbols of those that were printed.
    profile: Profile,
    spaces: Spaces,
    /// By the first record of a process.
    totals: BTreeMap<u32, GrowthTotals>,
    /// Of processes that have ended, whose records are others' by now.
    ended: Vec<GrowthTotals>,
    prints: Prints<Vec<GrowthCall>>,
    /// Calls in `prints`.
    calls_waiting: usize,
    /// Calls that were printed before their symbols were found.
    not_awaited: u64,
    /// Whose names are missing and why.
    unnamed: Notes,
    /// What `CLOCK_MONOTONIC` 0 is since the Unix epoch: looked at again and again, as the machine may sleep.
    epoch_ns: i64,
    /// Why stacks of the shown calls ended.
    ends: BTreeMap<StackEnd, u64>,
    /// Something was lost, and it was said.
    warned: bool,
    /// When the last call returned.
    last_ns: u64,
    written: bool,
    shown: u64,
    min_bytes: u64,
    stacks: bool,
    format: PrintFormat,
    verbose: bool,
    out: Output,
}

impl Work for Watching {
    /// What is printed are the news; the profile has only what their stacks are made of.
    type Form = ();

    fn tick(&mut self, engine: &mut Engine<()>) -> anyhow::Result<()> {
        let (_, _, lost) = engine.session().glance();
        if lost > 0 && !self.warned {
            self.warned = true;
            say(format_args!("warning: calls or processes are being lost; the end says which"));
        }
        Ok(())
    }

    fn told(&mut self, engine: &mut Engine<()>, told: &[Told]) -> anyhow::Result<ControlFlow<()>> {
        self.epoch_ns = now_ns().wrapping_sub_unsigned(monotonic_ns());
        let mut calls = Vec::new();
        // A thread can lose the processor between looking at the clock and telling.
        let mut told = told.to_vec();
        told.sort_by_key(|told| told.event().time_ns);
        for told in &told {
            match told {
                Told::Event(event) => self.process_event(engine.session(), event),
                Told::Growth(growth) => calls.extend(self.growth(engine, growth)),
            }
        }
        if calls.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let session = engine.session();
        if self.stacks {
            session.copy_stacks(&mut self.profile);
        }
        let stacks: Vec<StackId> = calls.iter().filter_map(|call| call.stack).collect();
        self.calls_waiting += calls.len();
        self.prints.add(calls, &self.profile, stacks.into_iter(), session);
        if self.print_ready()?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        while self.calls_waiting > MOST_WAITING
            && let Some(calls) = self.prints.next_as_it_is()
        {
            self.not_awaited += calls.len() as u64;
            if self.print_calls(&calls)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn waits(&self) -> bool {
        self.prints.are_waiting()
    }

    async fn found(&mut self) -> Names {
        self.prints.found().await
    }

    fn take(&mut self, engine: &mut Engine<()>, names: Names) -> anyhow::Result<ControlFlow<()>> {
        self.unnamed.merge(&names.notes);
        self.profile.name(names)?;
        self.prints.look_up(engine.session());
        self.print_ready()
    }
}

impl Watching {
    fn print_ready(&mut self) -> anyhow::Result<ControlFlow<()>> {
        while let Some(calls) = self.prints.next_ready() {
            if self.print_calls(&calls)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Of calls that waited until now.
    fn print_calls(&mut self, calls: &[GrowthCall]) -> anyhow::Result<ControlFlow<()>> {
        self.calls_waiting -= calls.len();
        let (first, profile) = (!self.written, &self.profile);
        self.written = true;
        self.shown += calls.len() as u64;
        let stacks = calls.iter().filter_map(|call| profile.stacks.get(call.stack?.index()));
        stacks.for_each(|stack| *self.ends.entry(stack.end).or_default() += 1);
        self.out.print(|out| render_watch_calls(self.format, (profile, calls), first, self.stacks, out))
    }

    fn process_event(&mut self, session: &Session, event: &Event) {
        match event.kind {
            kind::FORK => {
                self.record_ends(event.process);
                self.spaces.fork(event.process, event.other);
            }
            kind::EXEC => {
                self.record_ends(event.process);
                self.spaces.exec(session, event.process, event.tgid);
                // The same process: its totals go on.
                if let Some(totals) = self.totals.remove(&event.other) {
                    self.totals.insert(event.process, totals);
                }
                self.spaces.gone(event.other);
            }
            kind::EXIT => self.record_ends(event.process),
            _ => {}
        }
    }

    /// Whoever had a record has ended.
    fn record_ends(&mut self, record: u32) {
        self.spaces.gone(record);
        self.ended.extend(self.totals.remove(&record));
    }

    /// Books a call; what is to be printed of it.
    fn growth(&mut self, engine: &mut Engine<()>, told: &GrowthEvent) -> Option<GrowthCall> {
        let Event { tgid: pid, other: tid, process: record, time_ns, .. } = told.event;
        // The same, where what came later has been printed: lines are in order.
        self.last_ns = self.last_ns.max(time_ns);
        let Applied { change: Change { delta, at, kind }, totals: by_kernel } =
            self.spaces.apply(engine.session(), told)?;
        let total = by_kernel.map(|(after, _)| after);
        let comm = engine.session().process(record).map(|process| process.comm.clone()).unwrap_or_default();
        let totals = self.totals.entry(record).or_default();
        totals.pid = pid;
        totals.first = totals.first.or(by_kernel.map(|(_, before)| before));
        totals.last = total;
        totals.comm.clone_from(&comm);
        totals.calls += 1;
        let sum = match (told.call, delta) {
            (call::MADVISE, _) => &mut totals.madvised_bytes,
            (_, ..0) => &mut totals.given_back_bytes,
            _ => &mut totals.grown_bytes,
        };
        *sum += delta.unsigned_abs();
        if delta.unsigned_abs() < self.min_bytes {
            return None;
        }
        Some(GrowthCall {
            time_ns: self.epoch_ns.wrapping_add_unsigned(self.last_ns),
            pid,
            tid,
            comm,
            call: spaces::name_of(told),
            delta,
            total,
            address: at,
            kind,
            stack: if self.stacks { engine.stack_of(told) } else { None },
        })
    }

    fn end(&mut self, engine: &Engine<()>) -> anyhow::Result<()> {
        self.profile.duration_ns = engine.followed().as_nanos() as u64;
        self.profile.coverage = engine.session().coverage()?;
        self.profile.coverage.notes.merge(&self.unnamed);
        if self.not_awaited > 0 {
            let what = format!(
                "{} calls were printed before their symbols were found, as {MOST_WAITING} waited for that",
                self.not_awaited
            );
            self.profile.coverage.notes.extend([Note::NamesMissing { what }]);
        }
        self.profile.coverage.finished = true;
        let mut totals: Vec<GrowthTotals> = std::mem::take(&mut self.totals).into_values().collect();
        totals.append(&mut self.ended);
        totals.sort_by_key(|process| std::cmp::Reverse(process.net().unsigned_abs()));
        let end = WatchEnd {
            profile: &self.profile,
            min_bytes: self.min_bytes,
            shown: self.shown,
            ends: &self.ends,
            totals: &totals,
            verbose: self.verbose,
        };
        // Whether anybody still reads makes no difference any more.
        let _ = self.out.print(|out| render_watch_end(self.format, &end, out))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: WatchArgs,
    }

    #[test]
    fn who_names_nobody_watches_the_whole_machine() {
        let of = |words: &[&str]| {
            let line = Line::try_parse_from([&["watch"], words].concat()).expect("a command line");
            line.args.target.target_or_all().expect("a target")
        };
        assert_eq!(of(&[]), Target::All);
        assert_eq!(of(&["--min-bytes", "0"]), Target::All);
        assert_eq!(of(&["-p", "7"]), Target::Pids(vec![7]));
        assert_eq!(of(&["--", "ls"]), Target::Command(vec!["ls".into()]));
        assert_eq!(of(&["ls", "-a"]), Target::Command(vec!["ls".into(), "-a".into()]));
        assert_eq!(of(&["-p", "7", "--tree"]), Target::Tree(vec![7]));
        assert!(Line::try_parse_from(["watch", "-a", "-p", "7"]).is_err());
    }
}
