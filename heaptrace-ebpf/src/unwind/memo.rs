//! Walks that were walked before: `heaptrace_common::unwind::memo`.

use heaptrace_common::unwind::memo::{MEMO_WORDS, memo_index};

use super::{Frame, in_force, memory::UserMemory, scratch::Scratch};
use crate::{atomic, maps::UNWIND_MEMOS, mask::mask};

/// The site, plus one, that was found for a walk of `function`'s caller as the one at whose beginning `scratch` is; 0 if
/// none is remembered. A global function: verified once.
///
/// # Safety
/// `scratch` is null or claimed; the null test is the verifier's wish.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn uw_recall(scratch: *mut Scratch, process: u32, function: u32) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    let unwinder = unsafe { &raw mut (*scratch).unwinder };
    let first = unsafe { (*unwinder).registers };
    let place = memo_index(process, first.pc, first.sp);
    let Some(memo) = UNWIND_MEMOS.get_ptr(place) else { return 0 };
    let list = in_force::list_in_force(process);
    if list == in_force::INCOMPLETE {
        return 0;
    }
    unsafe {
        let version = core::ptr::read_volatile(&raw const (*memo).version);
        // x86 keeps loads, and stores, in order among themselves; what LLVM moves is still between the two volatile reads.
        if version & 1 != 0 || !(*memo).began(process, function, list, &first) {
            return 0;
        }
        let count = core::ptr::read_volatile(&raw const (*memo).count);
        let mut from: u32 = 0;
        while from < MEMO_WORDS as u32 {
            if from >= count {
                break;
            }
            if uw_as_remembered(scratch, place, from) == 0 {
                return 0;
            }
            from += WORDS_A_CALL;
        }
        let site = core::ptr::read_volatile(&raw const (*memo).site);
        // Else another walk was written over it meanwhile.
        if core::ptr::read_volatile(&raw const (*memo).version) != version {
            return 0;
        }
        u64::from(site) + 1
    }
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
    if scratch.is_null() {
        return 0;
    }
    let Some(memo) = UNWIND_MEMOS.get_ptr(place) else { return 0 };
    unsafe {
        let mut memory = UserMemory(&raw mut (*scratch).unwinder.window);
        let mut n = 0;
        while n < WORDS_A_CALL {
            if from.wrapping_add(n) >= (*memo).count {
                break;
            }
            let at = mask::<{ MEMO_WORDS as u64 - 1 }>(u64::from(from.wrapping_add(n)));
            let word = (&raw const (*memo).words).cast::<[u64; 2]>().add(at).cast::<u64>();
            if !memory.is(core::ptr::read_volatile(word), core::ptr::read_volatile(word.add(1))) {
                return 0;
            }
            n += 1;
        }
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
    if scratch.is_null() {
        return 0;
    }
    let unwinder = unsafe { &raw mut (*scratch).unwinder };
    unsafe {
        let window = &raw const (*unwinder).window;
        let count = (*window).count();
        let list = (*unwinder).in_force.list();
        if count == 0 || count > MEMO_WORDS as u64 || list == in_force::INCOMPLETE {
            return 0;
        }
        let Frame { pc, sp, bp, bp_at, .. } = (*unwinder).first;
        let Some(memo) = UNWIND_MEMOS.get_ptr_mut(memo_index(process, pc, sp)) else { return 0 };
        let version = core::ptr::read_volatile(&raw const (*memo).version);
        // Another thread writes there.
        if version & 1 != 0 || !atomic::replace(&raw mut (*memo).version, version, version.wrapping_add(1)) {
            return 0;
        }
        (*memo).pc = pc;
        (*memo).sp = sp;
        (*memo).bp = bp;
        (*memo).bp_at = bp_at;
        (*memo).needed_bp = (*unwinder).registers.needed_bp;
        (*memo).list = list;
        (*memo).process = process;
        (*memo).function = function;
        (*memo).site = site;
        (*memo).count = count as u32;
        let mut n: u64 = 0;
        while n < MEMO_WORDS as u64 {
            if n >= count {
                break;
            }
            let place = mask::<{ MEMO_WORDS as u64 - 1 }>(n);
            let to = (&raw mut (*memo).words).cast::<[u64; 2]>().add(place).cast::<u64>();
            let [at, there] = (*window).word_read(place);
            core::ptr::write_volatile(to, at);
            core::ptr::write_volatile(to.add(1), there);
            n += 1;
        }
        core::ptr::write_volatile(&raw mut (*memo).version, version.wrapping_add(2));
    }
    0
}
