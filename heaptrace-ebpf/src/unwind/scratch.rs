//! Room for a walk: its frames, and where it is. And the hash that tells walks apart.

use aya_ebpf::{macros::map, maps::Array};
use heaptrace_common::{
    record::SiteThread,
    stack::MAX_FRAMES,
    unwind::{UnwindMapping, step::Registers},
};

use super::{in_force::InForce, memory::Window};
use crate::{
    helpers::processor,
    maps::setting,
    value::{Lookup, Value, at},
};

/// Room to walk a stack in: several for each CPU, as uprobe programs can be preempted from 6.0.
#[map]
static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// Buffers from one CPU's first to the next one's: a walk can be preempted by another thread's on the same CPU, seldom by
/// several.
const PER_CPU: u32 = 4;

/// Buffers that are tried, those of the next CPUs among them.
const TRIES: u32 = 16;

/// Bytes of the program's stack that are read at once: a read costs the same 30 ns for 16 bytes as for these, and
/// several frames are within them.
pub const WINDOW: usize = 256;

/// One walk's frames, innermost first. Owned by whoever swapped `busy` from 0 to 1: there is no `Value` of a buffer but of one
/// that is claimed.
#[repr(C)]
pub struct Scratch {
    pub busy: u64,
    pub hash: u64,
    pub frames: u32,
    pub end: u32,
    /// Who walks, and a hash of that; 0 where sites are not told apart by thread.
    pub thread: SiteThread,
    pub thread_hash: u64,
    /// One more than `MAX_FRAMES`, so that an index can be masked.
    pub addresses: [u64; MAX_FRAMES + 1],
    /// A part of the program's stack, and a word more: a masked index and the one after it are within.
    pub window: [u64; WINDOW / 8 + 1],
    pub unwinder: Unwinder,
}

/// A walk's state beside its frames.
#[repr(C)]
pub struct Unwinder {
    pub registers: Registers,
    /// Those that the walk began with.
    pub first: Registers,
    /// The mapping found last.
    pub current: UnwindMapping,
    pub in_force: InForce,
    pub window: Window,
}

/// Of the instruction that a walk has come to.
#[inline(always)]
pub fn address(scratch: Value<Scratch>) -> u64 {
    at!(scratch.unwinder.registers.pc).get().wrapping_sub(1)
}

/// Claims a buffer. `None` if those that are tried are taken.
#[inline(always)]
pub fn claim() -> Option<Value<Scratch>> {
    let first = processor().wrapping_mul(PER_CPU);
    let mut n = 0;
    while n < TRIES {
        let scratch = SCRATCH.value(first.wrapping_add(n) & setting!(scratch_mask) as u32)?;
        if at!(scratch.busy).swap(1) == 0 {
            return Some(scratch);
        }
        n += 1;
    }
    None
}

/// Gives a claimed buffer back, which is not used afterwards.
#[inline(always)]
pub fn release(scratch: Value<Scratch>) {
    at!(scratch.busy).store(0);
}

/// What a walk's hash begins with: a number that nobody outside knows.
#[inline(always)]
pub fn seed() -> u64 {
    setting!(secret)
}

#[inline(always)]
pub fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}
