//! Finding or making the site of an allocation.

use aya_ebpf::bindings::BPF_NOEXIST;
use heaptrace_common::{
    counter::Counter,
    function::Function,
    record::{SiteKey, SiteRecord, StackPlace, overflow_site},
    settings::stack_mode,
    stack::{MAX_FRAMES, StackEnd},
};

use crate::{
    atomic,
    maps::{CURSORS, FRAMES, SITE_CACHE, SITE_INDEX, SITES, STACK_INDEX, count, setting},
    process,
    stack::{self, Scratch},
};

pub use crate::stack::Caller;

/// The site of a call by `caller`; the process's overflow site if the stack found no room.
#[inline(always)]
pub fn of_call(process: u32, function: u8, caller: Caller) -> u32 {
    let site = of_stack(process, function, |scratch| unsafe { stack::walk_caller(scratch, process, caller) });
    site.unwrap_or_else(|| overflow_site(setting!(max_sites), process))
}

/// The site of a system call of the current thread, in a tracepoint's program. `None` if it found no room.
#[inline(always)]
pub fn of_system_call(process: u32, function: Function) -> Option<u32> {
    of_stack(process, function as u8, |scratch| unsafe { stack::walk_system_call(scratch, process) })
}

/// The site of a page fault of the current thread, in a tracepoint's program. `None` if it found no room.
#[inline(always)]
pub fn of_fault(process: u32) -> Option<u32> {
    of_stack(process, Function::PageFault as u8, |scratch| unsafe { stack::walk_fault(scratch, process) })
}

/// Where the stack of a system call of the current thread is kept, how many frames it has, and why it ended. `None`,
/// and counted, if it found no room.
#[inline(always)]
pub fn stack_of_system_call(process: u32) -> Option<(u32, u8, u8)> {
    let Some(scratch) = stack::claim() else {
        count(Counter::ScratchBusy);
        return None;
    };
    unsafe { stack::walk_system_call(scratch, process) };
    let (frames, end) = unsafe { ((*scratch).frames as u8, (*scratch).end as u8) };
    let kept = keep_frames(scratch);
    if kept.is_none() {
        count(Counter::GrowthSiteFull);
    }
    unsafe { stack::release(scratch) };
    Some((kept?, frames, end))
}

/// `None`, and counted, if there is no room to walk the stack that `walk` walks, or to keep it.
#[inline(always)]
fn of_stack(process: u32, function: u8, walk: impl FnOnce(*mut Scratch)) -> Option<u32> {
    // Without stacks the function alone tells a process's sites apart: where there is one, nothing is walked.
    let bare = setting!(stack_mode) == stack_mode::NONE;
    let bare_key = SiteKey { stack_hash: u64::from(function), process, function: u32::from(function) };
    if bare && let Some(site) = recall(&bare_key) {
        return Some(site);
    }
    let Some(scratch) = stack::claim() else {
        count(Counter::ScratchBusy);
        return None;
    };
    walk(scratch);
    let hash = if bare { bare_key.stack_hash } else { unsafe { (*scratch).hash } };
    let key = SiteKey { stack_hash: hash, ..bare_key };
    let site = recall(&key).or_else(|| find_or_make(&key, scratch));
    if site.is_none() {
        count(if is_growth(function) { Counter::GrowthSiteFull } else { Counter::SiteTableFull });
    }
    unsafe { stack::release(scratch) };
    site
}

/// A function of its own, so that what it keeps on the stack is not below the walk.
#[inline(never)]
fn find_or_make(key: &SiteKey, scratch: *const Scratch) -> Option<u32> {
    let site = match unsafe { SITE_INDEX.get(key) } {
        Some(site) => *site,
        None => make(key, scratch)?,
    };
    if let Some(cell) = cached(key) {
        unsafe { core::ptr::write_volatile(cell, key.stack_hash >> 32 << 32 | u64::from(site)) };
    }
    Some(site)
}

/// The cell that may hold the site of `key`.
#[inline(always)]
fn cached(key: &SiteKey) -> Option<*mut u64> {
    // Children of one parent have the same stacks: the process decides, too.
    SITE_CACHE.get_ptr_mut((key.stack_hash as u32 ^ key.process.wrapping_mul(0x9E37_79B1)) & 0xffff)
}

