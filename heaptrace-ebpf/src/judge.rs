//! The judge of the judged build: a session (kernel 6.13) at entry and return of each allocation function adds up the
//! calls that no other one is under way around, from arguments and results alone. It knows no sites, no cuts, and none
//! of the allocator's code.
//!
//! Which call is the program's own is told by what runs, not by who called: of a thread, the outermost. A call whose
//! thread is higher up the stack than where it began was left, by longjmp or an exception.
#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "the BPF target's core has no AtomicU64 with compare-and-swap")]

#[expect(dead_code, reason = "heaptrace uses the rest of these files")]
mod helpers;
#[expect(dead_code, reason = "as above")]
mod mask;
#[expect(dead_code, reason = "as above")]
mod value;

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_ANY, pt_regs},
    helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, generated::bpf_get_func_ip},
    macros::map,
    maps::{Array, HashMap},
};
use heaptrace_common::{
    function::{Shape, frees_second, resizes},
    judged::{FUNCTIONS, JudgeCookie, JudgeCount, JudgedBlock, Tallies, Tally, UnderWay, mix},
};

use helpers::{read_kernel, read_user, task};
use value::{Lookup, Value, at, plain};

plain!(UnderWay);

/// By function.
#[map]
static TALLIES: Array<Tallies> = Array::with_max_entries(FUNCTIONS as u32, 0);

/// By `JudgeCount`.
#[map]
static COUNTS: Array<u64> = Array::with_max_entries(JudgeCount::ALL as u32, 0);

/// The offsets of `task_struct.mm`, `mm_struct.owner` and `task_struct.tgid`.
#[map]
static OFFSETS: Array<u64> = Array::with_max_entries(3, 0);

/// Thread -> the outermost call that it is in.
#[map]
static CALLS: HashMap<u64, UnderWay> = HashMap::with_max_entries(1 << 14, 0);

/// Live blocks -> their sizes.
#[map]
static BLOCKS: HashMap<JudgedBlock, u64> = HashMap::with_max_entries(1 << 21, 0);

// Not by aya's macro, which says 0 to the kernel whatever the function returns.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
extern "C" fn judge(ctx: *mut c_void) -> u32 {
    let registers: *const pt_regs = ctx.cast();
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the program's own context, which is registers.
    let (hit, ip) = unsafe {
        let hit = Hit {
            cookie: JudgeCookie::from_bits(bpf_get_attach_cookie(ctx)),
            thread,
            entry: bpf_get_func_ip(ctx),
            arguments: [(*registers).rdi, (*registers).rsi, (*registers).rdx, (*registers).rcx],
            sp: (*registers).rsp,
            result: (*registers).rax,
        };
        (hit, (*registers).rip)
    };
    // At a return it is what the return goes to.
    if ip == hit.entry {
        hit.begin()
    } else {
        hit.end();
        0
    }
}

struct Hit {
    cookie: JudgeCookie,
    thread: u64,
    entry: u64,
    arguments: [u64; 4],
    sp: u64,
    result: u64,
}

/// What a session's entry says for its return to be left alone.
const NO_RETURN: u32 = 1;

impl Hit {
    #[inline(always)]
    fn begin(&self) -> u32 {
        if let Some(outer) = CALLS.value(self.thread) {
            // In the same place: by a jump out of it.
            if self.sp <= at!(outer.sp).get() {
                count(JudgeCount::Nested);
                return NO_RETURN;
            }
            count(JudgeCount::Left);
        }
        let shape = self.cookie.shape;
        let [first, second, ..] = self.arguments;
        let freed = if frees_second(shape) { second } else { first };
        let mut call = UnderWay {
            sp: self.sp,
            size: self.size(),
            pointer: 0,
            old_size: 0,
            function: self.cookie.function,
            shape,
            has_old: 0,
            _pad: [0; 5],
        };
        if gives_back(shape) {
            if freed == 0 {
                return NO_RETURN;
            }
            self.free(freed);
        } else if shape == Shape::OutPointer as u8 {
            call.pointer = first;
        } else if resizes(shape) {
            call.pointer = freed;
            if freed != 0
                && let Some(size) = self.take(freed)
            {
                call.has_old = 1;
                call.old_size = size;
            }
        }
        if CALLS.insert(self.thread, call, u64::from(BPF_ANY)).is_err() {
            count(JudgeCount::Full);
            return NO_RETURN;
        }
        0
    }

    /// What the call asks for. Programs that are judged do not ask for more than there are addresses.
    #[inline(always)]
    fn size(&self) -> u64 {
        let [first, second, third, fourth] = self.arguments;
        let is = |shape: Shape| self.cookie.shape == shape as u8;
        if is(Shape::Size0) {
            first
        } else if is(Shape::Size1) || is(Shape::Resize) {
            second
        } else if is(Shape::Size2) || is(Shape::Resize02) || is(Shape::Resize12) || is(Shape::OutPointer) {
            third
        } else if is(Shape::Resize03) || is(Shape::Resize13) {
            fourth
        } else if is(Shape::Pages0) {
            first.wrapping_add(4095) & !4095
        } else if is(Shape::Product01) {
            first.wrapping_mul(second)
        } else if is(Shape::Product12) || is(Shape::ResizeProduct) {
            second.wrapping_mul(third)
        } else if is(Shape::Product23) || is(Shape::ResizeProduct123) {
            third.wrapping_mul(fourth)
        } else {
            0
        }
    }

