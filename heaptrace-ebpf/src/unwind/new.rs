//! New mappings: kept by process until userspace has put a list in force that has them, so that a program's first
//! calls, and a library's, have tables too.

use heaptrace_common::unwind::{MAX_NEW, NEW_SLOTS, NewMapping, NewMappings, UnwindMapping};

use crate::{
    atomic,
    maps::{UNWIND_NEW, UNWIND_PROCESSES},
    mask::mask,
};

#[inline(always)]
fn slot(process: u32) -> Option<*mut NewMappings> {
    UNWIND_NEW.get_ptr_mut(process & (NEW_SLOTS as u32 - 1))
}

#[inline(always)]
unsafe fn entry(slot: *mut NewMappings, at: u64) -> *mut NewMapping {
    unsafe { (&raw mut (*slot).entries).cast::<NewMapping>().add(mask::<{ MAX_NEW as u64 - 1 }>(at)) }
}

/// How many mappings the ring of `process` has had.
#[inline(always)]
pub fn head(process: u32) -> u64 {
    slot(process).map_or(0, |slot| unsafe { core::ptr::read_volatile(&raw const (*slot).head) })
}

/// Adds a mapping of `process`.
#[inline(always)]
pub fn add(process: u32, mapping: UnwindMapping) {
    let Some(slot) = slot(process) else { return };
    unsafe {
        let head = atomic::add(&raw mut (*slot).head, 1);
        let entry = entry(slot, head);
        core::ptr::write_volatile(&raw mut (*entry).number, 0);
        core::ptr::write_volatile(&raw mut (*entry).mapping, mapping);
        core::ptr::write_volatile(&raw mut (*entry).number, NewMapping::number(process, head));
    }
}

/// The newest mapping that holds `pc`, of the last `unseen` before `head`.
#[inline(always)]
pub fn find(process: u32, head: u64, unseen: u64, pc: u64) -> Option<UnwindMapping> {
    let at = uw_find_new(u64::from(process), head, unseen, pc);
    let slot = slot(process)?;
    // One more than the index.
    let entry = unsafe { entry(slot, at.checked_sub(1)?) };
    Some(unsafe { core::ptr::read_volatile(&raw const (*entry).mapping) })
}

/// Index plus one of the entry; 0 if there is none. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn uw_find_new(process: u64, head: u64, unseen: u64, pc: u64) -> u64 {
    let Some(slot) = slot(process as u32) else { return 0 };
    let mut back = 1;
    while back <= MAX_NEW as u64 {
        if back > unseen {
            return 0;
        }
        let at = head.wrapping_sub(back);
        unsafe {
            let entry = entry(slot, at);
            if core::ptr::read_volatile(&raw const (*entry).number) == NewMapping::number(process as u32, at)
                && pc >= (*entry).mapping.start
                && pc < (*entry).mapping.end
            {
                return (at & (MAX_NEW as u64 - 1)) + 1;
            }
        }
        back += 1;
    }
    0
}

/// A fork's child has its parent's code: the list in force, and the mappings that count beside it.
#[inline(always)]
pub fn inherit(child: u32, parent: u32) {
    let (Some(to), Some(from)) = (UNWIND_PROCESSES.get_ptr_mut(child), UNWIND_PROCESSES.get_ptr(parent))
    else {
        return;
    };
    let published = heaptrace_common::unwind::Published(unsafe { core::ptr::read_volatile(from) });
    // The rings differ, and so do their heads.
    let inherited = published.with_seen(head(child));
    unsafe { core::ptr::write_volatile(to, inherited.0) };
    let parents = head(parent);
    let unseen = published.unseen(parents);
    if unseen != 0 {
        uw_inherit_new(u64::from(child), u64::from(parent), parents, unseen);
    }
}

/// A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn uw_inherit_new(child: u64, parent: u64, head: u64, unseen: u64) -> u64 {
    let Some(from) = slot(parent as u32) else { return 0 };
    let mut n = 0;
    while n < MAX_NEW as u64 {
        if n >= unseen {
            return 0;
        }
        let at = head.wrapping_sub(unseen).wrapping_add(n);
        unsafe {
            let entry = entry(from, at);
            if core::ptr::read_volatile(&raw const (*entry).number) == NewMapping::number(parent as u32, at) {
                add(child as u32, core::ptr::read_volatile(&raw const (*entry).mapping));
            }
        }
        n += 1;
    }
    0
}
