//! Walking the caller's stack: by frame pointers.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, generated::bpf_probe_read_user};
use heaptrace_common::{
    settings::stack_mode,
    stack::{MAX_FRAMES, StackEnd},
};

use crate::{
    atomic,
    maps::{SCRATCH, setting},
    masked::masked,
    registers::Registers,
};

/// Scratch buffers for each CPU: a walk can be preempted by another thread's on the same CPU, seldom by several.
pub const PER_CPU: u32 = 4;

/// A frame this far above the last one is no frame: perf's and UNWIND's limit for one function's locals.
const FARTHEST: u64 = 1 << 20;

/// Bytes of the program's stack that are read at once: a read costs the same 30 ns for 16 bytes as for these, and
/// several frames are within them.
const WINDOW: usize = 256;

/// No read goes past a page's end further than it has to: there may be nothing behind.
const PAGE: u64 = 4096;

/// One walk's frames, innermost first. Owned by whoever swapped `busy` from 0 to 1.
#[repr(C)]
pub struct Scratch {
    pub busy: u64,
    pub hash: u64,
    pub frames: u32,
    pub end: u32,
    /// One more than `MAX_FRAMES`, so that an index can be masked.
    pub addresses: [u64; MAX_FRAMES + 1],
    /// A part of the program's stack, and a word more: a masked index and the one after it are within.
    window: [u64; WINDOW / 8 + 1],
}

/// Claims a buffer. `None` if all of this CPU's are taken.
#[inline(always)]
pub fn claim() -> Option<*mut Scratch> {
    let first = unsafe { bpf_get_smp_processor_id() }.wrapping_mul(PER_CPU);
    let mut n = 0;
    while n < PER_CPU {
        let scratch = SCRATCH.get_ptr_mut(first.wrapping_add(n))?;
        if unsafe { atomic::swap(&raw mut (*scratch).busy, 1) } == 0 {
            return Some(scratch);
        }
        n += 1;
    }
    None
}

/// Gives a claimed buffer back.
///
/// # Safety
/// `scratch` came from `claim` and is not used afterwards.
#[inline(always)]
pub unsafe fn release(scratch: *mut Scratch) {
    unsafe { core::ptr::write_volatile(&raw mut (*scratch).busy, 0) }
}

#[inline(always)]
fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

/// Walks from the registers at a function's return, where the instruction pointer is the call's return address.
///
/// # Safety
/// `scratch` is claimed.
#[inline(always)]
pub unsafe fn walk(scratch: *mut Scratch, registers: Registers) {
    let scratch = unsafe { &mut *scratch };
    scratch.frames = 0;
    scratch.end = StackEnd::NotWalked as u32;
    scratch.hash = 0;
    if setting!(stack_mode) == stack_mode::NONE {
        return;
    }
    let ip = registers.ip();
    scratch.addresses[0] = ip;
    let mut hash = mix(0x6865_6170, ip);
    let mut n: u32 = 1;
    let mut floor = registers.sp();
    let mut frame = registers.bp();
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
        let word = masked::<{ WINDOW / 8 }>(at >> 3);
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
