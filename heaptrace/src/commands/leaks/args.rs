//! The arguments of `heaptrace leaks`.

use crate::{
    commands::{
        frame_args::FrameArgs,
        headings::{OUTPUT, WHAT},
        ignore_args::IgnoreArgs,
        output::Destination,
        raw_args::RawArgs,
        size_args::SizeArgs,
        stack_args::StackArgs,
        target_args::{FilterArgs, FollowArgs, TargetArgs, parse_age, parse_duration},
        thread_args::ThreadArgs,
        threshold_args::ThresholdArgs,
        trace_args::TraceArgs,
        verbose::VerboseArgs,
    },
    report::PrintFormat,
};
use clap::Args;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct LeaksArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Show blocks (of --trace growth and faults: memory) that have been live for at least this time; 0s shows all.
    #[arg(long, help_heading = WHAT, value_name = "TIME", default_value = "10s", value_parser = parse_age)]
    pub older_than: Duration,
    /// Time between prints. Longer if reading all blocks takes more than a tenth of it.
    #[arg(long, help_heading = OUTPUT, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Show this many call stacks, those with the most bytes.
    #[arg(long, help_heading = OUTPUT, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Output format.
    #[arg(long, value_enum, default_value_t, help_heading = OUTPUT)]
    pub format: PrintFormat,
    /// Write to this file; - is standard output.
    #[arg(short, long, value_name = "OUT", default_value = "-", help_heading = OUTPUT)]
    pub output: Destination,
    #[command(flatten)]
    pub trace: TraceArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    #[command(flatten)]
    pub follow: FollowArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub stacks: StackArgs,
    #[command(flatten)]
    pub sizes: SizeArgs,
    #[command(flatten)]
    pub frames: FrameArgs,
    #[command(flatten)]
    pub ignore: IgnoreArgs,
    #[command(flatten)]
    pub thresholds: ThresholdArgs,
    #[command(flatten)]
    pub raw: RawArgs,
    #[command(flatten)]
    pub verbose: VerboseArgs,
}
