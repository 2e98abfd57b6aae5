//! What changed between recordings, `heaptrace diff`: call stacks matched by what stays the same across builds, restarts and
//! machines, and how their bytes and blocks differ.
//!
//! Each recording becomes a [`Side`], so that only one profile is in memory at a time; [`Compared`] is what several come to,
//! and one file a format writes that down.

mod compare;
mod csv;
mod json;
mod markdown;
mod measured;
mod names;
mod side;
mod svg;
mod text;

#[cfg(test)]
mod tests;

pub use compare::{Compared, Limit};
pub use names::Names;
pub use side::Side;

use super::View;
use clap::ValueEnum;
use std::io::{self, Write};

/// How a comparison is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// What grew, is new, shrank and is gone, the most first.
    #[default]
    Text,
    /// One object.
    Json,
    /// A line a row, with a heading.
    Csv,
    /// Tables for a comment on a change.
    Markdown,
    /// Differential flame graph: as wide as after, red where there is more than before, blue where less.
    Svg,
}

/// What rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffBy {
    /// Whole call stacks.
    #[default]
    Stack,
    /// Function that called the allocator.
    Function,
    /// Program or library that called the allocator.
    Module,
    /// Process, by name.
    Process,
}

/// What numbers are divided by, so that recordings of different length can be compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Per {
    /// Nothing.
    #[default]
    Recording,
    /// The time that was traced.
    Second,
    /// Of what was done (requests, jobs) so many in each recording; above 0, one for each.
    Counts(Vec<f64>),
}

/// What to compare, and how much of it to show.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffOptions {
    pub view: View,
    pub by: DiffBy,
    pub per: Per,
    /// Rows shown of each kind; 0 shows all.
    pub top: usize,
    /// Rows that changed by fewer bytes are left out, and counted.
    pub min_bytes: u64,
    /// What is too much growth.
    pub limit: Option<Limit>,
}

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
