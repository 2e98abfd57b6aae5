//! The arguments of `heaptrace record`.

use crate::{
    bpf::{MapSizes, StackMode},
    session::SessionOptions,
    target::Target,
};
use clap::{Args, ValueEnum};
use std::{ffi::OsString, path::PathBuf, time::Duration};

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
    #[arg(long, value_enum, default_value_t = StackArg::Auto)]
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
    // The kernel's PID_MAX_LIMIT (include/linux/threads.h).
    #[arg(short, long, value_name = "PID", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
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
    /// By unwind tables, and by frame pointers where there are none.
    Auto,
    /// By frame pointers.
    Fp,
    /// By unwind tables only.
    Dwarf,
    /// Not at all: totals only.
    None,
}

impl TargetArgs {
    pub(super) fn target(self) -> Target {
        match self {
            Self { all: true, .. } => Target::All,
            Self { comm: Some(comm), .. } => Target::Comm(comm),
            Self { pid, .. } if !pid.is_empty() => Target::Pids(pid),
            Self { command, .. } => Target::Command(command),
        }
    }
}

impl RecordArgs {
    /// What the session is told.
    pub(super) fn session_options(&self) -> SessionOptions {
        let SizeArgs { max_live, max_sites, max_frames, max_processes, max_threads } = self.sizes;
        SessionOptions {
            all: self.target.all,
            follow: !self.no_follow,
            exact_children: self.exact_children,
            stacks: match self.stack {
                StackArg::Auto => StackMode::Auto,
                StackArg::Dwarf => StackMode::Dwarf,
                StackArg::Fp => StackMode::FramePointers,
                StackArg::None => StackMode::None,
            },
            sizes: MapSizes {
                live: max_live,
                sites: max_sites,
                frames: max_frames,
                processes: max_processes,
                threads: max_threads,
                ..MapSizes::default()
            },
            growth: !self.no_growth,
        }
    }
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
        .ok_or_else(|| format!("expected more than no time, and less than {} s", u32::MAX))
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
