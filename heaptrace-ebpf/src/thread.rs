//! Whose a call is, where sites are told apart by thread: by its ID, and by its name at the time of the call. So a thread that
//! has ended keeps its name, and no table of threads is needed that could fill.

use heaptrace_common::record::SiteThread;

use crate::{
    helpers::comm_to,
    maps::{SITE_THREADS, setting},
    records,
    unwind::scratch::{Scratch, mix, seed},
    value::{Lookup, Value, at, plain},
};

plain!(SiteThread);

#[inline(always)]
pub fn are_told() -> bool {
    setting!(threads) != 0
}

/// Has `scratch` say who the current thread is. A function of its own, so that what it keeps on the stack is not below the walk.
#[inline(never)]
pub fn note(scratch: Value<Scratch>) {
    let (_, tid) = records::current();
    let thread = at!(scratch.thread);
    comm_to(at!(thread.comm));
    at!(thread.tid).set(tid);
    let [first, second] = at!(thread.comm).get();
    let hash = mix(mix(mix(seed(), u64::from(tid)), first), second);
    // 0 is nobody's.
    at!(scratch.thread_hash).set(hash | 1);
}

/// The hash of a site that has `hash` without its thread.
#[inline(always)]
pub fn with_thread(hash: u64, scratch: Value<Scratch>) -> u64 {
    if are_told() { mix(hash, at!(scratch.thread_hash).get()) } else { hash }
}

/// Says whose a new site is.
#[inline(always)]
pub fn keep(site: u32, scratch: Value<Scratch>) {
    if are_told()
        && let Some(kept) = SITE_THREADS.value(site)
    {
        kept.set(at!(scratch.thread).get());
    }
}
