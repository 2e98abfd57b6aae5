//! What only `stat` asks for: how long freed blocks lived, and frees and failures by function. The branches on the
//! setting are gone from the programs where it is off.

use heaptrace_common::{
    live::LiveBlock,
    statistics::{FUNCTION_SLOTS, LIFETIME_SLOTS, StatisticsRecord, lifetime_class},
};

use crate::{
    atomic,
    clock::block_ns,
    maps::{STATISTICS, setting},
    mask::mask,
};

#[inline(always)]
fn of(process: u32) -> Option<*mut StatisticsRecord> {
    if setting!(statistics) == 0 {
        return None;
    }
    STATISTICS.get_ptr_mut(process)
}

#[inline(always)]
unsafe fn add<const SLOTS: usize>(array: *mut [u64; SLOTS], slot: usize, value: u64) {
    unsafe { atomic::add(array.cast::<u64>().add(slot), value) };
}

/// `function` freed a block of the program's: `block`, if it was known to be live.
#[inline(always)]
pub fn freed(process: u32, function: u8, block: Option<&LiveBlock>) {
    let Some(record) = of(process) else { return };
    let slot = mask::<{ FUNCTION_SLOTS as u64 - 1 }>(u64::from(function));
    unsafe { add(&raw mut (*record).frees, slot, 1) };
    if let Some(block) = block {
        let lived = block_ns().saturating_sub(block.time_ns);
        let class = mask::<{ LIFETIME_SLOTS as u64 - 1 }>(u64::from(lifetime_class(lived)));
        unsafe {
            add(&raw mut (*record).free_bytes, slot, block.size);
            add(&raw mut (*record).lifetimes, class, 1);
        }
    }
}

/// `function` returned no memory.
#[inline(always)]
pub fn failed(process: u32, function: u8) {
    let Some(record) = of(process) else { return };
    let slot = mask::<{ FUNCTION_SLOTS as u64 - 1 }>(u64::from(function));
    unsafe { add(&raw mut (*record).failed, slot, 1) };
}
