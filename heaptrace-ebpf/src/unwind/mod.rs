//! Walking a stack by unwind tables. The step itself is `heaptrace_common::unwind::step`; here are the loop that
//! the verifier takes, and the frames' way into the scratch buffer.

mod in_force;
mod memo;
mod memory;
pub mod new;
pub mod scratch;
mod tables;

use heaptrace_common::{
    settings::stack_mode,
    stack::{MAX_FRAMES, StackEnd},
    unwind::{UnwindMapping, step::step},
};

/// Where a walk is.
pub use heaptrace_common::unwind::step::Registers as Frame;

use crate::{maps::setting, mask::mask};
use in_force::InForce;
pub use memo::uw_remember;
pub use memory::return_address;
use memory::{UserMemory, Window};
use scratch::{Scratch, mix, seed};
use tables::MapTables;

/// The program's memory, through the buffer's window, of which nothing is kept.
///
/// # Safety
/// `scratch` is claimed.
#[inline(always)]
pub unsafe fn cleared_memory(scratch: *mut Scratch) -> UserMemory {
    unsafe {
        let window = &raw mut (*scratch).unwinder.window;
        Window::clear(window);
        UserMemory(window)
    }
}

/// What `scratch` has is no walk that could be remembered.
///
/// # Safety
/// `scratch` is claimed.
#[inline(always)]
pub unsafe fn forget_reads(scratch: *mut Scratch) {
    unsafe { Window::forget_reads(&raw mut (*scratch).unwinder.window) };
}

/// The site, plus one, of the stack that begins with `frame`, if it was walked before; else 0.
///
/// # Safety
/// `scratch` is claimed.
#[inline(always)]
pub unsafe fn recall(scratch: *mut Scratch, process: u32, function: u8, frame: Frame) -> u64 {
    unsafe {
        (*scratch).unwinder.registers = frame;
        memo::uw_recall(scratch, process, u32::from(function))
    }
}

/// Walks from a frame, the first of the stack: by the tables of `process` and, unless they alone are wanted, by frame pointers
/// where they know nothing.
///
/// # Safety
/// `scratch` is claimed.
#[inline(always)]
pub unsafe fn walk(scratch: *mut Scratch, process: u32, frame: Frame) {
    unsafe {
        walk_once(scratch, process, frame);
        if (*scratch).unwinder.in_force.was_replaced() {
            // Its lists or tables may have been given to others while it read them.
            walk_once(scratch, process, frame);
            if (*scratch).unwinder.in_force.was_replaced() {
                // The first frame needs no table.
                (*scratch).frames = 1;
                (*scratch).end = StackEnd::NoMapping as u32;
                (*scratch).hash = mix(seed(), frame.pc);
            }
        }
        (*scratch).hash = mix((*scratch).hash, u64::from((*scratch).end));
    }
}

#[inline(always)]
unsafe fn walk_once(scratch: *mut Scratch, process: u32, frame: Frame) {
    unsafe {
        let unwinder = &raw mut (*scratch).unwinder;
        (*unwinder).registers = frame;
        (*unwinder).first = frame;
        forget_reads(scratch);
        (*unwinder).current = UnwindMapping::UNUSED;
        (*unwinder).in_force = InForce::of(process);
        (*scratch).addresses[0] = frame.pc;
        (*scratch).frames = 1;
        (*scratch).end = StackEnd::Depth as u32;
        (*scratch).hash = mix(seed(), frame.pc);
        let mut frames: u32 = 0;
        while frames < MAX_FRAMES as u32 {
            if uw_step(scratch) != 0 {
                break;
            }
            frames += 1;
        }
    }
}

/// One frame; other than 0 at the end of the walk. A global function: the verifier checks it once, by itself, instead of once
/// for each round of the loop that calls it.
///
/// # Safety
/// `scratch` is null or claimed; the null test is the verifier's wish.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn uw_step(scratch: *mut Scratch) -> u64 {
    if scratch.is_null() {
        return 1;
    }
    u64::from(unsafe { one(scratch) })
}

/// One frame; whether it was the last.
#[inline(always)]
unsafe fn one(scratch: *mut Scratch) -> bool {
    let follow_bp = setting!(stack_mode) != stack_mode::DWARF;
    unsafe {
        if (*scratch).frames >= MAX_FRAMES as u32 {
            return true;
        }
        let unwinder = &raw mut (*scratch).unwinder;
        let exact = (*unwinder).registers.need_exact_rows();
        let mut tables = MapTables::of(scratch, exact);
        let mut memory = UserMemory(&raw mut (*unwinder).window);
        let result =
            step(&mut (*unwinder).registers, &mut (*unwinder).current, &mut tables, &mut memory, follow_bp);
        match result {
            Ok(()) => {
                push(scratch);
                false
            }
            Err(end) => {
                (*scratch).end = end as u32;
                true
            }
        }
    }
}

#[inline(always)]
unsafe fn push(scratch: *mut Scratch) {
    unsafe {
        let address = (*scratch).unwinder.registers.pc;
        let n = mask::<{ MAX_FRAMES as u64 }>(u64::from((*scratch).frames));
        *(&raw mut (*scratch).addresses).cast::<u64>().add(n) = address;
        (*scratch).frames += 1;
        (*scratch).hash = mix((*scratch).hash, address);
    }
}
