//! Blocks in and out: the live table, the site's counters and the process's totals.

use aya_ebpf::bindings::BPF_NOEXIST;
use heaptrace_common::{
    counter::Counter,
    function::Function,
    live::LiveBlock,
    record::{ProcessRecord, SiteRecord},
    sizes,
};

use crate::{
    atomic,
    clock::block_ns,
    judged,
    live::{self, Outcome},
    log::log,
    maps::{self, CARRIED_SIZES, PROCESSES, count},
    mask::mask,
    share, statistics,
};

/// A block came to life. Called before anyone else can know its address. A function of its own, so that what it keeps on
/// the stack is not below the walk, which before 6.3 has 512 bytes with all its callers.
#[inline(never)]
pub fn allocated(process: u32, record: *mut ProcessRecord, site: u32, address: u64, size: u64) {
    let block = LiveBlock { size, time_ns: block_ns(), site, held: 0 };
    let entered = live::enter(process, record, address, block);
    match entered.outcome {
        Outcome::New => {}
        Outcome::Again => {
            close(record, &entered.old);
            if entered.old.held != 0 {
                // A realloc that is still under way has given it back.
                statistics::freed(process, Function::Realloc as u8, Some(&entered.old));
                judged::freed(Function::Realloc as u8, address, entered.old.size);
            } else {
                // The address was handed out again: the free of the block before was never seen.
                unsafe { atomic::add(&raw mut (*record).missed_frees, 1) };
            }
        }
        Outcome::Full => {
            if entered.old.time_ns != 0 {
                close(record, &entered.old);
            }
            count(Counter::LiveMapFull);
            log!(
                Counter::LiveMapFull,
                "process {}: no room for the block of {} bytes at {:x}",
                size = size,
                address = address
            );
            lost(record, size);
            return;
        }
    }
    unsafe {
        let live = atomic::add(&raw mut (*record).live_bytes, size).wrapping_add(size);
        atomic::add(&raw mut (*record).live_count, 1);
        share::count_live(record, 1);
        atomic::raise(&raw mut (*record).peak_bytes, live);
    }
    if let Some(record) = maps::site(site) {
        unsafe {
            atomic::add(&raw mut (*record).alloc_bytes, size);
            atomic::add(&raw mut (*record).alloc_count, 1);
        }
        classed(site, record, sizes::size_class(size));
    }
}

/// Counts an allocation in its size class. See `heaptrace_common::sizes`.
#[inline(always)]
fn classed(site: u32, record: *mut SiteRecord, class: u32) {
    let (word, shift) = sizes::place(class);
    let at = mask::<{ sizes::WORDS as u64 - 1 }>(word as u64);
    unsafe {
        let words = (&raw mut (*record).sizes).cast::<u64>();
        let before = atomic::add(words.add(at), 1 << shift);
        if sizes::is_to_carry(before, shift) {
            atomic::sub(words.add(at), sizes::CARRY << shift);
            carry(u64::from(class), u64::from(site));
        }
    }
}

/// Counts what a class of a site has carried. A global function: once in so many calls, and the verifier takes it once.
///
/// # Safety
/// None is needed.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn carry(class: u64, site: u64) -> u64 {
    let key = sizes::carried_key(site as u32, class as u32);
    let mut tries = 0;
    while tries < 2 {
        if let Some(times) = CARRIED_SIZES.get_ptr_mut(&key) {
            unsafe { atomic::add(times, 1) };
            return 1;
        }
        // Another may enter it first. Where there is no room, the site's count tells.
        if CARRIED_SIZES.insert(&key, &1, u64::from(BPF_NOEXIST)).is_ok() {
            return 1;
        }
        tries += 1;
    }
    0
}

#[inline(always)]
fn lost(record: *mut ProcessRecord, size: u64) {
    unsafe {
        atomic::add(&raw mut (*record).lost_bytes, size);
        atomic::add(&raw mut (*record).lost_count, 1);
    }
}

/// A block of a size that was not asked for.
#[inline(always)]
pub fn filtered(record: *mut ProcessRecord, size: u64) {
    unsafe {
        atomic::add(&raw mut (*record).filtered_bytes, size);
        atomic::add(&raw mut (*record).filtered_count, 1);
    }
}

/// Books a taken block as freed.
#[inline(always)]
pub fn close(record: *mut ProcessRecord, block: &LiveBlock) {
    unsafe {
        atomic::sub(&raw mut (*record).live_bytes, block.size);
        atomic::sub(&raw mut (*record).live_count, 1);
        share::count_live(record, 1_u32.wrapping_neg());
    }
    if let Some(site) = maps::site(block.site) {
        unsafe {
            atomic::add(&raw mut (*site).free_bytes, block.size);
            atomic::add(&raw mut (*site).free_count, 1);
        }
    }
}

/// How many generations of parents are asked for an inherited block.
const GENERATIONS: u32 = 4;

/// A free of a block that is not live: from before tracing, or from a parent at fork.
#[inline(always)]
pub fn unknown_free(record: *mut ProcessRecord, address: u64) {
    unsafe {
        if is_inherited(record, address) {
            atomic::add(&raw mut (*record).inherited_free_count, 1);
        } else {
            atomic::add(&raw mut (*record).unknown_frees, 1);
        }
    }
}

/// Where not everything was seen from the start, a block that the parent has freed since is not found, and
/// counts as unknown.
#[inline(always)]
unsafe fn is_inherited(record: *const ProcessRecord, address: u64) -> bool {
    unsafe {
        if (*record).inherits == 0 || (*record).complete != 0 {
            return (*record).inherits != 0;
        }
        let forked_ns = (*record).started_ns;
        let mut ancestor = (*record).parent;
        let mut generation = 0;
        while generation < GENERATIONS {
            if live::time_of(ancestor, address) <= forked_ns {
                return true;
            }
            let Some(parent) = PROCESSES.get_ptr(ancestor) else { return false };
            if (*parent).inherits == 0 {
                return false;
            }
            ancestor = (*parent).parent;
            generation += 1;
        }
        false
    }
}
