//! From a format to who writes it.

use super::{
    compare::Compared,
    csv, json, markdown,
    options::{DiffFormat, DiffOptions},
    svg, text,
};
use std::io::{self, Write};

/// Writes a comparison down.
///
/// # Errors
/// What writing to `out` fails with.
pub fn render_diff(
    format: DiffFormat,
    compared: &Compared,
    options: &DiffOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        DiffFormat::Text => text::render(compared, options, out),
        DiffFormat::Json => json::render(compared, options, out),
        DiffFormat::Csv => csv::render(compared, options, out),
        DiffFormat::Markdown => markdown::render(compared, options, out),
        DiffFormat::Svg => svg::render(compared, options, out),
    }
}
