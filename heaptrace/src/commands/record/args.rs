//! The arguments of `heaptrace record`.

use crate::commands::size_args::SizeArgs;
use crate::commands::target_args::{FilterArgs, FollowArgs, StackArgs, TargetArgs};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where to write; an older file of this name is kept as FILE.old.
    #[arg(short, long, value_name = "FILE", default_value = "heaptrace.data")]
    pub output: PathBuf,
    #[command(flatten)]
    pub follow: FollowArgs,
    /// Trace page faults too, by stack: who touches memory first. See `report --view faults`.
    #[arg(long)]
    pub faults: bool,
    /// Don't measure what the processes' resident memory is made of. See `report --view rss`.
    #[arg(long)]
    pub no_rss: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub stacks: StackArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
}
