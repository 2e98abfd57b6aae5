//! Blocks that are chosen by chance, by their bytes, and what they stand for: `heaptrace_common::sampling`.

use aya_ebpf::{helpers::bpf_get_prandom_u32, macros::map, maps::PerCpuArray};
use heaptrace_common::sampling::{self, Weights};

use crate::{
    maps::{ESTIMATES, setting},
    value::{Lookup, Value, at},
};

/// Bytes until the next sample, of each CPU. Whose blocks they are is all the same: how far it is to the next sample does not
/// depend on what was before.
#[map]
static COUNTDOWN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Not 0 if the next sample lies within `size` bytes. A global function: the verifier takes it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reaches_sample(size: u64) -> u64 {
    let mean = setting!(sample_bytes);
    let size = if size == 0 { 1 } else { size };
    if size >> sampling::CERTAIN_MEANS_BITS >= mean {
        return 1;
    }
    let Some(countdown) = COUNTDOWN.value(0) else { return 0 };
    // Atomic: another thread may come between on this CPU. One that finds nothing left, as in the beginning, begins anew.
    let left = countdown.sub(size) as i64;
    if left > size as i64 {
        return 0;
    }
    if left <= 0 {
        let gap = next(mean);
        if gap > size {
            countdown.store(gap - size);
            return 0;
        }
    }
    countdown.store(next(mean));
    1
}

#[inline(always)]
fn next(mean: u64) -> u64 {
    // SAFETY: takes nothing, gives a number.
    let half = || u64::from(unsafe { bpf_get_prandom_u32() });
    sampling::gap(half() << 32 | half(), mean)
}

/// Adds what a block of `size` stands for to what the site has allocated, or where `freed` is not 0 freed; gives the bytes. A
/// global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weigh(site: u32, size: u64, freed: u32) -> u64 {
    let weights = sampling::weights(size, setting!(sample_bytes));
    book(site, &weights, freed);
    weights.bytes
}

/// The same of a block of which its allocator says that it stands for `bytes`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weigh_given(site: u32, size: u64, bytes: u64, freed: u32) -> u64 {
    let weights = sampling::given_weights(size, bytes, setting!(sample_bytes));
    book(site, &weights, freed);
    weights.bytes
}

#[inline(always)]
fn book(site: u32, weights: &Weights, freed: u32) {
    if let Some(estimate) = ESTIMATES.value(site) {
        let of = if freed == 0 { at!(estimate.allocated) } else { at!(estimate.freed) };
        add(of, weights);
    }
}

#[inline(always)]
fn add(to: Value<Weights>, weights: &Weights) {
    at!(to.bytes).add(weights.bytes);
    at!(to.count).add(weights.count);
    at!(to.bytes_variance).add(weights.bytes_variance);
    at!(to.count_variance).add(weights.count_variance);
}
