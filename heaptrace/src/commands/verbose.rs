//! The option for more words.

use super::headings::OUTPUT;
use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Args)]
pub struct VerboseArgs {
    /// Say more, on standard error.
    #[arg(long, value_enum, value_name = "WHAT", require_equals = true, help_heading = OUTPUT)]
    verbose: Vec<Verbose>,
}

/// What more is said of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Verbose {
    /// Log lines of the BPF programs: calls whose start or end was missed, full tables, unreadable addresses.
    Bpf,
}

impl VerboseArgs {
    /// Whether the BPF programs log.
    pub fn bpf(&self) -> bool {
        self.verbose.contains(&Verbose::Bpf)
    }
}
