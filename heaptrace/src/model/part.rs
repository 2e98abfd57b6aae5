//! What part of a recording's time a profile is of: the state at a moment at which it was saved, or what came between two of them.

use super::{Amount, ProcessId};

/// What a profile is of, where that is not the whole recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: PartKind,
    /// Since the start; 0 but for spans.
    pub from_ns: u64,
    pub to_ns: u64,
    /// How long the recording is.
    pub whole_ns: u64,
    /// How many times it was saved.
    pub saved: u64,
}

impl Part {
    /// Whether it is what came between two moments.
    pub fn is_span(&self) -> bool {
        matches!(self.kind, PartKind::Span { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    Moment,
    /// The one at which most was live.
    Peak {
        real: Option<RealPeak>,
    },
    /// What stacks have less at its end than at its beginning is in no total.
    Span {
        shrank: Amount,
    },
}

/// Most live bytes of the process that had most, at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealPeak {
    pub process: ProcessId,
    pub bytes: u64,
    /// It was between these moments.
    pub after_ns: u64,
    pub by_ns: u64,
}
