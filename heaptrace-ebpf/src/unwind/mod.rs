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

use crate::{
    maps::setting,
    value::{Value, at, plain},
};
use in_force::InForce;
pub use memory::return_address;
use memory::{UserMemory, Window};
use scratch::{Scratch, mix, seed};
use tables::MapTables;

plain!(Frame, UnwindMapping, InForce);

/// The program's memory, through the buffer's window, of which nothing is kept.
#[inline(always)]
pub fn cleared_memory(scratch: Value<Scratch>) -> UserMemory {
    let window = at!(scratch.unwinder.window);
    Window::clear(window);
    UserMemory(window)
}

/// What `scratch` has is no walk that could be remembered.
#[inline(always)]
pub fn forget_reads(scratch: Value<Scratch>) {
    Window::forget_reads(at!(scratch.unwinder.window));
}

/// The site, plus one, of the stack that begins with `frame`, if it was walked before; else 0.
#[inline(always)]
pub fn recall(scratch: Value<Scratch>, process: u32, function: u8, frame: Frame) -> u64 {
    at!(scratch.unwinder.registers).set(frame);
    // SAFETY: a claimed buffer, see `Scratch`.
    unsafe { memo::uw_recall(scratch.as_ptr(), process, u32::from(function)) }
}

/// Remembers that the walk that `scratch` has is of `site`.
#[inline(always)]
pub fn remember(scratch: Value<Scratch>, process: u32, function: u8, site: u32) {
    // SAFETY: a claimed buffer, see `Scratch`.
    unsafe { memo::uw_remember(scratch.as_ptr(), process, u32::from(function), site) };
}

/// Walks from a frame, the first of the stack: by the tables of `process` and, unless they alone are wanted, by frame pointers
/// where they know nothing.
#[inline(always)]
pub fn walk(scratch: Value<Scratch>, process: u32, frame: Frame) {
    walk_once(scratch, process, frame);
    if at!(scratch.unwinder.in_force).get().was_replaced() {
        // Its lists or tables may have been given to others while it read them.
        walk_once(scratch, process, frame);
        if at!(scratch.unwinder.in_force).get().was_replaced() {
            // The first frame needs no table.
            at!(scratch.frames).set(1);
            at!(scratch.end).set(StackEnd::NoMapping as u32);
            at!(scratch.hash).set(mix(seed(), frame.pc));
        }
    }
    at!(scratch.hash).set(mix(at!(scratch.hash).get(), u64::from(at!(scratch.end).get())));
}

#[inline(always)]
fn walk_once(scratch: Value<Scratch>, process: u32, frame: Frame) {
    let unwinder = at!(scratch.unwinder);
    at!(unwinder.registers).set(frame);
    at!(unwinder.first).set(frame);
    forget_reads(scratch);
    at!(unwinder.current).set(UnwindMapping::UNUSED);
    at!(unwinder.in_force).set(InForce::of(process));
    at!(scratch.addresses).at(0).set(frame.pc);
    at!(scratch.frames).set(1);
    at!(scratch.end).set(StackEnd::Depth as u32);
    at!(scratch.hash).set(mix(seed(), frame.pc));
    let mut frames: u32 = 0;
    while frames < MAX_FRAMES as u32 {
        // SAFETY: a claimed buffer, see `Scratch`.
        if unsafe { uw_step(scratch.as_ptr()) } != 0 {
            break;
        }
        frames += 1;
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
    // SAFETY: the caller's word.
    let Some(scratch) = (unsafe { Value::given(scratch) }) else { return 1 };
    u64::from(one(scratch))
}

/// One frame; whether it was the last.
#[inline(always)]
fn one(scratch: Value<Scratch>) -> bool {
    let follow_bp = setting!(stack_mode) != stack_mode::DWARF;
    if at!(scratch.frames).get() >= MAX_FRAMES as u32 {
        return true;
    }
    let unwinder = at!(scratch.unwinder);
    let exact = at!(unwinder.registers).get().need_exact_rows();
    let mut tables = MapTables::of(scratch, exact);
    let mut memory = UserMemory(at!(unwinder.window));
    let (registers, current) = (at!(unwinder.registers).as_ptr(), at!(unwinder.current).as_ptr());
    // SAFETY: who has claimed the buffer alone uses it; of `current` the step only tells `tables`, which go by the buffer.
    let result = unsafe { step(&mut *registers, &mut *current, &mut tables, &mut memory, follow_bp) };
    match result {
        Ok(()) => {
            push(scratch);
            false
        }
        Err(end) => {
            at!(scratch.end).set(end as u32);
            true
        }
    }
}

#[inline(always)]
fn push(scratch: Value<Scratch>) {
    let address = at!(scratch.unwinder.registers.pc).get();
    let frames = at!(scratch.frames).get();
    at!(scratch.addresses).masked(u64::from(frames)).set(address);
    at!(scratch.frames).set(frames + 1);
    at!(scratch.hash).set(mix(at!(scratch.hash).get(), address));
}
