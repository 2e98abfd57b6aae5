//! From a format to who writes it.

use super::{Leaks, PrintFormat, json, text};
use std::io::{self, Write};

/// Writes one print.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render(format: PrintFormat, leaks: &Leaks<'_>, out: &mut dyn Write) -> io::Result<()> {
    match format {
        PrintFormat::Text => text::render(leaks, out),
        PrintFormat::Json => json::render(leaks, out),
    }
}
