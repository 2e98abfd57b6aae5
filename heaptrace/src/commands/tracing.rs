//! What all tracing commands do alike: bring a session up on its targets, follow it until there is a reason to end,
//! and take it down. What becomes of the numbers is the command's own [`Work`].

use super::following::Following;
use super::outside::{Hurry, available_memory, check_memory, host, now_ns};
use super::signals::Signals;
use super::work::{Ended, Work};
use crate::printable::say;
use crate::{
    bpf::{EventRing, Memory},
    error::CannotTrace,
    model::{Mode, Start},
    session::{Session, SessionOptions, TargetError},
    target::{CommandEnd, HeldChild, ResolvedCommand, Target, pids_named, pids_of_user, reap},
};
use anyhow::{Context as _, bail};
use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

/// A session whose targets are probed, and whose command, if it has one, has not begun.
pub(super) struct Prepared {
    session: Session,
    events: EventRing,
    target: Target,
    child: Option<HeldChild>,
    /// Since the Unix epoch.
    started_ns: i64,
    memory: Memory,
}

impl Prepared {
    pub fn new(target: Target, options: &SessionOptions) -> anyhow::Result<Self> {
        let command = match &target {
            Target::Command(argv) => Some(
                ResolvedCommand::new(argv)
                    .map_err(|error| CannotTrace(format!("cannot start the command: {error}")))?,
            ),
            _ => None,
        };
        let memory = options.sizes.memory_bytes();
        check_memory(memory.most, available_memory())?;
        // Forked before anything else is there that a child should not have.
        let child = command.as_ref().map(HeldChild::fork).transpose()?;
        let (mut session, events) = Session::new(options).map_err(|error| CannotTrace(error.to_string()))?;
        match (&command, &child) {
            (Some(command), Some(child)) => session.add_command(child, &command.program).map_err(cannot)?,
            _ => add_running(&mut session, &target)?,
        }
        let started_ns = now_ns();
        Ok(Self { session, events, target, child, started_ns, memory })
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What a profile of this session begins with.
    pub fn start(&self) -> Start {
        Start {
            heaptrace: env!("CARGO_PKG_VERSION").to_owned(),
            host: host(),
            started_ns: self.started_ns,
            mode: Mode::Exact,
        }
    }

    /// Lets the command run, and says that tracing has begun.
    pub fn begin(self, duration: Option<Duration>) -> anyhow::Result<Running> {
        let Self { session, events, target, child, started_ns: _, memory } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Before anybody is told that it ends it.
        let signals = runtime.block_on(async { Signals::catch() })?;
        let began = Instant::now();
        let command = match child {
            Some(child) => Some(child.release().map_err(|error| CannotTrace(error.to_string()))?),
            None => None,
        };
        say(format_args!(
            "tracing {} ({} MB of kernel memory for tables, which may grow to {} MB){}",
            describe(&target, &session),
            memory.first / 1_000_000,
            memory.most / 1_000_000,
            if duration.is_some() || command.is_some() { "" } else { "; Ctrl-C ends" }
        ));
        if let Some(price) = session.price_for_others() {
            say(format_args!("{price}"));
        }
        let endless = matches!(target, Target::All | Target::User { .. } | Target::Cgroup(_));
        Ok(Running {
            session,
            unfollowed: Some((events, signals)),
            command,
            duration,
            began,
            followed: Duration::ZERO,
            endless,
            runtime,
        })
    }
}

/// A session that is being followed.
pub(super) struct Running {
    pub session: Session,
    /// Until followed.
    unfollowed: Option<(EventRing, Signals)>,
    /// The command's PID.
    command: Option<u32>,
    duration: Option<Duration>,
    /// When the command was let go.
    began: Instant,
    /// From then until following ended.
    followed: Duration,
    /// New targets can come when all have exited.
    endless: bool,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    /// Keeps up with the targets, once, and has `work` done; `every` is the interval of its prints.
    pub fn follow(&mut self, every: Option<Duration>, work: &mut impl Work) -> anyhow::Result<Ended> {
        let (events, mut signals) = self.unfollowed.take().context("a session can be followed once only")?;
        let hurry = Hurry::begin();
        let why = self.runtime.block_on(
            Following { session: &mut self.session, duration: self.duration, endless: self.endless }.run(
                events,
                &mut signals,
                every,
                work,
            ),
        )?;
        self.followed = self.began.elapsed();
        hurry.end();
        // Where it ended by itself, one may be meant for what has ended meanwhile.
        signals.let_keys_end(why != Ended::Asked).context("failed to set what Ctrl-C does")?;
        Ok(why)
    }

