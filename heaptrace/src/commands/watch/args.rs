//! The arguments of `heaptrace watch`.

use crate::{
    bpf::MapSizes,
    commands::{
        bytes::parse_bytes,
        headings::{LIMITS, OUTPUT, TARGETS, WHAT},
        output::Destination,
        raw_args::RawArgs,
        stack_args::StackArgs,
        target_args::parse_duration,
        verbose::VerboseArgs,
    },
    report::PrintFormat,
};
use clap::{ArgGroup, Args, value_parser};
use std::{ffi::OsString, path::PathBuf, time::Duration};

#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub target: WatchTarget,
    /// Log changes of this size or more; 0 logs all. Accepts the suffixes k, M and G (powers of 1024).
    #[arg(long, help_heading = WHAT, value_name = "BYTES", default_value = "1M", value_parser = parse_bytes)]
    pub min_bytes: u64,
    /// Show the call stack of each change. The default for JSON, and for text on a terminal.
    #[arg(long, help_heading = WHAT, overrides_with = "no_stacks")]
    pub stacks: bool,
    /// Don't record call stacks.
    #[arg(long, help_heading = WHAT, overrides_with = "stacks")]
    pub no_stacks: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t, help_heading = OUTPUT)]
    pub format: PrintFormat,
    /// Write to this file; - is standard output.
    #[arg(short, long, value_name = "OUT", default_value = "-", help_heading = OUTPUT)]
    pub output: Destination,
    /// Stop after this time, e.g. 30s, 5m or 1h. The default is to stop on Ctrl-C or when all targets have exited.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = LIMITS)]
    pub duration: Option<Duration>,
    /// Don't trace child processes.
    #[arg(long, help_heading = TARGETS, conflicts_with_all = ["all", "user", "cgroup"])]
    pub no_follow: bool,
    /// End the command (SIGTERM, and wait for it) when tracing ends before it does, by -d or Ctrl-C.
    #[arg(long, requires = "command", help_heading = LIMITS, conflicts_with_all = ["pid", "all", "comm", "user", "cgroup"])]
    pub kill: bool,
    /// Exit with the command's own code (128 + N if signal N killed it).
    #[arg(long, requires = "command", help_heading = OUTPUT)]
    pub propagate_exit: bool,
    #[command(flatten)]
    pub raw: RawArgs,
    #[command(flatten)]
    pub verbose: VerboseArgs,
    #[command(flatten)]
    pub walks: StackArgs,
    /// Room for the frames of at least so many call stacks, where --max-frames says nothing.
    #[arg(long, help_heading = LIMITS, value_name = "N", value_parser = value_parser!(u32).range(1..=1 << 28))]
    pub max_stacks: Option<u32>,
    /// Processes at one time, and those that have just exited; an exec counts as a new one.
    #[arg(long, help_heading = LIMITS, value_name = "N", default_value_t = MapSizes::default().processes, value_parser = value_parser!(u32).range(1..=1 << 28))]
    pub max_processes: u32,
    /// Calls, forks, execs and exits waiting to be read.
    #[arg(long, help_heading = LIMITS, value_name = "N", default_value_t = 4 * MapSizes::default().events, value_parser = value_parser!(u32).range(1..=1 << 24))]
    pub max_events: u32,
}

/// Which processes to watch; one kind, or else the whole machine.
#[derive(Debug, Args)]
#[command(next_help_heading = TARGETS)]
#[group(skip)]
#[command(group(ArgGroup::new("target")))]
pub struct WatchTarget {
    /// Trace these PIDs (comma-separated) and their future children. A thread's number means its process.
    // The kernel's PID_MAX_LIMIT (include/linux/threads.h).
    #[arg(short, long, value_name = "PID", value_delimiter = ',',
        value_parser = value_parser!(u32).range(1..=1 << 22), group = "target")]
    pub pid: Vec<u32>,
    /// With -p: trace what runs below these processes, too (the workers of a prefork server).
    // clap does not insist on what another option excludes.
    #[arg(long, requires = "pid", conflicts_with_all = ["all", "comm", "user", "cgroup", "command"])]
    pub tree: bool,
    /// Trace every process on the machine; the default.
    #[arg(short, long, group = "target")]
    pub all: bool,
    /// Trace the running processes with this name (as in /proc/PID/comm).
    #[arg(long, value_name = "NAME", group = "target")]
    pub comm: Option<String>,
    /// Trace all processes of this effective user, running and new.
    #[arg(long, value_name = "NAME|UID", group = "target")]
    pub user: Option<String>,
    /// Trace all processes in this cgroup (v2) or below it, running and new. The path is absolute, or relative to the
    /// mount point.
    #[arg(long, value_name = "PATH", group = "target")]
    pub cgroup: Option<PathBuf>,
    /// Start this command and trace it from its first instruction. What follows its name is its own; `--` before it is needed
    /// only where the name begins with a dash.
    #[arg(trailing_var_arg = true, value_name = "CMD", num_args = 1.., group = "target")]
    pub command: Vec<OsString>,
}
