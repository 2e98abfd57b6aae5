//! `heaptrace doctor`: what works here, and how a process would be traced.

use super::{output::Output, target_args::process_of};
use crate::doctor;
use clap::{Args, ValueEnum};
use std::process::ExitCode;

/// The exit code where nothing can be traced, as of [`crate::error::CannotTrace`].
const CANNOT_TRACE: u8 = 4;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also check this process: its allocators, and each probe it would get.
    pub pid: Option<u32>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub format: DoctorFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    #[default]
    Text,
    Json,
}

/// Runs `heaptrace doctor`. The exit code says whether tracing works.
///
/// # Errors
/// If the diagnosis cannot be written.
pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let DoctorArgs { pid, format } = args;
    let diagnosis = doctor::examine(pid.map(process_of));
    Output::stdout().print_all(|out| match format {
        DoctorFormat::Text => diagnosis.write_text(out),
        DoctorFormat::Json => diagnosis.write_json(out),
    })?;
    Ok(if diagnosis.can_trace { ExitCode::SUCCESS } else { ExitCode::from(CANNOT_TRACE) })
}
