//! brk, mmap, munmap and mremap: per-process totals, and word of new executable mappings.

use aya_ebpf::{macros::map, maps::HashMap, programs::TracePointContext};
use heaptrace_common::{
    counter::Counter,
    event::{Event, kind},
    function::Function,
    record::NO_PROCESS,
    settings::growth_calls,
};

use crate::{
    account,
    code::{self, Mapped},
    events::send,
    helpers::now_ns,
    log::log,
    maps::{self, count, setting},
    process, site,
    value::at,
    watch::{self, Change},
};

pub use heaptrace_common::growth::call::{BRK, MADVISE, MMAP, MREMAP, MUNMAP};

/// include/uapi/asm-generic/mman-common.h
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_DONTNEED_LOCKED: u64 = 24;
/// include/uapi/linux/mman.h
const MREMAP_DONTUNMAP: u64 = 4;
/// include/uapi/asm-generic/errno-base.h
const ENOMEM: u64 = 12;

/// In `syscalls:sys_enter_*` and `sys_exit_*` records: 8 bytes common fields, the call's number, then the
/// arguments or the result, each 8 bytes (kernel/trace/trace_syscalls.c).
const ARGUMENTS: usize = 16;

/// System calls under way, by thread.
#[map]
static SYSCALLS: HashMap<u32, Arguments> = HashMap::with_max_entries(1 << 14, 0);

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
    /// mmap's and mremap's, and madvise's advice; for who is told of each call, as is what follows.
    flags: u64,
    entered_ns: u64,
    /// What the process mapped.
    total: u64,
    /// The process's `growth_left`, if no other call was under way.
    alone_since: u64,
    /// mmap of code.
    code: Mapped,
}

/// No `growth_left`.
const NOT_ALONE: u64 = u64::MAX;

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
            total: 0,
            alone_since: NOT_ALONE,
            code: Mapped::NOTHING,
        }
    }
}

#[inline(always)]
fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    // SAFETY: an integer, and the kernel checks what is read of it.
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

/// Where frees are not seen, that of a block with a mapping of its own is: glibc's. At the beginning, as its memory may be
/// another's before the call ends.
#[inline(always)]
pub fn enter_munmap(ctx: &TracePointContext) {
    /// From the mapping's beginning to the block's (`sysmalloc_mmap`, malloc/malloc.c).
    const HEADER: u64 = 16;
    enter_with_arguments(ctx, MUNMAP);
    if setting!(frees) != 0 {
        return;
    }
    let Some(process) = process::find(process::current().0) else { return };
    let Some(record) = process::record(process).filter(|record| process::counts(*record)) else { return };
    account::end_at(process, record, argument(ctx, 0).wrapping_add(HEADER));
}

/// Only advice that gives memory back.
#[inline(always)]
pub fn enter_madvise(ctx: &TracePointContext) {
    let advice = argument(ctx, 2);
    if advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_DONTNEED_LOCKED {
        begin(MADVISE, || Arguments {
            first: argument(ctx, 0),
            second: argument(ctx, 1),
            flags: advice,
            ..Arguments::default()
        });
    }
}

/// Userspace is told of each call.
#[inline(always)]
fn is_told() -> bool {
    setting!(growth_calls) != growth_calls::SUMMED
}

/// With its stack, and by how much more is mapped.
#[inline(always)]
fn is_shown() -> bool {
    setting!(growth_calls) == growth_calls::SHOWN
}

#[inline(always)]
fn begin(call: u32, arguments: impl FnOnce() -> Arguments) {
    let (tgid, tid) = process::current();
    let Some(process) = process::find(tgid) else { return };
    let mut arguments = Arguments { call, process, ..arguments() };
    if is_told() {
        arguments.entered_ns = now_ns();
    }
    if is_shown() {
        arguments.alone_since = entered(process);
        arguments.total = code::mapped_bytes();
    }
    if SYSCALLS.insert(tid, arguments, 0).is_err() {
        count(Counter::PendingFull);
        log!(
            Counter::PendingFull,
            "process {}: no place for system call {} of thread {}",
            call = u64::from(call),
            tid = u64::from(tid)
        );
        if is_shown() {
            was_alone(&arguments);
        }
    }
}

/// A call begins: see `Arguments::alone_since`.
#[inline(always)]
fn entered(process: u32) -> u64 {
    let Some(record) = process::record(process) else { return NOT_ALONE };
    let entered = at!(record.growth_entered).add(1);
    let left = at!(record.growth_left).load();
    if entered == left { left } else { NOT_ALONE }
}

