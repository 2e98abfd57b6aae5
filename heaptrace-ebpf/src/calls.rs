//! The malloc family's calls: what an entry means, what its return means.
//!
//! A block enters the live map at the return of its allocation and leaves it at the *entry* of its free: in
//! between, its address may already be another thread's.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_attach_cookie, bpf_probe_read_user},
};
use heaptrace_common::{
    counter::Counter,
    function::{Cookie, Shape},
    record::{LiveBlock, PendingCall, ProcessRecord},
};

use crate::{
    account,
    maps::{count, keep_to_own_stack, setting},
    pending, process,
    registers::Registers,
    site, statistics,
};

/// The page where uretprobes make functions return to: the highest one that mmap gives out below 2^47
/// (`xol_add_vma`, kernel/events/uprobes.c). No program's own code is there or above.
const TRAMPOLINE: u64 = 0x7fff_ffff_e000;

/// A traced function was entered.
#[inline(always)]
pub fn enter(ctx: &impl EbpfContext) {
    let cookie = Cookie::from_bits(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    let (tgid, tid) = process::current();
    let Some(process) = process::find(tgid) else { return };
    let Some(record) = process::record(process) else {
        // Never: a place where it costs nothing.
        keep_to_own_stack(ctx);
        return;
    };
    if !process::counts(record) {
        return;
    }
    let registers = Registers::of(ctx);
    if cookie.shape == Shape::Free0 as u8 {
        free(process, record, cookie, registers, tid);
    } else {
        begin(process, record, cookie, registers, tid);
    }
}

#[inline(always)]
fn free(process: u32, record: *mut ProcessRecord, cookie: Cookie, registers: Registers, tid: u32) {
    let address = registers.arg0();
    if address == 0 {
        return;
    }
    match account::take(process, address) {
        Some(block) => {
            account::close(record, &block);
            statistics::freed(process, cookie.function, Some(&block));
        }
        // realloc may free the old block by way of free; it was taken at realloc's entry.
        None if pending::find(tid).is_some_and(|call| unsafe { (*call).active != 0 }) => {
            count(Counter::Nested)
        }
        // glibc empties an exiting thread's cache of freed blocks by free.
        None if cookie.direct_is_own != 0 && is_direct_call(cookie, registers) => count(Counter::Nested),
        None => {
            account::unknown_free(record, address);
            statistics::freed(process, cookie.function, None);
        }
    }
}

/// Whether the function was called by `call rel32` to its very entry, which is not how calls through a PLT look.
#[inline(always)]
fn is_direct_call(cookie: Cookie, registers: Registers) -> bool {
    const CALL_REL32: u8 = 0xe8;
    let entry = registers.ip().wrapping_sub(u64::from(cookie.site));
    let entry_sp = registers.sp() + u64::from(cookie.pushed);
    let Ok(back) = (unsafe { bpf_probe_read_user(entry_sp as *const u64) }) else { return false };
    let Ok(call) = (unsafe { bpf_probe_read_user(back.wrapping_sub(5) as *const [u8; 5]) }) else {
        return false;
    };
    let distance = i32::from_le_bytes([call[1], call[2], call[3], call[4]]);
    call[0] == CALL_REL32 && back.wrapping_add(i64::from(distance) as u64) == entry
}

#[inline(always)]
fn begin(process: u32, record: *mut ProcessRecord, cookie: Cookie, registers: Registers, tid: u32) {
    let Some(call) = pending::find_or_claim(tid) else { return };
    let call = unsafe { &mut *call };
    let entry_sp = registers.sp() + u64::from(cookie.pushed);
    if call.active != 0 {
        if entry_sp < call.entry_sp || entry_sp == call.entry_sp && is_tail_call(entry_sp) {
            count(Counter::Nested);
            return;
        }
        count(Counter::MissedReturn);
        abandon(record, call);
    }
    let (first, second, third) = (registers.arg0(), registers.arg1(), registers.arg2());
    let (size, pointer) = match cookie.shape {
        s if s == Shape::Size0 as u8 => (first, 0),
        s if s == Shape::Size1 as u8 => (second, 0),
        s if s == Shape::Pages0 as u8 => (round_to_pages(first), 0),
        s if s == Shape::Product01 as u8 => (product(first, second), 0),
        s if s == Shape::OutPointer as u8 => (third, first),
        s if s == Shape::Resize as u8 => (second, first),
        _ => (product(second, third), first),
    };
    call.has_old = 0;
    if cookie.shape == Shape::Resize as u8 || cookie.shape == Shape::ResizeProduct as u8 {
        // At the return it would be too late: the address can be another thread's new block by then.
        if pointer != 0
            && let Some(old) = account::take(process, pointer)
        {
            call.old = old;
            call.has_old = 1;
        }
    }
    call.function = cookie.function;
    call.shape = cookie.shape;
    call.entry_sp = entry_sp;
    call.size = size;
    call.pointer = pointer;
    call.process = process;
    call.active = 1;
}

/// Whether the function was reached by a jump out of the pending one: its return address is already replaced.
#[inline(always)]
fn is_tail_call(entry_sp: u64) -> bool {
    unsafe { bpf_probe_read_user(entry_sp as *const u64) }.is_ok_and(|address| address >= TRAMPOLINE)
}

/// The pending call's return was missed: what became of its old block is unknown, so it counts as freed.
#[inline(always)]
fn abandon(record: *mut ProcessRecord, call: &mut PendingCall) {
    call.active = 0;
    if call.has_old != 0 {
        let old: LiveBlock = call.old;
        account::close(record, &old);
        unsafe { crate::atomic::add(&raw mut (*record).missed_frees, 1) };
    }
}

#[inline(always)]
fn round_to_pages(size: u64) -> u64 {
    let page = u64::from(setting!(page_size));
    size.wrapping_add(page - 1) & !(page - 1)
}

/// a * b; the largest size on overflow, where the call fails.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    if (a | b) >> 32 == 0 {
        return a.wrapping_mul(b);
    }
    // By halves: LLVM makes a 128-bit product, which BPF lacks, of a check by division.
    let (large, small) = if a > b { (a, b) } else { (b, a) };
    let high = (large >> 32).wrapping_mul(small);
    if small >> 32 != 0 || high >> 32 != 0 {
        return u64::MAX;
    }
    let low = (large & 0xffff_ffff).wrapping_mul(small);
    let sum = (high << 32).wrapping_add(low);
    if sum < low { u64::MAX } else { sum }
}

