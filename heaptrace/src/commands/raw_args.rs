//! The option for numbers that programs read.

use super::headings::OUTPUT;
use crate::units::Numbers;
use clap::Args;

#[derive(Clone, Copy, Debug, Default, Args)]
pub struct RawArgs {
    /// In text, write numbers whole: bytes and seconds, without separators and larger units (for awk and the like).
    #[arg(long, help_heading = OUTPUT)]
    raw: bool,
}

impl RawArgs {
    pub(crate) fn numbers(self) -> Numbers {
        if self.raw { Numbers::Raw } else { Numbers::Readable }
    }
}
