//! `heaptrace inspect`: a process's memory and heap as they stand, without tracing.

use super::output::Output;
use crate::{
    error::CannotTrace,
    inspect::{self, InspectError},
};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The process to look at.
    pub pid: u32,
    /// How to write it down.
    #[arg(long, value_enum, default_value_t)]
    pub format: InspectFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InspectFormat {
    #[default]
    Text,
    Json,
}

/// Runs `heaptrace inspect`.
///
/// # Errors
/// If the process is gone or may not be looked at, or the report cannot be written.
pub fn run(args: InspectArgs) -> anyhow::Result<()> {
    let InspectArgs { pid, format } = args;
    // The process or the permission is missing in each case: nothing of ours that failed.
    let found = inspect::examine(pid)
        .map_err(|error: InspectError| CannotTrace(format!("cannot inspect: {error}")))?;
    Output::Stdout.write(|out| match format {
        InspectFormat::Text => found.write_text(out),
        InspectFormat::Json => found.write_json(out),
    })
}
