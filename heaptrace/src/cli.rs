//! The command line: which commands there are. Each command's arguments are in its own file.

use crate::commands::{
    doctor::{self, DoctorArgs},
    inspect::{self, InspectArgs},
    leaks::{self, LeaksArgs},
    record::{self, RecordArgs},
    report::{self, ReportArgs},
    stat::{self, StatArgs},
    top::{self, TopArgs},
    watch::{self, WatchArgs},
};
use crate::{error::CannotTrace, process::privileges, symbolize};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

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
    /// Say what works here and what does not, and how a process would be traced.
    Doctor(DoctorArgs),
    /// Show a process's memory and the state of its heap, without tracing.
    Inspect(InspectArgs),
    /// Print the stacks of old blocks that are not freed, again and again.
    Leaks(LeaksArgs),
    /// Count calls, bytes, sizes and lifetimes.
    Stat(StatArgs),
    /// Show processes as they grow, live; and what is live in those that are traced.
    Top(TopArgs),
    /// Print brk, mmap, munmap, mremap and what madvise gives back, as they happen.
    Watch(WatchArgs),
    /// What heaptrace starts to look for names in files: answers questions on standard input.
    #[command(name = symbolize::SUBCOMMAND, hide = true)]
    Symbolizer,
}

impl Command {
    /// Runs the command. The exit code is 0, but for a command's own that is passed on.
    ///
    /// # Errors
    /// Whatever the command fails with; [`crate::error::exit_code`] tells them apart.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        privileges::refuse_setuid().map_err(|setuid| CannotTrace(setuid.to_string()))?;
        match self {
            Self::Record(args) => record::run(args),
            Self::Report(args) => {
                privileges::drop_all()
                    .context("failed to give up the capabilities that a report needs not")?;
                report::run(args).map(|()| ExitCode::SUCCESS)
            }
            Self::Doctor(args) => doctor::run(args),
            Self::Inspect(args) => inspect::run(args).map(|()| ExitCode::SUCCESS),
            Self::Leaks(args) => leaks::run(args),
            Self::Stat(args) => stat::run(args),
            Self::Top(args) => top::run(args),
            Self::Watch(args) => watch::run(args),
            Self::Symbolizer => {
                symbolize::serve()?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
