//! `heaptrace inspect`: a process's memory and heap as they stand, without tracing.

use super::{
    output::{Destination, Output},
    raw_args::RawArgs,
    target_args::process_of,
};
use crate::{
    error::CannotTrace,
    inspect::{self, InspectError, Inspection},
};
use anyhow::Context as _;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Process to look at.
    #[arg(required_unless_present = "process")]
    pub pid: Option<u32>,
    /// The same, as other commands take it.
    #[arg(short = 'p', long = "pid", value_name = "PID", conflicts_with = "pid")]
    pub process: Option<u32>,
    /// Output format; svg is a map of a glibc heap.
    #[arg(long, value_enum, default_value_t)]
    pub format: InspectFormat,
    /// Write to this file; - is standard output.
    #[arg(short, long, value_name = "OUT", default_value = "-")]
    pub output: Destination,
    #[command(flatten)]
    pub raw: RawArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InspectFormat {
    #[default]
    Text,
    Svg,
    Json,
}

/// Runs `heaptrace inspect`.
///
/// # Errors
/// If the process is gone or may not be looked at, there is no heap to draw, or the report cannot be written.
pub fn run(args: InspectArgs) -> anyhow::Result<()> {
    let InspectArgs { pid, process, format, output, raw } = args;
    let pid = pid.or(process).context("no process was named")?;
    let output = Output::open(&output)?.with(raw.numbers());
    // The process or the permission is missing in each case: nothing of ours that failed.
    let found = inspect::examine(process_of(pid))
        .map_err(|error: InspectError| CannotTrace(format!("cannot inspect: {error}")))?;
    write(&found, format, output)
}

fn write(found: &Inspection, format: InspectFormat, output: Output) -> anyhow::Result<()> {
    if format == InspectFormat::Svg && found.glibc.is_none() {
        let why = match found.jemalloc {
            Some(_) => "jemalloc does not say where its blocks are".to_owned(),
            None => found.notes.join("; "),
        };
        return Err(CannotTrace(format!(
            "no heap to draw in process {}: {why}; `--format text` tells what there is",
            found.pid
        ))
        .into());
    }
    output.print_all(|out| match format {
        InspectFormat::Text => found.write_text(out),
        InspectFormat::Svg => found.write_svg(out),
        InspectFormat::Json => found.write_json(out),
    })
}
