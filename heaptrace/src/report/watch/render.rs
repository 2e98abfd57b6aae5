//! From a format to who writes it.

use super::{GrowthCall, WatchEnd, json, text};
use crate::{model::Profile, report::PrintFormat};
use std::io::{self, Write};

/// Writes `calls`, in order. `first`: nothing was written before. `stacks`: text has them, too.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render_calls(
    format: PrintFormat,
    (profile, calls): (&Profile, &[GrowthCall]),
    first: bool,
    stacks: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        PrintFormat::Text => text::render_calls(profile, calls, first, stacks, out),
        PrintFormat::Json => json::render_calls(profile, calls, out),
    }
}

/// Writes the totals, and what they cover.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render_end(format: PrintFormat, end: &WatchEnd<'_>, out: &mut dyn Write) -> io::Result<()> {
    match format {
        PrintFormat::Text => text::render_end(end, out),
        PrintFormat::Json => json::render_end(end, out),
    }
}