/// The site of `key`, if it was the last one found in its cell. Cell and record together hold all of the key.
#[inline(always)]
fn recall(key: &SiteKey) -> Option<u32> {
    let cell = unsafe { core::ptr::read_volatile(cached(key)?) };
    if cell >> 32 != key.stack_hash >> 32 {
        return None;
    }
    let index = cell as u32;
    let site = SITES.get_ptr_mut(index)?;
    // An empty cell says site 0, which may be of another kind, or not ready.
    let same = unsafe {
        (*site).hash_low == key.stack_hash as u32
            && (*site).process == key.process
            && u32::from((*site).function) == key.function
            && core::ptr::read_volatile(&raw const (*site).ready) != 0
    };
    same.then_some(index)
}

/// Makes the site for blocks of `process` whose stack finds no room.
#[inline(always)]
pub fn make_overflow(process: u32) {
    let Some(site) = SITES.get_ptr_mut(overflow_site(setting!(max_sites), process)) else { return };
    unsafe {
        (*site).process = process;
        (*site).frames = 0;
        (*site).end = StackEnd::NotWalked as u8;
        (*site).function = Function::Unknown as u8;
        core::ptr::write_volatile(&raw mut (*site).ready, 1);
    }
}

/// Growth or a fault, of which no block comes.
#[inline(always)]
fn is_growth(function: u8) -> bool {
    function >= Function::Brk as u8
}

#[inline(always)]
fn take_slot(limit: u32) -> Option<(u32, *mut SiteRecord)> {
    let cursors = CURSORS.get_ptr_mut(0)?;
    // Looked at first, so that a full table's cursor does not run away.
    if unsafe { core::ptr::read_volatile(&raw const (*cursors).sites) } >= u64::from(limit) {
        return None;
    }
    let index = unsafe { atomic::add(&raw mut (*cursors).sites, 1) } as u32;
    Some((index, SITES.get_ptr_mut(index)?))
}

#[inline(always)]
fn make(key: &SiteKey, scratch: *const Scratch) -> Option<u32> {
    let frames_at = keep_frames(scratch)?;
    // Growth leaves a quarter of the table to the allocator's calls, whose blocks would else be lost.
    let all = setting!(max_sites);
    let limit = if is_growth(key.function as u8) { all - all / 4 } else { all };
    let (index, site) = take_slot(limit)?;
    unsafe {
        (*site).process = key.process;
        (*site).frames_at = frames_at;
        (*site).frames = (*scratch).frames as u8;
        (*site).end = (*scratch).end as u8;
        (*site).function = key.function as u8;
        (*site).hash_low = key.stack_hash as u32;
    }
    if SITE_INDEX.insert(key, index, BPF_NOEXIST as u64).is_err() {
        // Another thread made it first (our slot stays unused), or the index is full.
        return unsafe { SITE_INDEX.get(key) }.copied();
    }
    unsafe { core::ptr::write_volatile(&raw mut (*site).ready, 1) };
    if unsafe { (*scratch).end } == StackEnd::Interrupted as u32 {
        // Its exact rows are wanted; once they are there, there are no more such stacks.
        process::tell_interrupted(key.process, unsafe { (*scratch).unwinder.address() });
    }
    Some(index)
}

/// Stores the frames, unless a stack with this hash is there already. `None` if there is no room.
#[inline(always)]
fn keep_frames(scratch: *const Scratch) -> Option<u32> {
    let hash = unsafe { (*scratch).hash };
    if let Some(place) = unsafe { STACK_INDEX.get(hash) } {
        return Some(place.frames_at);
    }
    let frames = unsafe { (*scratch).frames };
    let cursors = CURSORS.get_ptr_mut(0)?;
    if unsafe { core::ptr::read_volatile(&raw const (*cursors).frames) } >= u64::from(setting!(max_frames)) {
        return None;
    }
    let frames_at = unsafe { atomic::add(&raw mut (*cursors).frames, u64::from(frames)) } as u32;
    let mut n: u32 = 0;
    while n < MAX_FRAMES as u32 {
        if n >= frames {
            break;
        }
        let slot = FRAMES.get_ptr_mut(frames_at.wrapping_add(n))?;
        unsafe { *slot = *(*scratch).addresses.as_ptr().add(n as usize) };
        n += 1;
    }
    let place = StackPlace { frames_at, _pad: 0 };
    // A failure only costs a second copy of the frames.
    let _ = STACK_INDEX.insert(hash, place, BPF_NOEXIST as u64);
    Some(frames_at)
}
