//! The arguments of `heaptrace watch`.

use crate::{
    bpf::MapSizes,
    commands::{
        report::parse_bytes,
        target_args::{StackArgs, parse_duration},
    },
    report::PrintFormat,
};
use clap::{Args, value_parser};
use std::{ffi::OsString, path::PathBuf, time::Duration};

#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub target: WatchTarget,
    /// Show calls that change a process's memory by this much or more; 0 shows all. Accepts the suffixes k, M, G.
    #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = parse_bytes)]
    pub min_bytes: u64,
    /// Show the stack of each call; the default for JSON, and for text on a terminal.
    #[arg(long, overrides_with = "no_stacks")]
    pub stacks: bool,
    /// Show no stacks, and walk none.
    #[arg(long, overrides_with = "stacks")]
    pub no_stacks: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: PrintFormat,
    /// Print to this file instead of standard output.
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Stop after this long, e.g. 30s, 5m, 1h; else on Ctrl-C or when all targets have exited.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Leave children out.
    #[arg(long, conflicts_with_all = ["all", "user", "cgroup"])]
    pub no_follow: bool,
    /// Exit with the command's own code (128 + N if signal N killed it).
    #[arg(long, requires = "command")]
    pub propagate_exit: bool,
    #[command(flatten)]
    pub walks: StackArgs,
    /// Room for the frames of at least so many stacks, where --max-frames says nothing.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1 << 28))]
    pub max_stacks: Option<u32>,
    /// Processes, ended ones included; an exec counts as another.
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().processes, value_parser = value_parser!(u32).range(1..=1 << 28))]
    pub max_processes: u32,
    /// Calls, forks, execs and exits that wait to be read.
    #[arg(long, value_name = "N", default_value_t = 4 * MapSizes::default().events, value_parser = value_parser!(u32).range(1..=1 << 24))]
    pub max_events: u32,
}

/// Which processes to watch; one kind, or else the whole machine.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct WatchTarget {
    /// These processes.
    // The kernel's PID_MAX_LIMIT (include/linux/threads.h).
    #[arg(short, long, value_name = "PID", value_delimiter = ',',
        value_parser = value_parser!(u32).range(1..=1 << 22))]
    pub pid: Vec<u32>,
    /// The whole machine; the default.
    #[arg(short, long)]
    pub all: bool,
    /// The running processes of this name.
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,
    /// Every process of this effective user, running or new.
    #[arg(long, value_name = "NAME|UID")]
    pub user: Option<String>,
    /// Every process in this cgroup (v2) or below, running or new; the path is absolute, or below the mount.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Start this command and watch it from its first instruction.
    #[arg(last = true, value_name = "CMD", num_args = 1..)]
    pub command: Vec<OsString>,
}
