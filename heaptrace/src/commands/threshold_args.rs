//! The options for what is too much, so that the exit code tells.

use super::{bytes::parse_bytes, headings::OUTPUT};
use crate::{printable::say, report::Thresholds};
use clap::{Args, ValueEnum};
use std::process::ExitCode;

/// What a command ends with where a threshold was crossed.
pub(super) const CROSSED: u8 = 3;

#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ThresholdArgs {
    /// Exit with code 3, and name the sites, if there are more bytes than this. Of estimates the least that they may be counts.
    /// Accepts the suffixes k, M and G (powers of 1024).
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = OUTPUT)]
    fail_above: Option<u64>,
    /// Exit with code 3, and name the sites, if any looks like a leak.
    #[arg(long, value_enum, value_name = "WHAT", help_heading = OUTPUT)]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A site whose verdict is LEAK-LIKE.
    LeakLike,
}

impl ThresholdArgs {
    pub fn thresholds(self) -> Thresholds {
        Thresholds { above: self.fail_above, leak_like: self.fail_on == Some(FailOn::LeakLike) }
    }
}

/// Says what was crossed, and what to exit with; `None` where nothing was.
pub(super) fn say_crossed(lines: &[String]) -> Option<ExitCode> {
    lines.iter().for_each(|line| say(format_args!("{line}")));
    (!lines.is_empty()).then(|| CROSSED.into())
}
