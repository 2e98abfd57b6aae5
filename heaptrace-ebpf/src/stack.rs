//! Walking the caller's stack: from where, by what; and the walk by frame pointers alone.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs},
};
use heaptrace_common::{
    settings::stack_mode,
    stack::{MAX_FRAMES, StackEnd},
};

use crate::{
    maps::setting,
    mask::mask,
    unwind::{
        self, Frame,
        scratch::{Scratch, WINDOW, mix, seed},
    },
};

/// A frame this far above the last one is no frame: perf's and UNWIND's limit for one function's locals.
const FARTHEST: u64 = 1 << 20;

/// No read goes past a page's end further than it has to: there may be nothing behind.
const PAGE: u64 = 4096;

/// Whoever called a function that is under way.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Where the return address lies.
    pub entry_sp: u64,
    /// Its rbp, or where that is: see `Frame::of_caller`.
    pub bp: u64,
    pub bp_at: u64,
}

/// Walks from the caller of a function that is under way. Gives the site, plus one, of a stack that was walked before; then
/// `scratch` does not have it.
///
/// # Safety
/// `scratch` is claimed.
#[inline(always)]
pub unsafe fn walk_caller(scratch: *mut Scratch, process: u32, function: u8, caller: Caller) -> u64 {
    let Caller { entry_sp, bp, bp_at } = caller;
    let frame = if setting!(stack_mode) == stack_mode::NONE {
        Ok(Frame::new(0, entry_sp, bp))
    } else {
        Frame::of_caller(entry_sp, bp, bp_at, &mut unsafe { unwind::cleared_memory(scratch) })
    };
    unsafe {
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
///
/// # Safety
/// As for [`walk_caller`].
#[inline(always)]
pub unsafe fn remember(scratch: *mut Scratch, process: u32, function: u8, site: u32) {
    if uses_tables() {
        unsafe { unwind::uw_remember(scratch, process, u32::from(function), site) };
    }
}

/// A stack without frames.
#[inline(always)]
unsafe fn nothing(scratch: *mut Scratch, end: StackEnd) {
    unsafe {
        unwind::forget_reads(scratch);
        (*scratch).frames = 0;
        (*scratch).end = end as u32;
        (*scratch).hash = 0;
    }
}

/// Walks from a system call of the current thread, in a tracepoint's program.
///
/// # Safety
/// As for [`walk_caller`].
#[inline(always)]
pub unsafe fn walk_system_call(scratch: *mut Scratch, process: u32) {
    let (ip, sp, bp) = unsafe { user_registers() };
    unsafe {
        unwind::cleared_memory(scratch);
        walk_from(scratch, process, Frame::new(ip, sp, bp));
    }
}

/// Walks from where the current thread faulted, in a tracepoint's program.
///
/// # Safety
/// As for [`walk_caller`].
#[inline(always)]
pub unsafe fn walk_fault(scratch: *mut Scratch, process: u32) {
    let (ip, sp, bp) = unsafe { user_registers() };
    unsafe {
        unwind::cleared_memory(scratch);
        walk_from(scratch, process, Frame::at_instruction(ip, sp, bp));
    }
}

/// rip, rsp and rbp with which the current thread entered the kernel.
#[inline(always)]
pub unsafe fn user_registers() -> (u64, u64, u64) {
    // SAFETY: both take or give a pointer that is valid in any program of a task (kernel 5.15).
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const pt_regs;
    unsafe { ((*registers).rip, (*registers).rsp, (*registers).rbp) }
}

#[inline(always)]
unsafe fn walk_from(scratch: *mut Scratch, process: u32, mut frame: Frame) {
    let mode = setting!(stack_mode);
    if uses_tables() {
        unsafe { unwind::walk(scratch, process, frame) };
    } else if mode == stack_mode::FRAME_POINTERS {
        unsafe {
            let bp = frame.frame_pointer(&mut unwind::cleared_memory(scratch));
            walk_by_frame_pointers(scratch, frame.pc, frame.sp, bp);
        }
    } else {
        unsafe { nothing(scratch, StackEnd::NotWalked) };
    }
}

#[inline(always)]
unsafe fn walk_by_frame_pointers(scratch: *mut Scratch, ip: u64, sp: u64, bp: u64) {
    let scratch = unsafe { &mut *scratch };
    scratch.addresses[0] = ip;
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
            let to = scratch.window.as_mut_ptr().cast();
            if unsafe { bpf_probe_read_user(to, length as u32, frame as *const _) } != 0 {
                end = StackEnd::Unreadable;
                break;
            }
            window_start = frame;
            window_pairs = length - 15;
            at = 0;
        }
        let word = mask::<{ WINDOW as u64 / 8 - 1 }>(at >> 3);
        let [next, address] = unsafe { scratch.window.as_ptr().add(word).cast::<[u64; 2]>().read() };
        if address == 0 {
            end = StackEnd::Complete;
            break;
        }
        if address < 0x1000 || address >> 47 != 0 {
            end = StackEnd::Implausible;
            break;
        }
        hash = mix(hash, address);
        unsafe { *scratch.addresses.as_mut_ptr().add(n as usize) = address };
        n += 1;
        floor = frame + 16;
        frame = next;
    }
    scratch.frames = n;
    scratch.end = end as u32;
    scratch.hash = mix(hash, end as u64);
}
