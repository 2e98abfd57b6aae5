//! `heaptrace doctor`: what works here, and how a process would be traced.

use super::{mode_prices, output::Output, progress::Progress, target_args::process_of};
use crate::doctor::{self, Modes};
use clap::{Args, ValueEnum};
use std::process::ExitCode;

/// The exit code where nothing can be traced, as of [`crate::error::CannotTrace`].
const CANNOT_TRACE: u8 = 4;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also check this process: its allocators, and each probe it would get.
    pub pid: Option<u32>,
    /// The same, as other commands take it.
    #[arg(short = 'p', long = "pid", value_name = "PID", conflicts_with = "pid")]
    pub process: Option<u32>,
    /// Also measure what each mode of `record --trace` costs: takes some ten seconds, in a child of heaptrace's.
    #[arg(long)]
    pub modes: bool,
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
    let DoctorArgs { pid, process, modes, format } = args;
    let mut diagnosis = doctor::examine(pid.or(process).map(process_of));
    if modes {
        diagnosis.modes = Some(measured());
    }
    Output::stdout().print_all(|out| match format {
        DoctorFormat::Text => diagnosis.write_text(out),
        DoctorFormat::Json => diagnosis.write_json(out),
    })?;
    Ok(if diagnosis.can_trace { ExitCode::SUCCESS } else { ExitCode::from(CANNOT_TRACE) })
}

fn measured() -> Modes {
    let progress = Progress::new();
    let modes = Modes { measured_in: "a child of heaptrace's", prices: Vec::new(), error: None };
    match mode_prices::measure(|mode| progress.say(&format!("measuring what --trace {mode} costs"))) {
        Ok(prices) => Modes { prices, ..modes },
        Err(error) => Modes { error: Some(format!("{error:#}")), ..modes },
    }
}
