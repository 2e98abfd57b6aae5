//! heaptrace's BPF programs: the entry points. Each is a few lines; the logic is in the modules.
#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "the BPF target's core has no AtomicU64 with compare-and-swap")]

mod account;
mod calls;
mod check;
mod clock;
mod code;
mod events;
mod faults;
mod free;
mod frees;
mod growth;
mod helpers;
mod judged;
mod live;
mod log;
mod maps;
mod mask;
mod membership;
mod own_samples;
mod pending;
mod process;
mod records;
mod registers;
mod sampled;
mod share;
mod site;
mod stack;
mod statistics;
mod thread;
mod tree;
mod unwind;
mod value;
mod watch;

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint, uprobe},
    programs::{ProbeContext, RawTracePointContext, TracePointContext},
};

/// A probe in an allocation function; the cookie says which.
#[uprobe]
fn call_hit(ctx: ProbeContext) -> u32 {
    calls::hit(&ctx);
    // Before 6.13 anything else takes the breakpoint away (`handler_chain`, kernel/events/uprobes.c).
    0
}

/// A probe that a program offers, by which its allocator tells of samples.
#[uprobe]
fn own_hit(ctx: ProbeContext) -> u32 {
    own_samples::hit(&ctx);
    0
}

/// A function's entry, or one of its sites, while it is under verification.
#[uprobe]
fn check_hit(ctx: ProbeContext) -> u32 {
    check::hit(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "task_newtask")]
fn task_newtask(ctx: RawTracePointContext) -> i32 {
    process::forked(ctx.arg::<u64>(0), ctx.arg::<u64>(1));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    process::execed(ctx.arg::<u64>(1) as u32);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    process::thread_exited(ctx.arg::<u64>(0));
    0
}

#[tracepoint]
fn sys_enter_brk(_ctx: TracePointContext) -> u32 {
    growth::enter(growth::BRK);
    0
}

#[tracepoint]
fn sys_exit_brk(ctx: TracePointContext) -> u32 {
    growth::leave(&ctx, growth::BRK);
    0
}

#[tracepoint]
fn sys_enter_mmap(ctx: TracePointContext) -> u32 {
    growth::enter_mmap(&ctx);
    0
}

#[tracepoint]
fn sys_exit_mmap(ctx: TracePointContext) -> u32 {
    growth::leave(&ctx, growth::MMAP);
    0
}

#[tracepoint]
fn sys_enter_munmap(ctx: TracePointContext) -> u32 {
    growth::enter_munmap(&ctx);
    0
}

#[tracepoint]
fn sys_exit_munmap(ctx: TracePointContext) -> u32 {
    growth::leave(&ctx, growth::MUNMAP);
    0
}

#[tracepoint]
fn sys_enter_mremap(ctx: TracePointContext) -> u32 {
    growth::enter_with_arguments(&ctx, growth::MREMAP);
    0
}

#[tracepoint]
fn sys_exit_mremap(ctx: TracePointContext) -> u32 {
    growth::leave(&ctx, growth::MREMAP);
    0
}

#[tracepoint]
fn sys_enter_madvise(ctx: TracePointContext) -> u32 {
    growth::enter_madvise(&ctx);
    0
}

#[tracepoint]
fn sys_exit_madvise(ctx: TracePointContext) -> u32 {
    growth::leave(&ctx, growth::MADVISE);
    0
}

#[raw_tracepoint(tracepoint = "page_fault_user")]
fn page_fault_user(ctx: RawTracePointContext) -> i32 {
    faults::faulted(ctx.arg::<u64>(0));
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel's helpers that are used here are for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
