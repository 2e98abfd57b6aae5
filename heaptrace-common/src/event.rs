//! Rare events that go through the ring buffer: never one per allocation.

/// What happened.
pub mod kind {
    /// A traced process forked; `process` is the child's record, `other` the parent's.
    pub const FORK: u32 = 1;
    /// A traced process replaced its image; `process` is the new record, `other` the old one, or
    /// `NO_PROCESS` if it became a target by this exec.
    pub const EXEC: u32 = 2;
    /// The last thread of a traced process exited.
    pub const EXIT: u32 = 3;
    /// An executable mapping appeared in a traced process.
    pub const MAP_EXEC: u32 = 4;
    /// System-wide: a process that is no target yet replaced its image.
    pub const EXEC_ELSEWHERE: u32 = 5;
    /// The first thread of a traced process exited, and others go on.
    pub const LEADER_EXIT: u32 = 6;
    /// A new stack ended at an interrupted frame, whose instruction is at `address`.
    pub const INTERRUPTED: u32 = 7;
    /// A mapping changed: the event is the head of a `growth::GrowthEvent`.
    pub const GROWTH: u32 = 8;
    /// Growth is followed: a page fault in user mode. `address` and `length` are the page's, `other` is the site's number plus one.
    pub const FAULT: u32 = 9;
}

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// One of `kind`.
    pub kind: u32,
    pub tgid: u32,
    /// Process record concerned.
    pub process: u32,
    /// Another record, by kind.
    pub other: u32,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Mapping: start and length in bytes. EXEC: `address` is the thread that made it, by its ID until then, and `length` all
    /// that the new image maps; 0 if that is not known.
    pub address: u64,
    pub length: u64,
    /// FORK: the parent's tgid.
    pub parent_tgid: u32,
    /// The share that it takes from until it is read, plus one; 0 for none.
    pub share: u32,
}

const _: () = assert!(size_of::<Event>() == 48);
