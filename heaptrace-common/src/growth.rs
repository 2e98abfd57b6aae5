//! One call that changed a process's mappings, as userspace is told of it through the ring.

use crate::event::Event;

/// Which system call.
pub mod call {
    pub const BRK: u32 = 1;
    pub const MMAP: u32 = 2;
    pub const MUNMAP: u32 = 3;
    pub const MREMAP: u32 = 4;
    /// One that gives memory back, which stays mapped.
    pub const MADVISE: u32 = 5;
}

/// A call that succeeded. Lengths are rounded up to pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrowthEvent {
    /// First, so that the ring's events all begin alike. `kind` is `kind::GROWTH`, `other` the thread, `time_ns` when
    /// the call returned, `address` its result, `length` the new length (munmap and madvise: their arguments).
    pub event: Event,
    /// When the call began.
    pub entered_ns: u64,
    /// mremap: the old mapping. brk: the old break.
    pub old_address: u64,
    pub old_length: u64,
    /// mmap's or mremap's; madvise's advice.
    pub flags: u64,
    /// What the process mapped (`mm_struct.total_vm`, in bytes) when the call began and when it returned; 0 where calls are
    /// followed, or the kernel's types are not known.
    pub total_before: u64,
    pub total_after: u64,
    /// One of `call`.
    pub call: u32,
    /// The stack's innermost node, see `tree`.
    pub stack: u32,
    pub frames: u8,
    /// `StackEnd`.
    pub end: u8,
    /// 0 if no stack was asked for, or it found no room.
    pub has_stack: u8,
    /// 1 if no other growth call of the process was under way meanwhile: then the difference of the totals is the call's.
    pub alone: u8,
    /// Where calls are followed: the site's number plus one, of a call that maps more; 0 if it found no room.
    pub site: u32,
}

const _: () = assert!(size_of::<GrowthEvent>() == 48 + 64);