/// A traced function returned.
#[inline(always)]
pub fn leave(ctx: &impl EbpfContext) {
    let (tgid, tid) = process::current();
    let registers = Registers::of(ctx);
    let Some(call) = pending::find(tid) else {
        let record = process::find(tgid).and_then(process::record);
        if record.is_some_and(|record| process::counts(record)) {
            count(Counter::UnpairedReturn);
        }
        return;
    };
    let call = unsafe { &mut *call };
    // The return popped its address.
    let entry_sp = registers.sp().wrapping_sub(8);
    if call.active == 0 {
        let armed = process::record(call.process).is_some_and(|record| process::counts(record));
        // The outer one of a tail call's two returns is no news.
        if armed && entry_sp != call.entry_sp {
            count(Counter::UnpairedReturn);
        }
        return;
    }
    let Some(record) = process::record(call.process) else {
        // Never, as in `enter`.
        keep_to_own_stack(ctx);
        return;
    };
    if entry_sp != call.entry_sp {
        // Below: an inner call's return. Above: ours was passed over.
        if entry_sp > call.entry_sp {
            count(Counter::MissedReturn);
            abandon(record, call);
        }
        return;
    }
    call.active = 0;
    // Counting ended while it was under way. Since then frees are not seen, so its address may look like a block's that
    // is live; and what realloc was given is live, as it was.
    if process::counts(record) {
        finish(call, record, registers);
    }
}

#[inline(always)]
fn finish(call: &mut PendingCall, record: *mut ProcessRecord, registers: Registers) {
    let result = registers.result();
    let mut address = result;
    let resizes = call.shape == Shape::Resize as u8 || call.shape == Shape::ResizeProduct as u8;
    if call.shape == Shape::OutPointer as u8 {
        address = 0;
        if result as u32 == 0 {
            match unsafe { bpf_probe_read_user(call.pointer as *const u64) } {
                Ok(given) => address = given,
                Err(_) => {
                    count(Counter::ResultUnreadable);
                    return;
                }
            }
        }
    }
    if resizes && call.pointer != 0 {
        let old: LiveBlock = call.old;
        if address == 0 && call.size != 0 {
            if call.has_old != 0 {
                account::put_back(call.process, record, call.pointer, &old);
            }
        } else if call.has_old != 0 {
            account::close(record, &old);
            statistics::freed(call.process, call.function, Some(&old));
        } else {
            account::unknown_free(record, call.pointer);
            statistics::freed(call.process, call.function, None);
        }
        if address == 0 && call.size == 0 {
            // realloc(p, 0) freed p.
            return;
        }
    }
    if address == 0 {
        unsafe { crate::atomic::add(&raw mut (*record).failed_count, 1) };
        statistics::failed(call.process, call.function);
        return;
    }
    if setting!(size_filter) != 0 && (call.size < setting!(min_size) || call.size > setting!(max_size)) {
        account::filtered(record, call.size);
        return;
    }
    let site = site::of_call(call.process, call.function, registers);
    account::allocated(call.process, record, site, address, call.size);
}
