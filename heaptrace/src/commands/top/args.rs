//! The arguments of `heaptrace top`.

use crate::{
    commands::{
        frame_args::FrameArgs,
        headings::{LIMITS, OUTPUT, TARGETS, WHAT},
        raw_args::RawArgs,
        size_args::SizeArgs,
        stack_args::StackArgs,
        target_args::parse_duration,
        trace_args::{CostArgs, Trace},
    },
    top::{Column, Filter},
};
use clap::{Args, ValueEnum, value_parser};
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub target: TopTarget,
    /// Time between refreshes.
    #[arg(short, long, help_heading = OUTPUT, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    #[command(flatten)]
    pub trace: TopTrace,
    /// Don't count mappings (saves about 70 ns per system call, machine-wide); show what /proc has.
    #[arg(long, help_heading = WHAT)]
    pub no_growth: bool,
    /// Where allocations are traced: also probe what a FUSE server of another user gives.
    #[arg(long, help_heading = TARGETS)]
    pub allow_fuse: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t, help_heading = OUTPUT)]
    pub format: TopFormat,
    /// Stop after this many refreshes.
    #[arg(help_heading = LIMITS, short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,
    /// Stop after this time, e.g. 30s, 5m or 1h.
    #[arg(help_heading = LIMITS, short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// With `--format text`: most processes shown at each refresh; 0 shows all.
    #[arg(long, help_heading = OUTPUT, value_name = "N", default_value_t = 30)]
    pub rows: usize,
    /// Column to sort by: pid, user, mem, virt, res, heap, growth, faults, mapped, live, livegrowth, allocs, frees,
    /// cost, site, cgroup or command.
    #[arg(long, help_heading = OUTPUT, value_name = "COLUMN", default_value = "growth", value_parser = parse_column)]
    pub sort: Column,
    /// Show only matching processes, as the key `/` does: words, or comparisons such as res>100M or user=root.
    #[arg(long, help_heading = OUTPUT, value_name = "FILTER", default_value = "", value_parser = parse_filter)]
    pub filter: String,
    /// Show children below their parents.
    #[arg(long, help_heading = OUTPUT)]
    pub tree: bool,
    #[command(flatten)]
    pub raw: RawArgs,
    #[command(flatten)]
    pub walks: StackArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
    #[command(flatten)]
    pub frames: FrameArgs,
}

impl TopArgs {
    /// Whether those who were named are traced from the start.
    pub fn traces_from_start(&self) -> bool {
        let TopTarget { pid, all, comm, user, cgroup } = &self.target;
        let names = !pid.is_empty() || comm.is_some() || user.is_some() || cgroup.is_some();
        *all || names && self.trace.trace.is_some()
    }
}

/// Who is traced from the start, and how.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = WHAT)]
pub struct TopTrace {
    /// Trace the allocations of the named processes from the start, as the key `t` does. MODE is how `t` traces, too: native,
    /// sampled, allocs or exact [default: exact; for --all, users and cgroups sampled].
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, value_enum, hide_possible_values = true)]
    pub trace: Option<Option<Trace>>,
    #[command(flatten)]
    pub cost: CostArgs,
}

/// Which processes to show; one kind, or else all.
#[derive(Debug, Args)]
#[command(next_help_heading = TARGETS)]
#[group(multiple = false)]
pub struct TopTarget {
    /// Show these PIDs (comma-separated) and their children.
    // The kernel's PID_MAX_LIMIT (include/linux/threads.h).
    #[arg(short, long, value_name = "PID", value_delimiter = ',',
        value_parser = value_parser!(u32).range(1..=1 << 22))]
    pub pid: Vec<u32>,
    /// Show every process, and trace the allocations of all that can be traced.
    #[arg(short, long)]
    pub all: bool,
    /// Show the processes with this name (as in /proc/PID/comm).
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,
    /// Show all processes of this effective user.
    #[arg(long, value_name = "NAME|UID")]
    pub user: Option<String>,
    /// Show all processes in this cgroup (v2) or below it. The path is absolute, or relative to the mount point.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
}

/// How refreshes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TopFormat {
    /// A screen on a terminal; text elsewhere.
    #[default]
    Auto,
    /// One table a refresh.
    Text,
    /// One JSON object a line.
    Json,
}

fn parse_column(text: &str) -> Result<Column, String> {
    let names = Column::ALL.map(Column::name).join(", ");
    Column::named(text).ok_or_else(|| format!("there is no such column; columns are {names}"))
}

fn parse_filter(text: &str) -> Result<String, String> {
    Filter::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
