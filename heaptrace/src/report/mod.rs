//! Reports: one file a format, each a pure function of a profile and [`Options`] into a writer, without
//! clock, environment or I/O of its own.

mod addresses;
mod alike;
mod arenas;
mod callgrind;
mod churn;
mod counters;
mod csv;
mod dhat;
mod diff;
mod expansion;
mod export;
mod firefox;
mod folded;
mod footer;
mod formats;
mod frames;
mod frees;
mod heaptrack;
mod hints;
mod html;
mod ignored;
mod ignoring;
mod json;
mod labels;
mod leaks;
mod massif;
mod names;
mod ndjson;
mod notes;
mod otlp;
mod part;
mod particulars;
mod pprof;
mod quantity;
mod remarks;
mod rss;
mod select;
mod sizes;
mod speedscope;
mod stacks;
mod stat;
mod suspects;
mod svg;
mod table;
mod text;
mod thresholds;
mod tree;
mod unnamed;
mod verdicts;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

pub use counters::in_short as lost_in_short;
pub use diff::{
    Chosen as DiffChosen, Compared, DiffBy, DiffFormat, DiffOptions, Limit, Names as DiffNames, Per, Side,
    render_diff,
};
pub use expansion::expansion;
pub use export::Past;
pub use footer::{losses, summary};
pub use formats::{Format, render};
pub use html::END as PAGE_END;
pub use ignored::Ignored;
pub use ignoring::ignore;
pub use leaks::{
    Leaks, Merged, PrintFormat, crossed as crossed_leaks, ignore as ignore_leaks, merge as merge_leaks,
    render as render_leaks, uncounted as uncounted_leaks, undecided as undecided_leaks,
};
pub use names::StackNames;
pub use notes::said;
pub use part::part;
pub use rss::{residency_lines, residency_lines_of};
pub use select::live_intervals;
pub use stat::{Glance, Stat, render as render_stat};
pub use thresholds::{Thresholds, crossed, has_verdicts, uncounted_live};
pub use verdicts::in_words as verdict_in_words;
pub use walk::walk;
pub use watch::{
    GrowthCall, GrowthTotals, WatchEnd, render_calls as render_watch_calls, render_end as render_watch_end,
};

use crate::attribution::Attribution;
use crate::model::Mode;
use clap::ValueEnum;

/// What a report is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Still allocated at the end.
    #[default]
    Live,
    /// The same, by what looks most like a leak: each stack with what its blocks look like, and why.
    Leaks,
    /// All allocations, and how much of them was freed.
    Alloc,
    /// What was allocated and freed again: how often, and of which sizes.
    Churn,
    /// Allocations by block size.
    Sizes,
    /// Who asked the kernel for memory (brk, mmap, mremap). Overlaps the heap; don't add the two.
    Growth,
    /// Page faults: who touched memory first, one page each. Needs `record --faults`.
    Faults,
    /// What resident memory consists of: live blocks, blocks from before tracing, free memory the allocator keeps,
    /// stacks, files.
    Rss,
}

impl View {
    /// Whether it is about the allocator's blocks.
    pub(crate) fn is_of_blocks(self) -> bool {
        !matches!(self, Self::Growth | Self::Faults)
    }

    /// Whether it has what is live, and nothing else.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Leaks)
    }

    /// What is shown of a recording of this mode where no view is named.
    pub fn of_mode(mode: Mode) -> Self {
        match mode {
            Mode::Exact | Mode::Sampled(_) | Mode::Native => Self::Live,
            Mode::Allocs => Self::Alloc,
            Mode::Growth => Self::Growth,
            Mode::Faults => Self::Faults,
        }
    }
}

/// What rows of a text report are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Function that called the allocator (the first of its stack that is the user's), with the tree of its callers.
    #[default]
    Stack,
    /// Source line that called the allocator.
    Site,
    /// Function, with all that it calls: a block counts for each function of its stack.
    Function,
    /// Program or library that called the allocator; in svg a colour for each.
    Module,
    /// Process.
    Process,
    /// Thread that called the allocator, by its ID and the name that it had then. Needs `record --threads`.
    Thread,
}

/// What to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub view: View,
    /// Rows of the text report; the other formats hold whole stacks, of which svg has modules in colours.
    pub by: By,
    /// Flame graphs and folded stacks: the innermost function first.
    pub inverted: bool,
    /// Only processes of this PID.
    pub pid: Option<u32>,
    /// Leave out rows (stacks, in formats without rows) of fewer bytes.
    pub min_bytes: u64,
    /// Text: leave out rows and branches below this share of all bytes, in hundredths of a percent.
    pub limit: u32,
    /// Bytes of memory that a flame graph or call graph may be made in: the smallest stacks are left out, and told, beyond
    /// that.
    pub memory: Option<u64>,
    /// Text: a line for each process and file in the footer, too.
    pub verbose: bool,
    /// Text: what of stacks is shown.
    pub frames: Attribution,
    /// Text: with what the recording suggests to do.
    pub hints: bool,
    /// What was taken out of the profile as somebody had asked for.
    pub ignored: Option<Ignored>,
}

impl Options {
    /// The fewest bytes that a row of the text report can have, where all have `total`.
    fn least(&self, total: u64) -> u64 {
        let share = u128::from(total) * u128::from(self.limit) / 10_000;
        self.min_bytes.max(u64::try_from(share).unwrap_or(u64::MAX))
    }
}
