//! `heaptrace record`: traces until told to stop, and writes what it saw to a file.

mod args;
mod outside;

pub use args::RecordArgs;

use super::progress::Progress;
use crate::{
    bpf::EventRing,
    error::CannotTrace,
    file::FileWriter,
    model::{Mode, Start},
    probes::refusal::{self, KernelVersion},
    session::{Session, TargetError},
    target::{HeldChild, Target, pids_named},
};
use anyhow::bail;
use outside::{CommandEnd, Hurry, available_memory, check_memory, check_output, host, reap};
use std::{
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep_until},
};

/// How often the maps are read.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// How often what is new is written: what a killed recorder loses at most.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Runs `heaptrace record`.
///
/// # Errors
/// If nothing can be traced ([`CannotTrace`] is the cause), or the file cannot be written.
pub fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let options = args.session_options();
    let RecordArgs { target, output, duration, propagate_exit, .. } = args;
    check_output(&output)?;
    check_memory(options.sizes.memory_bytes(), available_memory())?;
    let target = target.target();
    // Forked before anything else is there that a child should not have.
    let mut child = match &target {
        Target::Command(argv) => Some((HeldChild::fork(argv)?, argv.clone())),
        _ => None,
    };
    let (mut session, events) = Session::new(&options).map_err(|error| CannotTrace(error.to_string()))?;
    if let Some(warning) = KernelVersion::running().and_then(refusal::warning) {
        eprintln!("heaptrace: warning: {warning}");
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    add_targets(&mut session, &target, child.as_ref().map(|(child, argv)| (child, argv.as_slice())))?;
    let writer = FileWriter::create(
        &output,
        &Start {
            heaptrace: env!("CARGO_PKG_VERSION").to_owned(),
            host: host(),
            started_ns: started.as_nanos() as i64,
            mode: Mode::Exact,
        },
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let command = match child.take() {
        Some((child, _)) => Some(child.release().map_err(|error| CannotTrace(error.to_string()))?),
        None => None,
    };
    eprintln!(
        "heaptrace: tracing {} ({} MB of kernel memory for tables){}",
        describe(&target, &session),
        options.sizes.memory_bytes() >> 20,
        if duration.is_some() || command.is_some() { "" } else { "; Ctrl-C ends" }
    );
    let hurry = Hurry::begin();
    let mut recording = Recording { session, writer, output, last_write: Instant::now() };
    let why = runtime.block_on(recording.follow(events, duration, target == Target::All))?;
    hurry.end();
    // From here on a second Ctrl-C leaves at once.
    // SAFETY: sets a signal's default action.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    let ended = recording.end(why, command)?;
    Ok(match ended {
        Some(ended) if propagate_exit => ExitCode::from(ended.code()),
        _ => ExitCode::SUCCESS,
    })
}

struct Recording {
    session: Session,
    writer: FileWriter,
    output: PathBuf,
    last_write: Instant,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Asked,
    TimeUp,
    TargetsExited,
}

impl Recording {
    async fn follow(
        &mut self,
        events: EventRing,
        duration: Option<Duration>,
        endless: bool,
    ) -> anyhow::Result<Ended> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut tick = interval(DRAIN_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // SAFETY: the ring owns its descriptor and keeps it until it is dropped, after the registration.
        let mut ring = unsafe { AsyncFd::register(events) }?;
        let tables = self.session.tables_ready().unwrap_or_default();
        let started = Instant::now();
        let deadline =
            tokio::time::Instant::now() + duration.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        let mut progress = Progress::new();
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(Ended::Asked),
                _ = terminate.recv() => return Ok(Ended::Asked),
                () = sleep_until(deadline) => return Ok(Ended::TimeUp),
                guard = ring.readable_mut() => {
                    let mut guard = guard?;
                    let events = guard.get_inner_mut().read();
                    guard.clear_ready();
                    self.session.handle_events(events);
                    if !endless && self.session.traced() == 0 {
                        return Ok(Ended::TargetsExited);
                    }
                }
                () = tables.notified() => self.session.take_tables(),
                _ = tick.tick() => {
                    self.session.drain();
                    let (live, events, lost) = self.session.glance();
                    progress.show(started.elapsed(), live, events, lost);
                    if self.last_write.elapsed() >= WRITE_EVERY {
                        self.write()?;
                    }
                    // The exit events of all targets may have been lost.
                    if !endless && self.session.traced() == 0 {
                        return Ok(Ended::TargetsExited);
                    }
                }
            }
        }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.last_write = Instant::now();
        let chunk = self.session.chunk()?;
        self.writer.append(&chunk)?;
        Ok(())
    }

    /// Writes the last chunk. Gives how the command ended, if it has.
    fn end(mut self, why: Ended, command: Option<u32>) -> anyhow::Result<Option<CommandEnd>> {
        let seconds = self.session.detach();
        if seconds > 2.0 {
            eprintln!("heaptrace: took {seconds:.1} s to remove the probes");
        }
        let chunk = self.session.finish()?;
        let events = chunk.coverage.events;
        self.writer.append(&chunk)?;
        let written = self.writer.written();
        self.writer.finish()?;
        let ended = command.and_then(reap);
        match ended {
            Some(CommandEnd::Exited(code)) => eprintln!("heaptrace: the command exited with code {code}"),
            Some(CommandEnd::Killed(signal)) => {
                eprintln!("heaptrace: the command was killed by signal {signal}")
            }
            None => {}
        }
        eprintln!(
            "heaptrace: {}; {events} events, {written} bytes in {}",
            match why {
                Ended::Asked => "stopped",
                Ended::TimeUp => "time is up",
                Ended::TargetsExited => "all targets have exited",
            },
            self.output.display()
        );
        if events == 0 {
            eprintln!("heaptrace: no allocation was seen; `heaptrace report` says what was looked at");
        }
        Ok(ended)
    }
}

fn add_targets(
    session: &mut Session,
    target: &Target,
    child: Option<(&HeldChild, &[OsString])>,
) -> anyhow::Result<()> {
    let cannot = |error: TargetError| CannotTrace(error.to_string());
    match target {
        Target::All => session.add_all().map_err(cannot)?,
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
                    Err(error) => last = Some(error),
                }
            }
            if let (0, Some(error)) = (traced, last) {
                return Err(cannot(error).into());
            }
        }
        Target::Command(_) => {
            if let Some((child, argv)) = child {
                session.add_command(child, argv).map_err(cannot)?;
            }
        }
    }
    Ok(())
}

fn describe(target: &Target, session: &Session) -> String {
    let left_out = session.untraceable().count();
    let what = match target {
        Target::All => "the whole machine".to_owned(),
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
