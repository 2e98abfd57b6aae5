//! The kernel's helper functions, and why each may be called. They check what they are given: an address that is none
//! makes them fail.

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::{
        bpf_get_attach_cookie, bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_get_current_comm, bpf_get_current_task,
            bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user, bpf_task_pt_regs,
        },
    },
};

use crate::value::{Plain, Value};

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// The kernel's tick (1 to 10 ms).
#[inline(always)]
pub fn tick() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_jiffies64() }
}

/// The processor that this runs on.
#[inline(always)]
pub fn processor() -> u32 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_smp_processor_id() }
}

/// The current task's `task_struct`.
#[inline(always)]
pub fn task() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_current_task() }
}

/// Puts the current thread's name in a value, padded with zeros.
#[inline(always)]
pub fn comm_to(to: Value<[u64; 2]>) {
    // SAFETY: so many bytes are there, and any bits are a value. It fails for no task.
    unsafe { bpf_get_current_comm(to.as_ptr().cast(), size_of::<[u64; 2]>() as u32) };
}

/// The cgroup of the current task that is so many levels below the root; 0 if there is none.
#[inline(always)]
pub fn cgroup_at(level: i32) -> u64 {
    // SAFETY: takes any number.
    unsafe { bpf_get_current_ancestor_cgroup_id(level) }
}

/// What userspace gave the probe that was hit.
#[inline(always)]
pub fn attach_cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: the program's own context.
    unsafe { bpf_get_attach_cookie(ctx.as_ptr()) }
}

/// rip, rsp and rbp with which the current thread entered the kernel.
#[inline(always)]
pub fn user_registers() -> (u64, u64, u64) {
    // SAFETY: both take or give a pointer that is valid in any program of a task (kernel 5.15).
    unsafe {
        let registers = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
        ((*registers).rip, (*registers).rsp, (*registers).rbp)
    }
}

/// What lies at an address of the traced program.
#[inline(always)]
pub fn read_user<T: Plain>(at: u64) -> Option<T> {
    // SAFETY: fails where there is no memory; any bits are a value.
    unsafe { aya_ebpf::helpers::bpf_probe_read_user(at as *const T) }.ok()
}

/// What lies at an address of the kernel's.
#[inline(always)]
pub fn read_kernel<T: Plain>(at: u64) -> Option<T> {
    // SAFETY: as in `read_user`.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(at as *const T) }.ok()
}

/// Puts what lies at an address of the traced program in the place of `to`; whether it could be read. The kernel makes zeros
/// of what it could not read.
#[inline(always)]
pub fn read_user_to<T: Plain>(to: &mut T, at: u64) -> bool {
    // SAFETY: as in `read_user`; so many bytes are there.
    unsafe { bpf_probe_read_user((&raw mut *to).cast(), size_of::<T>() as u32, at as *const _) == 0 }
}

/// The same of the kernel's memory.
#[inline(always)]
pub fn read_kernel_to<T: Plain>(to: &mut T, at: u64) -> bool {
    // SAFETY: as in `read_user_to`.
    unsafe { bpf_probe_read_kernel((&raw mut *to).cast(), size_of::<T>() as u32, at as *const _) == 0 }
}

/// The first `length` bytes of a value, no more than it has, from the traced program's memory.
#[inline(always)]
pub fn fill_from_user<T: Plain>(to: Value<T>, length: u64, at: u64) -> bool {
    let all = size_of::<T>() as u64;
    let length = if length < all { length } else { all };
    // SAFETY: so many bytes are there, and any bits are a value.
    unsafe { bpf_probe_read_user(to.as_ptr().cast(), length as u32, at as *const _) == 0 }
}
