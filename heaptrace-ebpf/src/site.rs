//! Finding or making the site of an allocation.

use heaptrace_common::{
    counter::Counter,
    function::Function,
    record::{
        SiteKey, SiteRecord,
        index::{self, PROBES, TOMBSTONE, cell},
        overflow_site,
    },
    settings::stack_mode,
    stack::StackEnd,
};

use crate::{
    events, free,
    log::log,
    maps::{self, CURSORS, OVERFLOW_SITES, SITE_INDEX, count, setting},
    share, stack, thread, tree,
    unwind::scratch::{self, Scratch},
    value::{Lookup, Value, at},
};

pub use crate::stack::Caller;

/// The site of a call by `caller`; the process's overflow site if the stack found no room.
#[inline(always)]
pub fn of_call(process: u32, function: u8, caller: Caller) -> u32 {
    let walk = |scratch| stack::walk_caller(scratch, process, function, caller);
    of_stack(process, function, walk).unwrap_or_else(|| overflow_site(setting!(max_sites), process))
}

/// The site of a system call of the current thread, in a tracepoint's program. `None` if it found no room.
#[inline(always)]
pub fn of_system_call(process: u32, function: Function) -> Option<u32> {
    of_stack(process, function as u8, |scratch| {
        stack::walk_system_call(scratch, process);
        0
    })
}

/// The site of a page fault of the current thread, in a tracepoint's program. `None` if it found no room.
#[inline(always)]
pub fn of_fault(process: u32) -> Option<u32> {
    of_stack(process, Function::PageFault as u8, |scratch| {
        stack::walk_fault(scratch, process);
        0
    })
}

/// The innermost node of the stack of a system call of the current thread, how many frames it has, and why it ended. `None`,
/// and counted, if it found no room.
#[inline(always)]
pub fn stack_of_system_call(process: u32) -> Option<(u32, u8, u8)> {
    let Some(scratch) = scratch::claim() else {
        count(Counter::ScratchBusy);
        return None;
    };
    stack::walk_system_call(scratch, process);
    let (frames, end) = (at!(scratch.frames).get() as u8, at!(scratch.end).get() as u8);
    let node = tree::keep(process, scratch);
    scratch::release(scratch);
    if node == tree::NO_ROOM {
        count(Counter::GrowthSiteFull);
        return None;
    }
    Some((node, frames, end))
}

/// `None`, and counted, if there is no room to walk the stack that `walk` walks, or to keep it. `walk` gives the site, plus
/// one, of a stack that is known.
#[inline(always)]
fn of_stack(process: u32, function: u8, walk: impl FnOnce(Value<Scratch>) -> u64) -> Option<u32> {
    // Without stacks the function alone tells a process's sites apart, if threads do not: where there is one, nothing is walked.
    let bare = setting!(stack_mode) == stack_mode::NONE;
    let bare_key = SiteKey { stack_hash: u64::from(function), process, function: u32::from(function) };
    if bare
        && !thread::are_told()
        && let Some(site) = recall(&bare_key)
    {
        return Some(site);
    }
    let Some(scratch) = scratch::claim() else {
        count(Counter::ScratchBusy);
        return None;
    };
    if thread::are_told() {
        thread::note(scratch);
    }
    let known = walk(scratch);
    if known != 0 {
        scratch::release(scratch);
        return Some((known as u32).wrapping_sub(1));
    }
    let hash = if bare { bare_key.stack_hash } else { at!(scratch.hash).get() };
    let key = SiteKey { stack_hash: thread::with_thread(hash, scratch), ..bare_key };
    let site = recall(&key).or_else(|| find_or_make(&key, scratch));
    match site {
        Some(site) if !is_growth(function) => stack::remember(scratch, process, function, site),
        Some(_) => {}
        None => {
            count(if is_growth(function) { Counter::GrowthSiteFull } else { Counter::SiteTableFull });
            log!(
                Counter::SiteTableFull,
                "process {}: no room for a stack of {} frames of function {}",
                frames = u64::from(at!(scratch.frames).get()),
                function = u64::from(function)
            );
        }
    }
    scratch::release(scratch);
    site
}

/// A function of its own, so that what it keeps on the stack is not below the walk.
#[inline(never)]
fn find_or_make(key: &SiteKey, scratch: Value<Scratch>) -> Option<u32> {
    let mut site = in_index(key, 0);
    if site == 0 {
        let made = make(key, scratch)?;
        // Another thread may have made it first; then our slot stays unused.
        site = in_index(key, made);
        if site == made {
            settle(made, scratch);
        }
    }
    site.checked_sub(1)
}

/// The number plus one of the site of `key` in the index; if there is none, `new` is it from here on, unless it is 0.
/// 0 if there is none, or no room.
#[inline(never)]
fn in_index(key: &SiteKey, new: u32) -> u32 {
    let mut n = 0;
    while n < PROBES {
        // SAFETY: what a reference points to is valid.
        let found = unsafe { site_in_cell(key, new, n) };
        if found != IN_ANOTHER {
            return found as u32;
        }
        n += 1;
    }
    0
}

/// What [`site_in_cell`] says of a cell that holds another site.
const IN_ANOTHER: u64 = u64::MAX;

