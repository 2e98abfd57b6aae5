//! The option for threads where they are shown as they are traced.

use super::{
    headings::WHAT,
    trace_args::{Besides, Tracing},
};
use crate::error::Usage;
use clap::Args;

#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ThreadArgs {
    /// Tell threads apart: show which of them allocated, by the name that each had then. There are as many more stacks as threads
    /// that share them (see --max-sites).
    #[arg(long, help_heading = WHAT)]
    threads: bool,
}

impl ThreadArgs {
    /// The same, with threads told apart where that is asked for.
    ///
    /// # Errors
    /// Where nothing of threads is kept.
    pub fn of(self, tracing: Tracing) -> Result<Tracing, Usage> {
        if self.threads && !tracing.mode.has_blocks() {
            return Err(Usage(
                "--threads tells apart who allocated blocks, and --trace growth and faults trace none"
                    .to_owned(),
            ));
        }
        let besides = Besides { threads: self.threads, ..tracing.besides };
        Ok(Tracing { besides, ..tracing })
    }
}
