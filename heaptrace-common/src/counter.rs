//! Counters of what was lost or set aside, by reason. Every one is printed in a report's footer.

/// Index into the BPF side's per-CPU counter array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// A new block found no room in the live map; the block is in no total.
    LiveMapFull = 0,
    /// A new stack or site found no room; its blocks count for the process under an unknown stack.
    SiteTableFull = 1,
    /// No place where a call could wait for its result; the call is in no total.
    PendingFull = 2,
    /// A rare event (fork, exec, exit, mapping) found the ring buffer full.
    RingFull = 3,
    /// No room for another process; its calls are in no total.
    ProcessTableFull = 4,
    /// A call whose result was never seen: left by longjmp or an exception, its thread ended, or by an exit without a
    /// probe.
    MissedReturn = 5,
    /// A result of a call whose beginning was not seen, e.g. one that was under way when tracing began.
    UnpairedReturn = 6,
    /// A call that an allocation function made itself: no allocation or free of the program's.
    Nested = 7,
    /// No scratch buffer to walk a stack in; the block counts under an unknown stack.
    ScratchBusy = 8,
    /// A call's size or result lies in memory that could not be read; the block is in no total.
    ResultUnreadable = 9,
    /// A stack of growth or of a fault found no room; what came of it is in the process's totals alone.
    GrowthSiteFull = 10,
    /// A call that was not as its function's code says, see [`crate::check`]: what was counted of it may be wrong.
    Disagreed = 11,
    /// Where frees are not seen, or blocks are sampled: a new block found no room in the live map, and counts as live for good.
    Unfollowed = 12,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// Every counter, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::LiveMapFull,
        Self::SiteTableFull,
        Self::PendingFull,
        Self::RingFull,
        Self::ProcessTableFull,
        Self::MissedReturn,
        Self::UnpairedReturn,
        Self::Nested,
        Self::ScratchBusy,
        Self::ResultUnreadable,
        Self::GrowthSiteFull,
        Self::Disagreed,
        Self::Unfollowed,
    ];
}
