//! `heaptrace record`: traces until told to stop, and writes what it saw to a file.

use super::progress::Progress;
use crate::{
    bpf::{LoadError, MapSizes, StackMode},
    error::CannotTrace,
    file::FileWriter,
    model::{Host, Mode, Start},
    session::{Session, SessionOptions, TargetError},
    target::{HeldChild, Target, pids_named},
};
use anyhow::{Context as _, bail};
use aya::maps::{MapData, RingBuf};
use clap::{Args, ValueEnum};
use heaptrace_common::event::Event;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
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

#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where to write; an older file of this name is kept as FILE.old.
    #[arg(short, long, value_name = "FILE", default_value = "heaptrace.data")]
    pub output: PathBuf,
    /// Stop after this long, e.g. 30s, 5m, 1h; else on Ctrl-C or when all targets have exited.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// How to walk stacks.
    #[arg(long, value_enum, default_value_t = StackArg::Fp)]
    pub stack: StackArg,
    /// Do not trace brk, mmap, munmap and mremap, which slows every system call of the machine a little.
    #[arg(long)]
    pub no_growth: bool,
    /// Leave children out.
    #[arg(long)]
    pub no_follow: bool,
    /// Catch children from their first call, at the price of a trap in every process that maps the same files.
    #[arg(long, conflicts_with = "no_follow")]
    pub exact_children: bool,
    /// Exit with the command's own code (128 + N if signal N killed it).
    #[arg(long, requires = "command")]
    pub propagate_exit: bool,
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// Which processes to trace; one kind.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// These processes.
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// The whole machine.
    #[arg(short, long)]
    pub all: bool,
    /// The running processes of this name.
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,
    /// Start this command and trace it from its first instruction.
    #[arg(last = true, value_name = "CMD", num_args = 1..)]
    pub command: Vec<OsString>,
}

/// Sizes of the tables in the kernel. What finds no room is counted and reported.
#[derive(Debug, Args)]
pub struct SizeArgs {
    /// Blocks outstanding at one time.
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().live, value_parser = table_size())]
    pub max_live: u32,
    /// Distinct allocation sites (process, function and stack).
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().sites, value_parser = table_size())]
    pub max_sites: u32,
    /// Frames of all distinct stacks together.
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().frames, value_parser = table_size())]
    pub max_frames: u32,
    /// Processes, ended ones included; an exec counts as another.
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().processes, value_parser = table_size())]
    pub max_processes: u32,
    /// Threads that are in an allocation call at one time (rounded up to a power of two).
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().threads, value_parser = table_size())]
    pub max_threads: u32,
}

fn table_size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 28)
}

/// How to walk stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StackArg {
    /// By frame pointers.
    Fp,
    /// Not at all: totals only.
    None,
}

impl TargetArgs {
    fn target(self) -> Target {
        match self {
            Self { all: true, .. } => Target::All,
            Self { comm: Some(comm), .. } => Target::Comm(comm),
            Self { pid, .. } if !pid.is_empty() => Target::Pids(pid),
            Self { command, .. } => Target::Command(command),
        }
    }
}

/// Runs `heaptrace record`.
///
/// # Errors
/// If nothing can be traced ([`CannotTrace`] is the cause), or the file cannot be written.
pub fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let RecordArgs { target, output, duration, stack, no_growth, no_follow, exact_children, propagate_exit, sizes } =
        args;
    check_output(&output)?;
    let target = target.target();
    // Forked before anything else is there that a child should not have.
    let mut child = match &target {
        Target::Command(argv) => Some((HeldChild::fork(argv)?, argv.clone())),
        _ => None,
    };
    let SizeArgs { max_live, max_sites, max_frames, max_processes, max_threads } = sizes;
    let options = SessionOptions {
        all: target == Target::All,
        follow: !no_follow,
        exact_children,
        stacks: match stack {
            StackArg::Fp => StackMode::FramePointers,
            StackArg::None => StackMode::None,
        },
        sizes: MapSizes {
            live: max_live,
            sites: max_sites,
            frames: max_frames,
            processes: max_processes,
            threads: max_threads,
        },
        growth: !no_growth,
    };
    let (mut session, events) = Session::new(&options).map_err(|error| match error {
        LoadError::Permission { .. } => anyhow::Error::new(CannotTrace(error.to_string())),
        error => anyhow::Error::new(CannotTrace(error.to_string())).context("failed to set up tracing"),
    })?;
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
    let mut recording = Recording { session, writer, output, last_write: Instant::now() };
    let why = runtime.block_on(recording.follow(events, duration, target == Target::All))?;
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
        events: RingBuf<MapData>,
        duration: Option<Duration>,
        endless: bool,
    ) -> anyhow::Result<Ended> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut tick = interval(DRAIN_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // SAFETY: the ring owns its descriptor and keeps it until it is dropped, after the registration.
        let mut ring = unsafe { AsyncFd::register(events) }?;
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
                    let events = read_events(guard.get_inner_mut());
                    guard.clear_ready();
                    self.session.handle_events(events);
                    if !endless && self.session.traced() == 0 {
                        return Ok(Ended::TargetsExited);
                    }
                }
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
            Some(CommandEnd::Killed(signal)) => eprintln!("heaptrace: the command was killed by signal {signal}"),
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

fn read_events(ring: &mut RingBuf<MapData>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(item) = ring.next() {
        if let Some(bytes) = item.first_chunk::<{ size_of::<Event>() }>() {
            // SAFETY: `Event` is plain data of that size, for which any bytes are a value.
            events.push(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() });
        }
    }
    events
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
            argv.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        }
    };
    if left_out == 0 { what } else { format!("{what}, {left_out} processes left out") }
}

/// Fails before the work if the file could not be written after it.
fn check_output(output: &Path) -> anyhow::Result<()> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        bail!(
            "failed to write {}: there is no folder {}; create it, or choose another with -o",
            output.display(),
            folder.display()
        );
    }
    if output.is_dir() {
        bail!("failed to write {}: it is a folder", output.display());
    }
    let folder_c = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes())?;
    // SAFETY: a NUL-terminated path.
    if unsafe { libc::access(folder_c.as_ptr(), libc::W_OK) } != 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("failed to write {}: {}", output.display(), folder.display()));
    }
    Ok(())
}

fn host() -> Host {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned()
    };
    Host { kernel: read("osrelease"), arch: std::env::consts::ARCH.to_owned() }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommandEnd {
    Exited(u8),
    Killed(u8),
}

impl CommandEnd {
    /// As a shell's `$?`.
    fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

fn reap(pid: u32) -> Option<CommandEnd> {
    let mut status = 0;
    // SAFETY: a valid pointer to a local.
    let reaped = unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WNOHANG) };
    (reaped > 0).then(|| {
        if libc::WIFSIGNALED(status) {
            CommandEnd::Killed(libc::WTERMSIG(status) as u8)
        } else {
            CommandEnd::Exited(libc::WEXITSTATUS(status) as u8)
        }
    })
}

/// `30`, `30s`, `500ms`, `5m`, `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| "expected a time, as in 30s, 500ms, 5m or 1h".to_owned())?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unit => return Err(format!("unknown unit {unit}; use ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero() && time.as_secs() < u64::from(u32::MAX))
        .ok_or_else(|| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_units() {
        let times = ["30", "30s", "500ms", "5m", "1h", "1.5s"]
            .map(|text| parse_duration(text).map(|d| d.as_millis()));
        assert_eq!(times, [Ok(30_000), Ok(30_000), Ok(500), Ok(300_000), Ok(3_600_000), Ok(1500)]);
        for text in ["", "s", "-1s", "0", "1d", "nan", "inf", "1e300h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