/// A call ends. Whether no other one was under way since it began.
#[inline(always)]
fn was_alone(arguments: &Arguments) -> bool {
    let Some(record) = process::record(arguments.process) else { return false };
    let entered = at!(record.growth_entered).load();
    let left = at!(record.growth_left).add(1);
    arguments.alone_since == left && entered == left.wrapping_add(1)
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
    // functions below it.
    // SAFETY: only this thread uses the entry.
    let Some(arguments) = (unsafe { SYSCALLS.get(tid) }) else { return };
    if process::look_up(tgid) != arguments.process {
        // It was let go of meanwhile, and another may have its record.
        let _ = SYSCALLS.remove(tid);
        return;
    }
    let (mut total, mut alone) = (0, false);
    if is_shown() {
        // In this order: a call that begins in between must not be taken for none.
        total = code::mapped_bytes();
        alone = was_alone(arguments);
    }
    if arguments.call == call {
        left(ctx, call, arguments, (total, alone));
    }
    let _ = SYSCALLS.remove(tid);
}

#[inline(always)]
fn left(ctx: &TracePointContext, call: u32, arguments: &Arguments, now: (u64, bool)) {
    let result = argument(ctx, 0);
    // -4095..-1 are errors (include/linux/err.h). madvise that meets a hole has done the rest all the same.
    let done_in_part = call == MADVISE && result == ENOMEM.wrapping_neg();
    if result > u64::MAX - 4095 && !done_in_part {
        return;
    }
    let Some(record) = process::record(arguments.process) else { return };
    let (mut break_before, mut site) = (0, 0);
    match call {
        BRK => {
            let before = at!(record.break_at).swap(result);
            break_before = before;
            if before != 0 {
                at!(record.brk_bytes).add(result.wrapping_sub(before));
                if result > before {
                    site = grew(arguments.process, Function::Brk, result - before);
                }
            }
        }
        MMAP => {
            at!(record.mmap_bytes).add(pages(arguments.second));
            site = grew(arguments.process, Function::Mmap, pages(arguments.second));
            if arguments.third & PROT_EXEC != 0 {
                // Not the ID of a vfork's child, which maps it for its parent.
                mapped_code(arguments, at!(record.tgid).get(), result);
            }
        }
        MUNMAP => {
            at!(record.munmap_bytes).add(pages(arguments.second));
        }
        // What is mapped stays so.
        MADVISE => {}
        _ => {
            // With this the old mapping stays, too.
            let stays = arguments.flags & MREMAP_DONTUNMAP != 0;
            let (old, new) = (if stays { 0 } else { pages(arguments.second) }, pages(arguments.third));
            if new > old {
                at!(record.mmap_bytes).add(new - old);
                site = grew(arguments.process, Function::Mremap, new - old);
            } else {
                at!(record.munmap_bytes).add(old - new);
            }
        }
    }
    // The first one seen, or one that only asks, or that failed: brk says where the break is, whatever happens.
    if call == BRK && (break_before == 0 || result == break_before) {
        return;
    }
    if is_shown() {
        watch::tell(&change(arguments, result, break_before, now));
    } else if is_told() {
        follow(arguments, result, break_before, site);
    }
}

// Functions of their own, so that what they keep on the stack is not below the walk, which before 6.3 has 512 bytes with all
// its callers.

/// Code was mapped at `address`.
#[inline(never)]
fn mapped_code(arguments: &Arguments, tgid: u32, address: u64) {
    let (process, length) = (arguments.process, pages(arguments.second));
    code::mapped(process, arguments.code, address, length);
    let told = Event {
        kind: kind::MAP_EXEC,
        tgid,
        process,
        other: NO_PROCESS,
        time_ns: now_ns(),
        address,
        length,
        parent_tgid: 0,
        share: 0,
    };
    send(told, process);
}

/// Tells who follows what became of memory.
#[inline(never)]
fn follow(arguments: &Arguments, result: u64, break_before: u64, site: u32) {
    watch::tell(&Change { site, ..change(arguments, result, break_before, (0, false)) });
}

/// A call that succeeded.
#[inline(always)]
fn change(
    arguments: &Arguments,
    result: u64,
    break_before: u64,
    (total_after, alone): (u64, bool),
) -> Change {
    let (address, length, old_address, old_length) = match arguments.call {
        BRK => (result, 0, break_before, pages(result.abs_diff(break_before))),
        MMAP => (result, pages(arguments.second), 0, 0),
        MUNMAP | MADVISE => (arguments.first, pages(arguments.second), 0, 0),
        _ => (result, pages(arguments.third), arguments.first, pages(arguments.second)),
    };
    Change {
        process: arguments.process,
        call: arguments.call,
        entered_ns: arguments.entered_ns,
        flags: arguments.flags,
        total_before: arguments.total,
        total_after,
        alone,
        site: 0,
        address,
        length,
        old_address,
        old_length,
    }
}

/// Books growth at its stack, and gives the site's number plus one. Where the stack finds no room it is in the process's
/// totals alone, and that is 0.
#[inline(always)]
fn grew(process: u32, function: Function, bytes: u64) -> u32 {
    if is_shown() {
        return 0;
    }
    let Some(number) = site::of_system_call(process, function) else { return 0 };
    let Some(site) = maps::site(number) else { return 0 };
    at!(site.alloc_bytes).add(bytes);
    at!(site.alloc_count).add(1);
    number.wrapping_add(1)
}