    #[inline(always)]
    fn end(&self) {
        let call = match CALLS.value(self.thread) {
            Some(call) => call.get(),
            None => return count(JudgeCount::Unpaired),
        };
        // Of another call than the one that is kept, which it is behind.
        if self.sp != call.sp.wrapping_add(8) || self.cookie.function != call.function {
            return count(JudgeCount::Unpaired);
        }
        let _ = CALLS.remove(self.thread);
        if gives_back(call.shape) {
            return;
        }
        let mut result = self.result;
        if call.shape == Shape::OutPointer as u8 {
            let given = read_user(call.pointer).unwrap_or(0);
            result = if result as u32 == 0 { given } else { 0 };
        }
        if resizes(call.shape) && call.pointer != 0 {
            self.settle(&call, result != 0 || call.size == 0);
            if result == 0 && call.size == 0 {
                return;
            }
        }
        let Some(tallies) = TALLIES.value(u32::from(call.function)) else { return };
        if result == 0 {
            at!(tallies.failed).add(1);
            return;
        }
        add(at!(tallies.allocated), call.size, mix(result, call.size));
        self.keep(result, call.size);
    }

    /// The block that a realloc was given is gone, or stays.
    #[inline(always)]
    fn settle(&self, call: &UnderWay, gone: bool) {
        if !gone {
            if call.has_old != 0 {
                self.keep(call.pointer, call.old_size);
            }
            return;
        }
        let Some(tallies) = TALLIES.value(u32::from(call.function)) else { return };
        if call.has_old != 0 {
            add(at!(tallies.freed), call.old_size, mix(call.pointer, call.old_size));
        } else {
            add(at!(tallies.unknown), 0, mix(call.pointer, 0));
        }
    }

    #[inline(always)]
    fn free(&self, address: u64) {
        let Some(tallies) = TALLIES.value(u32::from(self.cookie.function)) else { return };
        match self.take(address) {
            Some(size) => add(at!(tallies.freed), size, mix(address, size)),
            None if self.is_the_allocators() => count(JudgeCount::Own),
            None => add(at!(tallies.unknown), 0, mix(address, 0)),
        }
    }

    /// glibc empties the cache of a thread that ends by calls of its own free, for blocks that the program has freed:
    /// the only calls of a library's free that are made by `call rel32` to the very entry, not by way of its PLT.
    #[inline(always)]
    fn is_the_allocators(&self) -> bool {
        if self.cookie.library == 0 {
            return false;
        }
        let Some(back) = read_user::<u64>(self.sp) else { return false };
        let Some(code) = read_user::<[u8; 5]>(back.wrapping_sub(5)) else {
            return false;
        };
        let distance = i32::from_le_bytes([code[1], code[2], code[3], code[4]]);
        code[0] == 0xe8 && back.wrapping_add(i64::from(distance) as u64) == self.entry
    }

    /// By the process whose memory it is: a child that runs in its parent's (vfork) frees that one's blocks.
    #[inline(always)]
    fn key(&self, address: u64) -> JudgedBlock {
        let memory = at_offset(task(), 0);
        let owner = at_offset(memory, 1);
        JudgedBlock { address, owner: at_offset(owner, 2) as u32, _pad: 0 }
    }

    #[inline(always)]
    fn take(&self, address: u64) -> Option<u64> {
        let key = self.key(address);
        let size = BLOCKS.value(key).map(Value::get)?;
        let _ = BLOCKS.remove(key);
        Some(size)
    }

    #[inline(always)]
    fn keep(&self, address: u64, size: u64) {
        if BLOCKS.insert(self.key(address), size, u64::from(BPF_ANY)).is_err() {
            count(JudgeCount::Full);
        }
    }
}

/// What the kernel has in the member number `n` of `OFFSETS` of the struct at `at`.
#[inline(always)]
fn at_offset(at: u64, n: u32) -> u64 {
    let offset = OFFSETS.get(n).copied().unwrap_or(0);
    read_kernel(at.wrapping_add(offset)).unwrap_or(0)
}

#[inline(always)]
fn gives_back(shape: u8) -> bool {
    shape == Shape::Free0 as u8 || shape == Shape::Free1 as u8
}

#[inline(always)]
fn add(tally: Value<Tally>, bytes: u64, sum: u64) {
    at!(tally.count).add(1);
    at!(tally.bytes).add(bytes);
    at!(tally.sum).add(sum);
}

#[inline(always)]
fn count(of: JudgeCount) {
    if let Some(value) = COUNTS.value(of as u32) {
        value.add(1);
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
