//! The option for more words.

use clap::Args;

#[derive(Clone, Copy, Debug, Args)]
pub struct VerboseArgs {
    /// Say in the footer of each process and file what is said of all.
    #[arg(short, long)]
    pub verbose: bool,
}
