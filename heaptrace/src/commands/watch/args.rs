//! The arguments of `heaptrace watch`.

use crate::{
    bpf::MapSizes,
    commands::{
        bytes::parse_bytes,
        headings::{LIMITS, OUTPUT, TARGETS, WHAT},
        output::Destination,
        raw_args::RawArgs,
        stack_args::StackArgs,
        target_args::{TargetArgs, parse_duration},
        verbose::VerboseArgs,
    },
    report::PrintFormat,
};
use clap::{Args, value_parser};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    mut_group("target", |target| target.required(false)),
    mut_arg("all", |all| all.help("Trace every process on the machine; the default"))
)]
pub struct WatchArgs {
    #[command(flatten)]
    pub target: TargetArgs,
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
