//! Blocks in and out: the live table, the site's counters and the process's totals.

use aya_ebpf::bindings::BPF_NOEXIST;
use heaptrace_common::{
    counter::Counter,
    function::Function,
    lifetimes,
    live::LiveBlock,
    record::{ProcessRecord, SiteRecord},
    sizes,
};

use crate::{
    clock::block_ns,
    frees, judged,
    live::{self, Outcome},
    log::log,
    maps::{self, CARRIED_SIZES, LIFETIMES, PROCESSES, count, setting},
    sampled, share, statistics,
    value::{Lookup, Value, at},
};

/// What came of a call.
pub struct Given {
    pub function: u8,
    /// See `LiveBlock::marks`.
    pub marks: u32,
    /// Of the new block. Of a free that is looked into: one more than the number of its block's site; 0 if none was live.
    pub size: u64,
    /// Of the new block, or of that which is freed; 0 for none.
    pub address: u64,
}

impl Given {
    /// Nothing that is still to be counted.
    pub const NOTHING: Self = Self { function: 0, marks: 0, size: 0, address: 0 };
}

/// A block came to life. Called before anyone else can know its address. A function of its own, so that what it keeps on
/// the stack is not below the walk, which before 6.3 has 512 bytes with all its callers.
#[inline(never)]
pub fn allocated(process: u32, record: Value<ProcessRecord>, site: u32, given: &Given) {
    let Given { function: _, marks, size, address } = *given;
    frees::given_out(process, address);
    let block = LiveBlock { size, time_ns: block_ns(), site, marks };
    let entered = live::enter(process, record, address, block);
    match entered.outcome {
        Outcome::New => {}
        Outcome::Again => over(process, record, address, &entered.old),
        Outcome::Full => {
            if entered.old.time_ns != 0 {
                close_also(record, &entered.old);
            }
            // Of a sample that is not counted nobody could say what is missing.
            let is_counted = setting!(frees) == 0 || setting!(sample_bytes) != 0;
            count(if is_counted { Counter::Unfollowed } else { Counter::LiveMapFull });
            log!(
                Counter::LiveMapFull,
                "process {}: no room for the block of {} bytes at {:x}",
                size = size,
                address = address
            );
            if !is_counted {
                lost(record, size);
                hit_beside(record);
                return;
            }
        }
    }
    let bytes = weighed(&block, 0);
    let live = at!(record.live_bytes).add(bytes).wrapping_add(bytes);
    at!(record.entered_count).add(1);
    share::count_live(record, 1);
    at!(record.peak_bytes).raise(live);
    if let Some(record) = maps::site(site) {
        at!(record.alloc_bytes).add(size);
        at!(record.alloc_count).add(1);
        classed(site, record, sizes::size_class(size));
    }
}

/// Whatever lies at an address that is handed out, or unmapped, is over.
#[inline(always)]
pub fn end_at(process: u32, record: Value<ProcessRecord>, address: u64) {
    if let Some(block) = live::take(process, address) {
        over(process, record, address, &block);
    }
}

/// The block whose address was handed out again.
#[inline(always)]
fn over(process: u32, record: Value<ProcessRecord>, address: u64, block: &LiveBlock) {
    close_also(record, block);
    if block.is_held() {
        // A realloc that is still under way has given it back.
        statistics::freed(process, Function::Realloc as u8, Some(block));
        judged::freed(Function::Realloc as u8, address, block.size);
    } else if setting!(frees) != 0 {
        at!(record.missed_frees).add(1);
    }
}

/// The bytes that a block stands for, booked for its site: its own where every block is entered.
#[inline(always)]
fn weighed(block: &LiveBlock, freed: u32) -> u64 {
    let (site, size, weight) = (block.site, block.size, block.weight());
    if setting!(sample_bytes) == 0 {
        size
    } else if weight == 0 {
        sampled::weigh(site, size, freed)
    } else {
        sampled::weigh_given(site, size, weight, freed)
    }
}

