//! What only `stat` asks for: how long freed blocks lived, and frees and failures by function. The branches on the
//! setting are gone from the programs where it is off.

use heaptrace_common::{
    live::LiveBlock,
    statistics::{StatisticsRecord, lifetime_class},
};

use crate::{
    clock::block_ns,
    maps::{STATISTICS, setting},
    value::{Lookup, Value, at},
};

#[inline(always)]
fn of(process: u32) -> Option<Value<StatisticsRecord>> {
    if setting!(statistics) == 0 {
        return None;
    }
    STATISTICS.value(process)
}

/// `function` freed a block of the program's: `block`, if it was known to be live.
#[inline(always)]
pub fn freed(process: u32, function: u8, block: Option<&LiveBlock>) {
    let Some(record) = of(process) else { return };
    let function = u64::from(function);
    at!(record.frees).masked(function).add(1);
    if let Some(block) = block {
        let lived = block_ns().saturating_sub(block.time_ns);
        at!(record.free_bytes).masked(function).add(block.size);
        at!(record.lifetimes).masked(u64::from(lifetime_class(lived))).add(1);
    }
}

/// `function` returned no memory.
#[inline(always)]
pub fn failed(process: u32, function: u8) {
    let Some(record) = of(process) else { return };
    at!(record.failed).masked(u64::from(function)).add(1);
}
