//! What a format is to those who choose one: its name, its files, what it can show, and who writes it.

use super::Options;
use crate::model::Profile;
use std::io::{self, Write};

/// A format of reports. [`super::Format`] lists them.
pub(super) struct Export {
    pub name: &'static str,
    /// For `--help`: what it is, and what opens it.
    pub help: &'static str,
    /// Names of its files, with `*` at their beginning or end.
    pub files: &'static [&'static str],
    pub content: Content,
    pub is_binary: bool,
    pub past: Past,
    /// It has a place for what is missing from its numbers.
    pub tells_losses: bool,
    pub render: fn(&Profile, &Options, &mut dyn Write) -> io::Result<Untold>,
}

/// What was left out, where the report has no place for it, or for all of it.
pub(super) type Untold = Option<String>;

/// What a format shows of how what is live came about. For more than nothing a recording is read more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    None,
    /// Sums over time, and who held what at the peak.
    Peak,
    /// Sums over time, and who held what at several moments.
    Stills,
}

/// What a format can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Every view.
    Views,
    /// Whole stacks, so views that have stacks.
    Stacks,
    /// The same; the sizes view is taken, too, and is that of all allocations to it.
    StacksForSizes,
}

impl Export {
    /// How surely the name of a file says that it is of this format; the most decides between several: an ending before a
    /// beginning, then the longer one.
    pub fn matches(&self, file: &str) -> Option<(bool, usize)> {
        let fits = |pattern: &&str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(end), _) => file.ends_with(end),
            (None, Some(begin)) => file.starts_with(begin),
            (None, None) => file == *pattern,
        };
        self.files
            .iter()
            .filter(|pattern| fits(pattern))
            .map(|pattern| (pattern.starts_with('*'), pattern.len()))
            .max()
    }
}
