//! How many lines the BPF programs may write, where they are asked to.

/// Lines of what one counter counts, in a [`PERIOD_NS`]: enough to see what it is about. All counters' together stay far
/// below what the ring holds until it is read.
pub const LINES: u64 = 10;

/// One second.
pub const PERIOD_NS: u64 = 1_000_000_000;

/// What was written, and what was not, of one counter's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Which period `lines` is of.
    pub period: u64,
    pub lines: u64,
    /// Lines that were too many, since tracing began.
    pub left_out: u64,
}

const _: () = assert!(size_of::<Budget>() == 24);
