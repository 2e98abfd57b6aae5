//! Walks that were walked before: `heaptrace_common::unwind::memo`.

use heaptrace_common::unwind::memo::{MEMO_WORDS, Memo, memo_index};

use super::{
    Frame, in_force,
    memory::{UserMemory, Window},
    scratch::Scratch,
};
use crate::{
    maps::UNWIND_MEMOS,
    value::{Lookup, Value, at, plain},
};

plain!(Memo);

/// The site, plus one, that was found for a walk of `function`'s caller as the one at whose beginning `scratch` is; 0 if
/// none is remembered. A global function: verified once.
///
/// # Safety
/// `scratch` is null or claimed; the null test is the verifier's wish.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn uw_recall(scratch: *mut Scratch, process: u32, function: u32) -> u64 {
    // SAFETY: the caller's word.
    let Some(scratch) = (unsafe { Value::given(scratch) }) else { return 0 };
    let unwinder = at!(scratch.unwinder);
    let first = at!(unwinder.registers).get();
    let place = memo_index(process, first.pc, first.sp);
    let Some(memo) = UNWIND_MEMOS.value(place) else { return 0 };
    let list = in_force::list_in_force(process);
    if list == in_force::INCOMPLETE {
        return 0;
    }
    let version = at!(memo.version).load();
    // x86 keeps loads, and stores, in order among themselves; what LLVM moves is still between the two volatile reads.
    // SAFETY: any bits are a memo; what of it was written meanwhile does not count, by its version.
    let known = unsafe { &*memo.as_ptr() };
    let thread = at!(scratch.thread_hash).get();
    if version & 1 != 0 || !known.began(process, function, thread, list, &first) {
        return 0;
    }
    let count = at!(memo.count).load();
    let mut from: u32 = 0;
    while from < MEMO_WORDS as u32 {
        if from >= count {
            break;
        }
        // SAFETY: a claimed buffer, see `Scratch`.
        if unsafe { uw_as_remembered(scratch.as_ptr(), place, from) } == 0 {
            return 0;
        }
        from += WORDS_A_CALL;
    }
    let site = at!(memo.site).load();
    // Else another walk was written over it meanwhile.
    if at!(memo.version).load() != version {
        return 0;
    }
    u64::from(site) + 1
}

/// Words of one call of [`uw_as_remembered`].
const WORDS_A_CALL: u32 = 8;

/// Whether the walk that is remembered at `place` would read the same again, from its word `from` on. A global function: the
/// verifier takes it once, and not for each round of the loop that calls it.
///
/// # Safety
/// As for [`uw_recall`].
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn uw_as_remembered(scratch: *mut Scratch, place: u32, from: u32) -> u64 {
    // SAFETY: the caller's word.
    let Some(scratch) = (unsafe { Value::given(scratch) }) else { return 0 };
    let Some(memo) = UNWIND_MEMOS.value(place) else { return 0 };
    let mut memory = UserMemory(at!(scratch.unwinder.window));
    let mut n = 0;
    while n < WORDS_A_CALL {
        if from.wrapping_add(n) >= at!(memo.count).get() {
            break;
        }
        let word = at!(memo.words).masked(u64::from(from.wrapping_add(n)));
        if !memory.is(word.at(0).load(), word.at(1).load()) {
            return 0;
        }
        n += 1;
    }
    1
}

/// Remembers that the walk in `scratch`, which began at `first`, is of `site`. A global function: verified once.
///
/// # Safety
/// As for [`uw_recall`].
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn uw_remember(scratch: *mut Scratch, process: u32, function: u32, site: u32) -> u64 {
    // SAFETY: the caller's word.
    let Some(scratch) = (unsafe { Value::given(scratch) }) else { return 0 };
    let unwinder = at!(scratch.unwinder);
    let window = at!(unwinder.window);
    let count = Window::count(window);
    let list = at!(unwinder.in_force).get().list();
    if count == 0 || count > MEMO_WORDS as u64 || list == in_force::INCOMPLETE {
        return 0;
    }
    let Frame { pc, sp, bp, bp_at, .. } = at!(unwinder.first).get();
    let Some(memo) = UNWIND_MEMOS.value(memo_index(process, pc, sp)) else { return 0 };
    let version = at!(memo.version).load();
    // Another thread writes there.
    if version & 1 != 0 || !at!(memo.version).replace(version, version.wrapping_add(1)) {
        return 0;
    }
    at!(memo.pc).set(pc);
    at!(memo.sp).set(sp);
    at!(memo.bp).set(bp);
    at!(memo.bp_at).set(bp_at);
    at!(memo.needed_bp).set(at!(unwinder.registers.needed_bp).get());
    at!(memo.list).set(list);
    at!(memo.thread).set(at!(scratch.thread_hash).get());
    at!(memo.process).set(process);
    at!(memo.function).set(function);
    at!(memo.site).set(site);
    at!(memo.count).set(count as u32);
    let mut n: u64 = 0;
    while n < MEMO_WORDS as u64 {
        if n >= count {
            break;
        }
        let to = at!(memo.words).masked(n);
        let [at, there] = Window::word_read(window, n).get();
        to.at(0).store(at);
        to.at(1).store(there);
        n += 1;
    }
    at!(memo.version).store(version.wrapping_add(2));
    0
}
