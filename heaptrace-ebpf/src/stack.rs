//! Walking the caller's stack: from where, by what; and the walk by frame pointers alone.

use heaptrace_common::{
    settings::stack_mode,
    stack::{MAX_FRAMES, StackEnd},
};

use crate::{
    helpers::{fill_from_user, user_registers},
    maps::setting,
    unwind::{
        self, Frame,
        scratch::{Scratch, WINDOW, mix, seed},
    },
    value::{Value, at},
};

/// A frame this far above the last one is no frame: perf's and UNWIND's limit for one function's locals.
const FARTHEST: u64 = 1 << 20;

/// No read goes past a page's end further than it has to: there may be nothing behind.
const PAGE: u64 = 4096;

/// Whoever called a function that is under way.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Where the return address lies; the stack pointer where `ip` is known.
    pub entry_sp: u64,
    /// Its rbp, or where that is: see `Frame::of_caller`.
    pub bp: u64,
    pub bp_at: u64,
    /// The instruction that is about to run; 0 where the stack begins at a return address.
    pub ip: u64,
}

/// Walks from the caller of a function that is under way. Gives the site, plus one, of a stack that was walked before; then
/// `scratch` does not have it.
#[inline(always)]
pub fn walk_caller(scratch: Value<Scratch>, process: u32, function: u8, caller: Caller) -> u64 {
    let Caller { entry_sp, bp, bp_at, ip } = caller;
    let frame = if setting!(stack_mode) == stack_mode::NONE {
        Ok(Frame::new(0, entry_sp, bp))
    } else if setting!(sample_bytes) != 0 && ip != 0 {
        unwind::cleared_memory(scratch);
        // Its row is kept as that of a call that ends there is (`callsites`, unwind tables).
        Ok(Frame::new(ip.wrapping_add(1), entry_sp, bp))
    } else {
        Frame::of_caller(entry_sp, bp, bp_at, &mut unwind::cleared_memory(scratch))
    };
    match frame {
        Ok(frame) => {
            if uses_tables() {
                let known = unwind::recall(scratch, process, function, frame);
                if known != 0 {
                    return known;
                }
            }
            walk_from(scratch, process, frame);
        }
        Err(end) => nothing(scratch, end),
    }
    0
}

/// Whether stacks are walked by tables, which walks that are remembered spare.
#[inline(always)]
fn uses_tables() -> bool {
    let mode = setting!(stack_mode);
    mode == stack_mode::AUTO || mode == stack_mode::DWARF
}

/// Remembers that the walk that `scratch` has is of `site`.
#[inline(always)]
pub fn remember(scratch: Value<Scratch>, process: u32, function: u8, site: u32) {
    if uses_tables() {
        unwind::remember(scratch, process, function, site);
    }
}

/// A stack without frames.
#[inline(always)]
fn nothing(scratch: Value<Scratch>, end: StackEnd) {
    unwind::forget_reads(scratch);
    at!(scratch.frames).set(0);
    at!(scratch.end).set(end as u32);
    at!(scratch.hash).set(0);
}

/// Walks from a system call of the current thread, in a tracepoint's program.
#[inline(always)]
pub fn walk_system_call(scratch: Value<Scratch>, process: u32) {
    let (ip, sp, bp) = user_registers();
    unwind::cleared_memory(scratch);
    walk_from(scratch, process, Frame::new(ip, sp, bp));
}

/// Walks from where the current thread faulted, in a tracepoint's program.
#[inline(always)]
pub fn walk_fault(scratch: Value<Scratch>, process: u32) {
    let (ip, sp, bp) = user_registers();
    unwind::cleared_memory(scratch);
    walk_from(scratch, process, Frame::at_instruction(ip, sp, bp));
}

#[inline(always)]
fn walk_from(scratch: Value<Scratch>, process: u32, mut frame: Frame) {
    let mode = setting!(stack_mode);
    if uses_tables() {
        unwind::walk(scratch, process, frame);
    } else if mode == stack_mode::FRAME_POINTERS {
        let bp = frame.frame_pointer(&mut unwind::cleared_memory(scratch));
        walk_by_frame_pointers(scratch, frame.pc, frame.sp, bp);
    } else {
        nothing(scratch, StackEnd::NotWalked);
    }
}

#[inline(always)]
fn walk_by_frame_pointers(scratch: Value<Scratch>, ip: u64, sp: u64, bp: u64) {
    at!(scratch.addresses).at(0).set(ip);
    let window = at!(scratch.window);
    let mut hash = mix(seed(), ip);
    let mut n: u32 = 1;
    let mut floor = sp;
    let mut frame = bp;
    let mut end = StackEnd::Depth;
    let mut window_start = 0;
    // Bytes of the window at which a pair begins.
    let mut window_pairs = 0;
    while n < MAX_FRAMES as u32 {
        if frame == 0 {
            end = StackEnd::Complete;
            break;
        }
        if frame < floor || frame & 7 != 0 || frame - floor > FARTHEST {
            end = StackEnd::NoUnwindInfo;
            break;
        }
        // [rbp] is the caller's rbp, [rbp + 8] the return address.
        let mut at = frame.wrapping_sub(window_start);
        if at >= window_pairs {
            let length = (PAGE - (frame & (PAGE - 1))).clamp(16, WINDOW as u64);
            if !fill_from_user(window, length, frame) {
                end = StackEnd::Unreadable;
                break;
            }
            window_start = frame;
            window_pairs = length - 15;
            at = 0;
        }
        let [next, address] = window.masked_pair(at >> 3).get();
        if address == 0 {
            end = StackEnd::Complete;
            break;
        }
        if address < 0x1000 || address >> 47 != 0 {
            end = StackEnd::Implausible;
            break;
        }
        hash = mix(hash, address);
        at!(scratch.addresses).at(n as usize).set(address);
        n += 1;
        floor = frame + 16;
        frame = next;
    }
    at!(scratch.frames).set(n);
    at!(scratch.end).set(end as u32);
    at!(scratch.hash).set(mix(hash, end as u64));
}
