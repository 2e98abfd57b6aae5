//! What to compare, and how.

use crate::{
    attribution::Attribution,
    report::{Ignored, View},
};
use clap::ValueEnum;

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

/// What of a recording is compared.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    pub view: View,
    pub by: DiffBy,
    /// What of stacks is shown.
    pub frames: &'a Attribution,
    /// Stacks are compared with all of their frames.
    pub whole_stacks: bool,
    /// What was taken out before.
    pub ignored: Option<&'a Ignored>,
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

/// How much growth is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    Bytes(u64),
    /// Of all bytes of the first recording.
    Percent(f64),
}