    /// How long the session was followed: without what it takes to place probes and to take them away.
    pub fn followed(&self) -> Duration {
        self.followed
    }

    /// Takes the probes away; nothing changes any more.
    pub fn detach(&mut self) {
        self.session.look_for_unmapped();
        let seconds = self.session.detach();
        if seconds > 2.0 {
            say(format_args!("took {seconds:.1} s to remove the probes"));
        }
    }

    /// How the command ended, if there was one and it has; `why` is why following did. The kernel tells of an exit
    /// before it gives the memory back, and much memory takes a while.
    pub fn end_of_command(&mut self, why: Ended) -> Option<CommandEnd> {
        const AT_MOST: Duration = Duration::from_secs(10);
        const POLL: Duration = Duration::from_millis(5);
        let command = self.command.take()?;
        let before = Instant::now();
        loop {
            let ended = reap(command);
            if ended.is_some() || why != Ended::TargetsExited || before.elapsed() > AT_MOST {
                return ended;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Says how the command ended, if there was one and it has, and why tracing did.
pub(super) fn say_end(command: Option<CommandEnd>, why: impl fmt::Display) {
    if let Some(end) = command {
        say(format_args!("{end}"));
    }
    say(format_args!("{why}"));
}

/// The exit code of heaptrace where it traced: the command's own if that is wanted and it has ended.
pub(super) fn exit_code(command: Option<CommandEnd>, propagate: bool) -> ExitCode {
    match command {
        Some(end) if propagate => ExitCode::from(end.code()),
        _ => ExitCode::SUCCESS,
    }
}

fn cannot(error: TargetError) -> CannotTrace {
    CannotTrace(error.to_string())
}

/// Probes what is running of a session's targets: nothing of a command.
pub(super) fn add_running(session: &mut Session, target: &Target) -> anyhow::Result<()> {
    match target {
        Target::All => session.add_all().map_err(cannot)?,
        Target::User { id, .. } => session.add_members(&pids_of_user(*id)?).map_err(cannot)?,
        Target::Cgroup(cgroup) => {
            let pids = cgroup.pids().map_err(|error| CannotTrace(error.to_string()))?;
            session.add_members(&pids).map_err(cannot)?;
        }
        Target::Pids(pids) => {
            for pid in pids {
                session.add_pid(*pid).map_err(cannot)?;
            }
        }
        Target::Comm(comm) => {
            let pids = pids_named(comm)?;
            if pids.is_empty() {
                bail!(CannotTrace(format!(
                    "no running process is named {comm}; names are those in /proc/PID/comm, at most 15 bytes"
                )));
            }
            let mut traced = 0;
            let mut last = None;
            for pid in pids {
                match session.add_pid(pid) {
                    Ok(()) => traced += 1,
                    Err(error) => last = Some(session.leave_out_named(pid, error)),
                }
            }
            if let (0, Some(error)) = (traced, last) {
                bail!(CannotTrace(error));
            }
        }
        Target::Command(_) => {}
    }
    Ok(())
}

fn describe(target: &Target, session: &Session) -> String {
    let left_out = session.untraceable();
    let what = match target {
        Target::All => "the whole machine".to_owned(),
        Target::User { name, .. } => format!("{} processes of user {name}, and new ones", session.traced()),
        Target::Cgroup(cgroup) => {
            let folder = cgroup.folder.display();
            format!("{} processes in {folder}, and new ones", session.traced())
        }
        Target::Comm(comm) => format!("{} processes named {comm}", session.traced()),
        Target::Pids(pids) => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            format!("process {}", pids.join(", "))
        }
        Target::Command(argv) => {
            let line =
                argv.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
            // A script given with -c can be pages long.
            line.lines().next().unwrap_or_default().chars().take(60).collect()
        }
    };
    if left_out == 0 { what } else { format!("{what}, {left_out} processes left out") }
}
