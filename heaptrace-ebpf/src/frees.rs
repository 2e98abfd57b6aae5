//! Frees that are looked into, where that is asked for: whose blocks which calls free, and calls that free what is not live.
//! See `heaptrace_common::frees`.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};
use heaptrace_common::{
    frees::{BadFree, BadFreeKey, FreePair, FreedBlock, place},
    live,
    record::{BEING_MADE, ProcessRecord},
};

use crate::{
    maps::setting,
    value::{Lookup, Value, at},
};

#[map]
static FREED: Array<FreedBlock> = Array::with_max_entries(1, 0);

#[map]
static FREE_PAIRS: HashMap<FreePair, u64> = HashMap::with_max_entries(1, 0);

#[map]
static BAD_FREES: HashMap<BadFreeKey, BadFree> = HashMap::with_max_entries(1, 0);

#[inline(always)]
pub fn are_checked() -> bool {
    setting!(check_frees) != 0
}

/// The call with the site `by` freed what lies at `address`: a block of the site that is one less than `site`, or if that is 0 none
/// that was live. A function of its own, so that what it keeps on the stack is not below the walk.
#[inline(never)]
pub fn freed(process: u32, record: Value<ProcessRecord>, by: u32, site: u64, address: u64) {
    if site != 0 {
        let site = (site as u32).wrapping_sub(1);
        count_pair(&FreePair { site, by });
        remember(process, address, site, by.wrapping_add(1));
        return;
    }
    let mut bad = BadFreeKey { by, process, site: 0, first: 0 };
    if let Some(block) = remembered(process, address) {
        bad.site = at!(block.site).load().wrapping_add(1);
        bad.first = at!(block.by).load();
        // Else another took its place meanwhile.
        if at!(block.key).load() != live::key(process, address) {
            return;
        }
    } else if at!(record.complete).get() == 0 || at!(record.inherits).get() != 0 {
        // From before tracing, or the parent's.
        return;
    }
    if let Some(known) = BAD_FREES.value(&bad) {
        at!(known.count).add(1);
        return;
    }
    // Another may enter it first. Where there is no room, the process's count of unknown frees tells.
    let once = BadFree { count: 1, address };
    if BAD_FREES.insert(bad, once, u64::from(BPF_NOEXIST)).is_err()
        && let Some(known) = BAD_FREES.value(&bad)
    {
        at!(known.count).add(1);
    }
}

#[inline(always)]
fn count_pair(pair: &FreePair) {
    if let Some(times) = FREE_PAIRS.value(pair) {
        times.add(1);
        return;
    }
    if FREE_PAIRS.insert(pair, 1, u64::from(BPF_NOEXIST)).is_err()
        && let Some(times) = FREE_PAIRS.value(pair)
    {
        times.add(1);
    }
}

/// Remembers a block that is not live any more.
#[inline(always)]
pub fn remember(process: u32, address: u64, site: u32, by: u32) {
    let key = live::key(process, address);
    let Some(block) = FREED.value(place(key)) else { return };
    let before = at!(block.key).load();
    // Whoever fills it goes first.
    if key == 0 || before == BEING_MADE || !at!(block.key).replace(before, BEING_MADE) {
        return;
    }
    at!(block.site).store(site);
    at!(block.by).store(by);
    at!(block.key).store(key);
}

/// An address is handed out: whatever lay there is forgotten.
#[inline(always)]
pub fn given_out(process: u32, address: u64) {
    if are_checked()
        && let Some(block) = remembered(process, address)
    {
        at!(block.key).replace(live::key(process, address), 0);
    }
}

#[inline(always)]
fn remembered(process: u32, address: u64) -> Option<Value<FreedBlock>> {
    let key = live::key(process, address);
    let block = FREED.value(place(key))?;
    (key != 0 && at!(block.key).load() == key).then_some(block)
}
