//! brk, mmap, munmap and mremap: per-process totals, and word of new executable mappings.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::TracePointContext};
use heaptrace_common::{
    counter::Counter,
    event::{Event, kind},
    function::Function,
    record::NO_PROCESS,
};

use crate::{
    atomic,
    code::{self, Mapped},
    maps::{SITES, SYSCALLS, count, send, setting},
    process, site,
    watch::{self, Change},
};

pub use heaptrace_common::growth::call::{BRK, MADVISE, MMAP, MREMAP, MUNMAP};

/// include/uapi/asm-generic/mman-common.h
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;

/// In `syscalls:sys_enter_*` and `sys_exit_*` records: 8 bytes common fields, the call's number, then the
/// arguments or the result, each 8 bytes (kernel/trace/trace_syscalls.c).
const ARGUMENTS: usize = 16;

/// A system call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arguments {
    call: u32,
    process: u32,
    /// mmap: address, length, protection. munmap: address, length. mremap: address, old length, new length.
    first: u64,
    second: u64,
    third: u64,
    /// mmap's and mremap's; looked at by `watch`, as is the time.
    flags: u64,
    entered_ns: u64,
    /// mmap of code.
    code: Mapped,
}

impl Arguments {
    const fn default() -> Self {
        Self {
            call: 0,
            process: NO_PROCESS,
            first: 0,
            second: 0,
            third: 0,
            flags: 0,
            entered_ns: 0,
            code: Mapped::NOTHING,
        }
    }
}

#[inline(always)]
fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    unsafe { ctx.read_at(ARGUMENTS + 8 * n) }.unwrap_or(0)
}

#[inline(always)]
pub fn enter(call: u32) {
    begin(call, Arguments::default);
}

#[inline(always)]
pub fn enter_with_arguments(ctx: &TracePointContext, call: u32) {
    begin(call, || Arguments {
        first: argument(ctx, 0),
        second: argument(ctx, 1),
        third: argument(ctx, 2),
        flags: argument(ctx, 3),
        ..Arguments::default()
    });
}

/// mmap's arguments tell of code that is mapped.
#[inline(always)]
pub fn enter_mmap(ctx: &TracePointContext) {
    begin(MMAP, || {
        let (protection, flags) = (argument(ctx, 2), argument(ctx, 3));
        let of_file = protection & PROT_EXEC != 0 && flags & MAP_ANONYMOUS == 0;
        let code = if of_file { code::mapping(argument(ctx, 4), argument(ctx, 5)) } else { Mapped::NOTHING };
        Arguments {
            first: argument(ctx, 0),
            second: argument(ctx, 1),
            third: protection,
            flags,
            code,
            ..Arguments::default()
        }
    });
}

/// Only advice that gives memory back.
#[inline(always)]
pub fn enter_madvise(ctx: &TracePointContext) {
    let advice = argument(ctx, 2);
    if advice == MADV_DONTNEED || advice == MADV_FREE {
        enter_with_arguments(ctx, MADVISE);
    }
}

#[inline(always)]
fn begin(call: u32, arguments: impl FnOnce() -> Arguments) {
    let (tgid, tid) = process::current();
    let Some(process) = process::find(tgid) else { return };
    let entered_ns = if setting!(watch) != 0 { unsafe { bpf_ktime_get_ns() } } else { 0 };
    let arguments = Arguments { call, process, entered_ns, ..arguments() };
    if SYSCALLS.insert(tid, arguments, 0).is_err() {
        count(Counter::PendingFull);
    }
}

#[inline(always)]
fn pages(length: u64) -> u64 {
    let page = u64::from(setting!(page_size));
    length.wrapping_add(page - 1) & !(page - 1)
}

#[inline(always)]
pub fn leave(ctx: &TracePointContext, call: u32) {
    let (tgid, tid) = process::current();
    // Where it is: a copy would be on the stack that the walk needs, which before 6.3 is 512 bytes with that of all
    // functions below it. Only this thread uses the entry.
    let Some(arguments) = (unsafe { SYSCALLS.get(tid) }) else { return };
    if arguments.call == call {
        left(ctx, call, tgid, arguments);
    }
    let _ = SYSCALLS.remove(tid);
}

#[inline(always)]
fn left(ctx: &TracePointContext, call: u32, tgid: u32, arguments: &Arguments) {
    let result = argument(ctx, 0);
    // -4095..-1 are errors (include/linux/err.h).
    if result > u64::MAX - 4095 {
        return;
    }
    let Some(record) = process::record(arguments.process) else { return };
    let mut break_before = 0;
    unsafe {
        match call {
            BRK => {
                let before = atomic::swap(&raw mut (*record).break_at, result);
                break_before = before;
                if before != 0 {
                    atomic::add(&raw mut (*record).brk_bytes, result.wrapping_sub(before));
                    if result > before {
                        grew(arguments.process, Function::Brk, result - before);
                    }
                }
            }
            MMAP => {
                atomic::add(&raw mut (*record).mmap_bytes, pages(arguments.second));
                grew(arguments.process, Function::Mmap, pages(arguments.second));
                if arguments.third & PROT_EXEC != 0 {
                    code::mapped(arguments.process, arguments.code, result, pages(arguments.second));
                    send(Event {
                        kind: kind::MAP_EXEC,
                        tgid,
                        process: arguments.process,
                        other: NO_PROCESS,
                        time_ns: bpf_ktime_get_ns(),
                        address: result,
                        length: pages(arguments.second),
                        parent_tgid: 0,
                        _pad: 0,
                    });
                }
            }
            MUNMAP => {
                atomic::add(&raw mut (*record).munmap_bytes, pages(arguments.second));
            }
            // What is mapped stays so.
            MADVISE => {}
            _ => {
                let (old, new) = (pages(arguments.second), pages(arguments.third));
                if new > old {
                    atomic::add(&raw mut (*record).mmap_bytes, new - old);
                    grew(arguments.process, Function::Mremap, new - old);
                } else {
                    atomic::add(&raw mut (*record).munmap_bytes, old - new);
                }
            }
        }
    }
    if setting!(watch) != 0 {
        tell(arguments, result, break_before);
    }
}

/// Tells `watch` of a call that succeeded.
#[inline(always)]
fn tell(arguments: &Arguments, result: u64, break_before: u64) {
    let (address, length, old_address, old_length) = match arguments.call {
        // The first one seen, or one that only asks, or that failed: brk says where the break is, whatever happens.
        BRK if break_before == 0 || result == break_before => return,
        BRK => (result, 0, break_before, result.abs_diff(break_before)),
        MMAP => (result, pages(arguments.second), 0, 0),
        MUNMAP | MADVISE => (arguments.first, pages(arguments.second), 0, 0),
        _ => (result, pages(arguments.third), arguments.first, pages(arguments.second)),
    };
    watch::tell(&Change {
        process: arguments.process,
        call: arguments.call,
        entered_ns: arguments.entered_ns,
        flags: arguments.flags,
        address,
        length,
        old_address,
        old_length,
    });
}

/// Books growth at its stack. Where the stack finds no room it is in the process's totals alone.
#[inline(always)]
fn grew(process: u32, function: Function, bytes: u64) {
    if setting!(watch) != 0 {
        return;
    }
    let Some(site) = site::of_system_call(process, function).and_then(|site| SITES.get_ptr_mut(site)) else {
        return;
    };
    unsafe {
        atomic::add(&raw mut (*site).alloc_bytes, bytes);
        atomic::add(&raw mut (*site).alloc_count, 1);
    }
}
