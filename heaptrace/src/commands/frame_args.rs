//! The options for what of stacks is shown.

use super::headings::SHOWN;
use crate::{attribution::Attribution, created, error::Usage};
use anyhow::Context as _;
use clap::Args;
use std::{io::Read as _, path::PathBuf};

/// More than anybody writes by hand.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Default, Args)]
pub struct FrameArgs {
    /// Show all frames in text. By default the inner ones of allocators, their wrappers, the language's own library and
    /// interpreters are left out, and a site is the first frame that is none of those.
    #[arg(long, help_heading = SHOWN, conflicts_with = "hide_frames")]
    raw_frames: bool,
    /// Leave out these frames, too: a file with a pattern for functions a line (zmalloc*), or obj: and one for files
    /// (obj:libfoo.so*).
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
        let mut more = None;
        if let Some(path) = hide_frames {
            let mut text = String::new();
            let read =
                created::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
            let read = read.with_context(|| format!("failed to read {}", path.display()))?;
            if read as u64 > MOST_BYTES {
                return Err(Usage(format!("{} is longer than {MOST_BYTES} bytes", path.display())).into());
            }
            more = Some(text);
        }
        Attribution::new(*raw_frames, more.as_deref(), *full_symbols).map_err(|error| {
            let path = hide_frames.as_deref().unwrap_or_else(|| "--hide-frames".as_ref());
            Usage(format!("{}: {error}", path.display())).into()
        })
    }
}