/// [`in_index`] for one cell. A global function: the verifier takes it once, and not for each round of the loops that call
/// it, which were a third of what it had to go through.
///
/// # Safety
/// `key` is null or valid; the null test is the verifier's wish.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn site_in_cell(key: *const SiteKey, new: u32, n: u32) -> u64 {
    // SAFETY: the caller's word.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    let Some(at) = cell_at(key, n) else { return 0 };
    let mut found = at.load();
    if found == 0 && new == 0 {
        return 0;
    }
    if new != 0 && (found == 0 || found == TOMBSTONE) {
        if at.replace(found, cell(key.stack_hash, new)) {
            return u64::from(new);
        }
        found = at.load();
    }
    if is_of(found, key) { u64::from(found as u32) } else { IN_ANOTHER }
}

/// The cell that holds the site of `key`, if `n` before it hold others.
#[inline(always)]
fn cell_at(key: &SiteKey, n: u32) -> Option<Value<u64>> {
    let first = index::first(key.stack_hash as u32, key.process);
    SITE_INDEX.value(first.wrapping_add(n) & setting!(index_mask))
}

/// The site of `key`, if it is in the first of its cells, as most are.
#[inline(always)]
fn recall(key: &SiteKey) -> Option<u32> {
    let found = cell_at(key, 0)?.load();
    if is_of(found, key) { Some((found as u32).wrapping_sub(1)) } else { None }
}

/// Whether a cell has the site of `key`. Cell and site together hold all of the key.
#[inline(always)]
fn is_of(cell: u64, key: &SiteKey) -> bool {
    if cell >> 32 != key.stack_hash >> 32 {
        return false;
    }
    // An empty cell leads nowhere.
    let Some(site) = maps::site((cell as u32).wrapping_sub(1)) else { return false };
    at!(site.hash_low).get() == key.stack_hash as u32
        && at!(site.process).get() == key.process
        && u32::from(at!(site.function).get()) == key.function
}

/// Makes the site for blocks of `process` whose stack finds no room.
#[inline(always)]
pub fn make_overflow(process: u32) {
    let Some(site) = OVERFLOW_SITES.value(process) else { return };
    at!(site.process).set(process);
    at!(site.frames).set(0);
    at!(site.end).set(StackEnd::NotWalked as u8);
    at!(site.function).set(Function::Unknown as u8);
    at!(site.ready).store(1);
}

/// Growth or a fault, of which no block comes.
#[inline(always)]
fn is_growth(function: u8) -> bool {
    function >= Function::Brk as u8
}

#[inline(always)]
fn take_slot(process: u32, limit: u32) -> Option<(u32, Value<SiteRecord>)> {
    let cursors = CURSORS.value(0)?;
    // Looked at first, so that a full table's cursor does not run away.
    let made = at!(cursors.sites).load();
    let of = share::of(process);
    let share = share::record(of)?;
    let own = at!(share.sites).load();
    let left = u64::from(limit).wrapping_add(free::sites(cursors).left()).wrapping_sub(made);
    // As a signed number: growth's limit is lower than what may be used.
    if left as i64 <= 0 || !share::may_take(cursors, of, own, left) {
        return None;
    }
    let mut index = free::sites(cursors).take();
    if index == free::NONE {
        let room = at!(cursors.site_room).load();
        if made >= room || made >= u64::from(limit) {
            return None;
        }
        index = maps::count_up(at!(cursors.sites), 1, at!(cursors.low_sites)) as u32;
    }
    at!(share.sites).add(1);
    Some((index, maps::site(index)?))
}

/// The number plus one of a new site, which is in no index yet.
#[inline(always)]
fn make(key: &SiteKey, scratch: Value<Scratch>) -> Option<u32> {
    let node = tree::keep(key.process, scratch);
    if node == tree::NO_ROOM {
        return None;
    }
    // Growth leaves a quarter of the table to the allocator's calls, whose blocks would else be lost.
    let all = setting!(max_sites);
    let limit = if is_growth(key.function as u8) { all - all / 4 } else { all };
    let Some((index, site)) = take_slot(key.process, limit) else {
        if let Some(cursors) = CURSORS.value(0) {
            at!(cursors.sites_refused).add(1);
        }
        return None;
    };
    at!(site.process).set(key.process);
    at!(site.stack).set(node);
    at!(site.frames).set(at!(scratch.frames).get() as u8);
    at!(site.end).set(at!(scratch.end).get() as u8);
    at!(site.function).set(key.function as u8);
    at!(site.hash_low).set(key.stack_hash as u32);
    thread::keep(index, scratch);
    Some(index.wrapping_add(1))
}

/// A new site, of which this is the number plus one, is in the index.
#[inline(always)]
fn settle(site: u32, scratch: Value<Scratch>) {
    let Some(site) = maps::site(site.wrapping_sub(1)) else { return };
    at!(site.ready).store(1);
    if at!(scratch.end).get() == StackEnd::Interrupted as u32 {
        // Its exact rows are wanted; once they are there, there are no more such stacks.
        events::tell_interrupted(at!(site.process).get(), scratch::address(scratch));
    }
}
