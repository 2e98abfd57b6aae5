//! The arguments of `heaptrace record`.

use crate::commands::{
    headings::{OUTPUT, WHAT},
    size_args::SizeArgs,
    stack_args::StackArgs,
    target_args::{FilterArgs, FollowArgs, TargetArgs},
    verbose::VerboseArgs,
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What is traced, the cheapest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// Calls that map memory (brk, mmap, munmap, mremap), by stack. Nothing is probed, and no allocation costs anything.
    Growth,
    /// The same, and page faults: who makes memory resident. A page that is touched first costs about a microsecond.
    Faults,
    /// Every block.
    #[default]
    Exact,
}

#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Write the recording to this file; an earlier one is renamed to FILE.old.
    #[arg(help_heading = OUTPUT, short, long, value_name = "FILE", default_value = "heaptrace.data")]
    pub output: PathBuf,
    #[command(flatten)]
    pub follow: FollowArgs,
    /// What to trace: the fewer probes, the less it costs.
    #[arg(long, help_heading = WHAT, value_name = "MODE", value_enum, default_value_t)]
    pub trace: Trace,
    /// Also trace page faults: which call stacks touch memory first (`report --view faults`).
    #[arg(long, help_heading = WHAT)]
    pub faults: bool,
    /// Don't measure what each process's resident memory consists of (`report --view rss`).
    #[arg(long, help_heading = WHAT)]
    pub no_rss: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub stacks: StackArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
    #[command(flatten)]
    pub verbose: VerboseArgs,
}
