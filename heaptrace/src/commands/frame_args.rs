//! The options for what of stacks is shown.

use super::{headings::SHOWN, ignore_args::text};
use crate::{attribution::Attribution, error::Usage};
use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Args)]
pub struct FrameArgs {
    /// Show all frames in text. By default the inner ones of allocators, their wrappers, the language's own library and
    /// interpreters are left out, and a site is the first frame that is none of those.
    #[arg(long, help_heading = SHOWN, conflicts_with = "hide_frames")]
    raw_frames: bool,
    /// Leave out these frames, too: a file with a pattern for functions a line (zmalloc*), or obj: and one for files
    /// (obj:libfoo.so*), or src: and one for source files (src:*/vendor/*).
    #[arg(long, help_heading = SHOWN, value_name = "FILE")]
    hide_frames: Option<PathBuf>,
    /// Show long template arguments in text.
    #[arg(long, help_heading = SHOWN)]
    full_symbols: bool,
}

impl FrameArgs {
    /// What they say.
    ///
    /// # Errors
    /// If the file cannot be read, or holds what is no pattern.
    pub fn attribution(&self) -> anyhow::Result<Attribution> {
        let Self { raw_frames, hide_frames, full_symbols } = self;
        let more = hide_frames.as_deref().map(text).transpose()?;
        Attribution::new(*raw_frames, more.as_deref(), *full_symbols).map_err(|error| {
            let path = hide_frames.as_deref().unwrap_or_else(|| "--hide-frames".as_ref());
            Usage(format!("{}: {error}", path.display())).into()
        })
    }
}
