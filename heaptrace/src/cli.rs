//! The command line: which commands there are. Each command's arguments are in its own file.

use crate::commands::{
    record::{self, RecordArgs},
    report::{self, ReportArgs},
};
use clap::{Parser, Subcommand};

/// System-wide heap-allocation tracer for Linux.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace processes and write what they allocate to a file.
    Record(RecordArgs),
    /// Show what a recording holds.
    Report(ReportArgs),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever the command fails with; [`crate::error::exit_code`] tells them apart.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Record(args) => record::run(args),
            Self::Report(args) => report::run(args),
        }
    }
}
