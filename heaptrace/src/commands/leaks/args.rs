//! The arguments of `heaptrace leaks`.

use crate::{
    commands::size_args::SizeArgs,
    commands::target_args::{FilterArgs, FollowArgs, StackArgs, TargetArgs, parse_age, parse_duration},
    report::PrintFormat,
};
use clap::Args;
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Args)]
pub struct LeaksArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Show blocks that have been outstanding for this long; 0s shows all.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_age)]
    pub older_than: Duration,
    /// Time between prints; longer where reading all blocks would take more than a tenth of it.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Show this many stacks, those with the most bytes.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: PrintFormat,
    /// Print to this file instead of standard output.
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub follow: FollowArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub stacks: StackArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
}
