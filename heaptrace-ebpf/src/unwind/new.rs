//! New mappings: kept by process until userspace has put a list in force that has them, so that a program's first
//! calls, and a library's, have tables too.

use heaptrace_common::unwind::{MAX_NEW, NEW_SLOTS, NewMapping, NewMappings, UnwindMapping};

use crate::{
    maps::{UNWIND_NEW, UNWIND_PROCESSES},
    value::{Lookup, Value, at},
};

#[inline(always)]
fn slot(process: u32) -> Option<Value<NewMappings>> {
    UNWIND_NEW.value(process & (NEW_SLOTS as u32 - 1))
}

#[inline(always)]
fn entry(slot: Value<NewMappings>, at: u64) -> Value<NewMapping> {
    at!(slot.entries).masked(at)
}

/// How many mappings the ring of `process` has had.
#[inline(always)]
pub fn head(process: u32) -> u64 {
    slot(process).map_or(0, |slot| at!(slot.head).load())
}

/// Adds a mapping of `process`.
#[inline(always)]
pub fn add(process: u32, mapping: UnwindMapping) {
    let Some(slot) = slot(process) else { return };
    let head = at!(slot.head).add(1);
    let entry = entry(slot, head);
    at!(entry.number).store(0);
    at!(entry.mapping).store(mapping);
    at!(entry.number).store(NewMapping::number(process, head));
}

/// The newest mapping that holds `pc`, of the last `unseen` before `head`.
#[inline(always)]
pub fn find(process: u32, head: u64, unseen: u64, pc: u64) -> Option<UnwindMapping> {
    let at = uw_find_new(u64::from(process), head, unseen, pc);
    let slot = slot(process)?;
    // One more than the index.
    let entry = entry(slot, at.checked_sub(1)?);
    Some(at!(entry.mapping).load())
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
        let entry = entry(slot, at);
        if at!(entry.number).load() == NewMapping::number(process as u32, at)
            && pc >= at!(entry.mapping.start).get()
            && pc < at!(entry.mapping.end).get()
        {
            return (at & (MAX_NEW as u64 - 1)) + 1;
        }
        back += 1;
    }
    0
}

/// A fork's child has its parent's code: the list in force, and the mappings that count beside it.
#[inline(always)]
pub fn inherit(child: u32, parent: u32) {
    let (Some(to), Some(from)) = (UNWIND_PROCESSES.value(child), UNWIND_PROCESSES.value(parent)) else {
        return;
    };
    let published = heaptrace_common::unwind::Published(from.load());
    // The rings differ, and so do their heads.
    let inherited = published.with_seen(head(child));
    to.store(inherited.0);
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
        let entry = entry(from, at);
        if at!(entry.number).load() == NewMapping::number(parent as u32, at) {
            add(child as u32, at!(entry.mapping).load());
        }
        n += 1;
    }
    0
}
