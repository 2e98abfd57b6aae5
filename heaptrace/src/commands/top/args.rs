//! The arguments of `heaptrace top`.

use crate::{
    commands::size_args::SizeArgs,
    commands::target_args::{StackArgs, parse_duration},
    top::{Column, Filter},
};
use clap::{Args, ValueEnum, value_parser};
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub target: TopTarget,
    /// Time between refreshes.
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Trace the malloc calls of the processes that were named, from the start.
    #[arg(long, requires = "TopTarget")]
    pub trace: bool,
    /// Do not trace brk, mmap and munmap, which slows every system call of the machine a little: /proc alone.
    #[arg(long)]
    pub no_growth: bool,
    /// A screen, or refreshes printed one after the other.
    #[arg(long, value_enum, default_value_t)]
    pub format: TopFormat,
    /// End after so many refreshes.
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,
    /// End after this long, e.g. 30s, 5m, 1h.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Printed as text: at most so many processes at each refresh, 0 for all.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub rows: usize,
    /// Sort by this column: pid, user, mem, virt, res, heap, growth, faults, mapped, live, livegrowth, allocs, frees,
    /// cost, site, cgroup or command.
    #[arg(long, value_name = "COLUMN", default_value = "growth", value_parser = parse_column)]
    pub sort: Column,
    /// Show only what is found by this, as with `/`: words, or comparisons such as res>100M or user=root.
    #[arg(long, value_name = "FILTER", default_value = "", value_parser = parse_filter)]
    pub filter: String,
    /// Show children below their parents.
    #[arg(long)]
    pub tree: bool,
    #[command(flatten)]
    pub walks: StackArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// Which processes to show; one kind, or else all.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct TopTarget {
    /// These processes and their children.
    // The kernel's PID_MAX_LIMIT (include/linux/threads.h).
    #[arg(short, long, value_name = "PID", value_delimiter = ',',
        value_parser = value_parser!(u32).range(1..=1 << 22))]
    pub pid: Vec<u32>,
    /// The whole machine, and trace the malloc calls of every process that can be.
    #[arg(short, long, conflicts_with = "trace")]
    pub all: bool,
    /// The processes of this name.
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,
    /// Every process of this effective user.
    #[arg(long, value_name = "NAME|UID")]
    pub user: Option<String>,
    /// Every process in this cgroup (v2) or below; the path is absolute, or below the mount.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
}

/// How refreshes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TopFormat {
    /// A screen on a terminal; text elsewhere.
    #[default]
    Auto,
    /// Tables.
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