/// Counts an allocation in its size class. See `heaptrace_common::sizes`.
#[inline(always)]
fn classed(site: u32, record: Value<SiteRecord>, class: u32) {
    let (word, shift) = sizes::place(class);
    let word = at!(record.sizes).masked(word as u64);
    let before = word.add(1 << shift);
    if sizes::is_to_carry(before, shift) {
        word.sub(sizes::CARRY << shift);
        carry(u64::from(class), u64::from(site));
    }
}

/// Counts what a class of a site has carried. A global function: once in so many calls, and the verifier takes it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn carry(class: u64, site: u64) -> u64 {
    let (key, once) = (&sizes::carried_key(site as u32, class as u32), &1);
    let mut tries = 0;
    while tries < 2 {
        if let Some(times) = CARRIED_SIZES.value(key) {
            times.add(1);
            return 1;
        }
        // Another may enter it first. Where there is no room, the site's count tells.
        if CARRIED_SIZES.insert(key, once, u64::from(BPF_NOEXIST)).is_ok() {
            return 1;
        }
        tries += 1;
    }
    0
}

#[inline(always)]
fn lost(record: Value<ProcessRecord>, size: u64) {
    at!(record.lost_bytes).add(size);
    at!(record.lost_count).add(1);
}

/// A block of a size that was not asked for.
#[inline(always)]
pub fn filtered(record: Value<ProcessRecord>, size: u64) {
    at!(record.filtered_bytes).add(size);
    at!(record.filtered_count).add(1);
}

/// A hit that neither enters a block nor closes one: see `ProcessRecord::hits`.
#[inline(always)]
pub fn hit_beside(record: Value<ProcessRecord>) {
    at!(record.other_hits).add(1);
}

/// Books a block as freed that no hit of its own does.
#[inline(always)]
pub fn close_also(record: Value<ProcessRecord>, block: &LiveBlock) {
    close(record, block);
    at!(record.other_hits).sub(1);
}

/// Books a taken block as freed, at the hit that tells so.
#[inline(always)]
pub fn close(record: Value<ProcessRecord>, block: &LiveBlock) {
    at!(record.live_bytes).sub(weighed(block, 1));
    at!(record.closed_count).add(1);
    share::count_live(record, 1_u32.wrapping_neg());
    if let Some(site) = maps::site(block.site) {
        at!(site.free_bytes).add(block.size);
        at!(site.free_count).add(1);
    }
    if setting!(lifetimes) != 0
        && let Some(lifetimes) = LIFETIMES.value(block.site)
    {
        let lived = block_ns().saturating_sub(block.time_ns);
        lifetimes.masked(lifetimes::class(lived)).add(1);
    }
}

/// How many generations of parents are asked for an inherited block.
const GENERATIONS: u32 = 4;

/// A free of a block that is not live: from before tracing, or from a parent at fork.
#[inline(always)]
pub fn unknown_free(record: Value<ProcessRecord>, address: u64) {
    // Most are no samples.
    if setting!(sample_bytes) != 0 {
        return;
    }
    if is_inherited(record, address) {
        at!(record.inherited_free_count).add(1);
    } else {
        at!(record.unknown_frees).add(1);
    }
}

/// Where not everything was seen from the start, a block that the parent has freed since is not found, and
/// counts as unknown.
#[inline(always)]
fn is_inherited(record: Value<ProcessRecord>, address: u64) -> bool {
    if at!(record.inherits).get() == 0 || at!(record.complete).get() != 0 {
        return at!(record.inherits).get() != 0;
    }
    let forked_ns = at!(record.started_ns).get();
    let mut ancestor = at!(record.parent).get();
    let mut generation = 0;
    while generation < GENERATIONS {
        if live::time_of(ancestor, address) <= forked_ns {
            return true;
        }
        let Some(parent) = PROCESSES.value(ancestor) else { return false };
        if at!(parent.inherits).get() == 0 {
            return false;
        }
        ancestor = at!(parent.parent).get();
        generation += 1;
    }
    false
}
