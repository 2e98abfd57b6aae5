//! From a format to who writes it.

use super::{Stat, json, text};
use crate::report::PrintFormat;
use std::io::{self, Write};

/// Writes one print.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render(format: PrintFormat, stat: &Stat<'_>, out: &mut dyn Write) -> io::Result<()> {
    match format {
        PrintFormat::Text if stat.last => text::render(stat, out),
        PrintFormat::Text => text::line(stat, out),
        PrintFormat::Json => json::render(stat, out),
    }
}
