//! What all tracing commands do alike: bring an engine up on its targets, follow it until there is a reason to end,
//! and take it down. What becomes of the numbers is the command's own [`Work`].

use super::following::follow;
use super::outside::{Hurry, available_memory, check_memory};
use super::signals::Signals;
use super::started::{Fate, Started};
use super::work::{Ended, Work};
use super::{instead, left_out, price};
use crate::{
    bpf::Memory,
    engine::{Engine, Form},
    error::CannotTrace,
    model::Mode,
    session::{Session, SessionOptions},
    target::{HeldChild, ResolvedCommand, Target},
};
use crate::{printable::say, units::counted};
use anyhow::Context as _;
use std::{fmt, ops::ControlFlow, process::ExitCode, time::Duration};
use tokio::{runtime::Runtime, time::timeout};

/// An engine whose targets are probed, and whose command, if it has one, has not begun.
pub(super) struct Prepared<F> {
    pub engine: Engine<F>,
    runtime: Runtime,
    target: Target,
    child: Option<HeldChild>,
    memory: Memory,
    name: &'static str,
    mode: Mode,
    /// Children are traced.
    follow: bool,
}

impl<F: Form> Prepared<F> {
    /// For the command `heaptrace NAME`.
    ///
    /// # Errors
    /// If nothing of the target is there, or can be traced.
    pub fn new(name: &'static str, target: Target, options: &SessionOptions) -> anyhow::Result<Self> {
        let command = match &target {
            Target::Command(argv) => Some(ResolvedCommand::new(argv).map_err(|error| {
                let instead = argv.first().and_then(|word| instead::of_running(name, word));
                let instead = instead.map_or_else(String::new, |instead| format!("; {instead}"));
                CannotTrace(format!("cannot start the command: {error}{instead}"))
            })?),
            _ => None,
        };
        let memory = options.sizes.memory_bytes();
        check_memory(memory.most, available_memory())?;
        // Forked before anything else is there that a child should not have.
        let child = command.as_ref().map(HeldChild::fork).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let within = runtime.enter();
        let mut engine = Engine::new(options)?;
        match (&command, &child) {
            (Some(command), Some(child)) => engine.add_command(child, &command.program)?,
            _ => engine.add_running(&target)?,
        }
        drop(within);
        Ok(Self { engine, runtime, target, child, memory, name, mode: options.mode, follow: options.follow })
    }

    /// Lets the command run, and says that tracing has begun. `kill`: the command ends with it.
    pub fn begin(self, duration: Option<Duration>, kill: bool) -> anyhow::Result<Running<F>> {
        let Self { mut engine, runtime, target, child, memory, name, mode, follow } = self;
        // Before anybody is told that it ends it.
        let signals = runtime.block_on(async { Signals::catch() })?;
        let children = if follow { left_out::children(&target, engine.session()) } else { None };
        let price = price::of(name, &target, mode, engine.trap_ns());
        for line in price.into_iter().chain(children) {
            say(format_args!("{line}"));
        }
        engine.begin();
        let command = match child {
            Some(child) => {
                let pid = child.release().map_err(|error| CannotTrace(error.to_string()))?;
                Some(Started::new(pid, kill))
            }
            None => None,
        };
        let how = engine.how();
        say(format_args!(
            "tracing {} ({how}{} MB of kernel memory for tables, which may grow to {} MB){}",
            describe(&target, engine.session()),
            memory.first / 1_000_000,
            memory.most / 1_000_000,
            if duration.is_some() || command.is_some() { "" } else { "; Ctrl-C ends" }
        ));
        if let Some(price) = engine.session().price_for_others() {
            say(format_args!("{price}"));
        }
        Ok(Running {
            engine,
            unheeded: Some(signals),
            command,
            is_ended: false,
            duration,
            hurry: None,
            runtime,
        })
    }
}

/// An engine that is being followed.
pub(super) struct Running<F> {
    pub engine: Engine<F>,
    /// Until followed.
    unheeded: Option<Signals>,
    command: Option<Started>,
    /// By whoever runs heaptrace, or by a failure.
    is_ended: bool,
    duration: Option<Duration>,
    /// Until the probes are gone, which others wait for.
    hurry: Option<Hurry>,
    runtime: Runtime,
}

impl<F: Form> Running<F> {
    /// Keeps up with the targets, once, and has `work` done; `every` is the interval of its prints.
    pub fn follow(
        &mut self,
        every: Option<Duration>,
        work: &mut impl Work<Form = F>,
    ) -> anyhow::Result<Ended> {
        let mut signals = self.unheeded.take().context("an engine can be followed once only")?;
        self.hurry = Some(Hurry::begin());
        let following = follow(&mut self.engine, &mut signals, self.duration, every, work);
        let why = self.runtime.block_on(following);
        // Also where it failed; not where the command left tracing by itself, in an exec.
        self.is_ended = !matches!(why, Ok(Ended::TargetsExited));
        if let Some(command) = self.command.as_mut().filter(|_| why.is_err()) {
            command.untraced();
        }
        let why = why?;
        // Where it ended by itself, one may be meant for what has ended meanwhile.
        signals.let_keys_end(why != Ended::Asked).context("failed to set what Ctrl-C does")?;
        Ok(why)
    }

    /// Prints what still waits for symbols. Breaks if nobody reads any more.
    pub fn print_rest(&mut self, work: &mut impl Work<Form = F>) -> anyhow::Result<ControlFlow<()>> {
        const SILENT: Duration = Duration::from_secs(2);
        let mut silent = Some(SILENT);
        while work.waits() {
            let names = self.runtime.block_on(async {
                if let Some(time) = silent {
                    if let Ok(names) = timeout(time, work.found()).await {
                        return names;
                    }
                    silent = None;
                    say(format_args!("still looking up symbols; the rest is printed when they are found"));
                }
                work.found().await
            });
            if work.take(&mut self.engine, names)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Takes the probes away; nothing changes any more.
    pub fn detach(&mut self) {
        self.engine.look_for_unmapped();
        let seconds = self.engine.detach();
        if let Some(hurry) = self.hurry.take() {
            hurry.end();
        }
        if seconds > 2.0 {
            say(format_args!("took {seconds:.1} s to remove the probes"));
        }
        if let Some(command) = self.command.as_mut().filter(|_| self.is_ended) {
            command.untraced();
        }
    }

    /// What became of the command, if there was one; `why` is why following ended.
    pub fn end_of_command(&mut self, why: Ended) -> Option<Fate> {
        self.command.take().map(|command| command.fate(why))
    }
}

/// Says what became of the command, if there was one, and why tracing ended.
pub(super) fn say_end(command: Option<&Fate>, why: impl fmt::Display) {
    if let Some(fate) = command {
        say(format_args!("{fate}"));
    }
    say(format_args!("{why}"));
}

/// The exit code of heaptrace where it traced: the command's own if that is wanted and it has ended.
pub(super) fn exit_code(command: Option<&Fate>, propagate: bool) -> ExitCode {
    match command.and_then(Fate::end) {
        Some(end) if propagate => ExitCode::from(end.code()),
        _ => ExitCode::SUCCESS,
    }
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
        Target::Tree(pids) => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            let count = counted(session.traced() as u64, "process", "processes");
            format!("process {} and what runs below, {count}", pids.join(", "))
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
