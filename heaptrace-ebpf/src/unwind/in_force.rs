//! Which lists of unwind tables a process has now.

use aya_ebpf::maps::Array;
use heaptrace_common::unwind::Published;

use super::new;
use crate::{
    maps::{UNWIND_EXACT, UNWIND_PROCESSES},
    value::{Lookup, Value},
};

/// What is in force for one process, and how many of its new mappings count.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InForce {
    pub calls: Published,
    pub exact: Published,
    pub head: u64,
    pub process: u32,
    pub unseen: u32,
}

impl InForce {
    /// Now.
    #[inline(always)]
    pub fn of(process: u32) -> Self {
        // Before the head: what is new since may be in the list too, but none is in neither.
        let (calls, exact) = (published(&UNWIND_PROCESSES, process), published(&UNWIND_EXACT, process));
        let head = new::head(process);
        Self { calls, exact, head, process, unseen: calls.unseen(head) as u32 }
    }
}

impl InForce {
    /// The list of tables for calls; [`INCOMPLETE`] if there are mappings that it does not have.
    #[inline(always)]
    pub fn list(&self) -> u64 {
        list_bits(self.calls, self.unseen)
    }

    /// Whether userspace has put other lists in force since. It writes those of before, and what they refer to, only
    /// after that.
    #[inline(always)]
    pub fn was_replaced(&self) -> bool {
        // Both read anew, so that there is one branch.
        let calls = published(&UNWIND_PROCESSES, self.process).0 ^ self.calls.0;
        let exact = published(&UNWIND_EXACT, self.process).0 ^ self.exact.0;
        // How many new mappings a list has is no other list.
        (calls & !SEEN) | exact != 0
    }
}

/// In the place of a list's bits: no list has them all.
pub const INCOMPLETE: u64 = u64::MAX;

/// [`InForce::list`] of a process now.
#[inline(always)]
pub fn list_in_force(process: u32) -> u64 {
    // Before the head, as in `InForce::of`.
    let calls = published(&UNWIND_PROCESSES, process);
    list_bits(calls, calls.unseen(new::head(process)) as u32)
}

#[inline(always)]
fn list_bits(calls: Published, unseen: u32) -> u64 {
    if unseen != 0 { INCOMPLETE } else { calls.0 & !SEEN }
}

/// The bits of `Published` that change while a list stays in force.
const SEEN: u64 = 0xffff_0000;

#[inline(always)]
fn published(map: &Array<u64>, process: u32) -> Published {
    Published(map.value(process).map_or(0, Value::load))
}
