//! The arguments of `heaptrace record`.

use crate::commands::{
    headings::{OUTPUT, WHAT},
    recordings::DEFAULT_FILE,
    size_args::SizeArgs,
    stack_args::StackArgs,
    target_args::{FilterArgs, FollowArgs, TargetArgs},
    trace_args::TraceArgs,
    verbose::VerboseArgs,
};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Write the recording to this file; an earlier one is renamed to FILE.old.
    #[arg(help_heading = OUTPUT, short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub output: PathBuf,
    #[command(flatten)]
    pub follow: FollowArgs,
    #[command(flatten)]
    pub trace: TraceArgs,
    /// Also trace page faults: which call stacks touch memory first (`report --view faults`).
    #[arg(long, help_heading = WHAT)]
    pub faults: bool,
    /// Tell threads apart: `report --by thread` shows which of them allocated, by the name that each had then. There are as many
    /// more stacks as threads that share them (see --max-sites).
    #[arg(long, help_heading = WHAT)]
    pub threads: bool,
    /// Count by call stack how long blocks lived that were freed (`report --view churn`).
    #[arg(long, help_heading = WHAT)]
    pub lifetimes: bool,
    /// Look into frees: of blocks that were freed before, of addresses that were never given out, and by the other one of free and
    /// C++'s delete than they were allocated for. A free's stack is walked, too (--trace exact).
    #[arg(long, help_heading = WHAT)]
    pub check_frees: bool,
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
