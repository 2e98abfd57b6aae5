//! What a block of the live map, or a site's record, stands for: itself, or where blocks are sampled also those that were not.

use crate::model::{Amount, Mode, Samples, Site, Sums, Totals};
use heaptrace_common::{
    record::{SiteEstimate, SiteRecord, Weighed},
    sampling::{COUNT_BITS, Weights},
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighing {
    /// Bytes from one sample to the next; 0 where every block is entered.
    mean: u64,
    frees: bool,
}

impl Default for Weighing {
    fn default() -> Self {
        Self::of(Mode::Exact)
    }
}

/// What some blocks stand for, and what that is estimated from where blocks are sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weighted {
    pub amount: Amount,
    pub sums: Option<Sums>,
}

impl Weighted {
    pub fn add(&mut self, other: Self) {
        self.amount.add(other.amount);
        if let Some(sums) = other.sums {
            self.sums = Some(self.sums.unwrap_or_default().with(sums));
        }
    }

    /// `other` is part of it.
    pub fn subtract(&mut self, other: Self) {
        self.amount.bytes = self.amount.bytes.saturating_sub(other.amount.bytes);
        self.amount.count = self.amount.count.saturating_sub(other.amount.count);
        self.sums = self.sums.map(|sums| sums.without(other.sums.unwrap_or_default()));
    }
}

impl Weighing {
    pub fn of(mode: Mode) -> Self {
        Self { mean: mode.sample_bytes(), frees: mode.has_frees() }
    }

    fn is_sampled(self) -> bool {
        self.mean != 0
    }

    /// Allocations and frees of a site that were looked into.
    pub fn events(self, site: &Site) -> u64 {
        let (allocated, freed) = match &site.samples {
            Some(samples) => (samples.allocated.samples, samples.freed.samples),
            None => (site.totals.alloc_count, site.totals.free_count),
        };
        // Without frees, what is over was found to be at an allocation.
        allocated.saturating_add(if self.frees { freed } else { 0 })
    }

    /// What a block stands for.
    pub fn block(self, size: u64) -> Weighted {
        if !self.is_sampled() {
            return Weighted { amount: Amount { bytes: size, count: 1 }, sums: None };
        }
        let sums = Sums::of(size, self.mean);
        let amount = Amount { bytes: sums.weights.bytes, count: whole(sums.weights.count) };
        Weighted { amount, sums: Some(sums) }
    }

    /// What a site allocated and freed.
    pub fn totals(self, site: &SiteRecord, estimate: &SiteEstimate) -> Totals {
        let [alloc, free] = if self.is_sampled() {
            [estimate.allocated, estimate.freed].map(|of| (of.bytes, whole(of.count)))
        } else {
            [(site.alloc_bytes, site.alloc_count), (site.free_bytes, site.free_count)]
        };
        Totals {
            alloc_bytes: alloc.0,
            alloc_count: alloc.1,
            free_bytes: free.0,
            free_count: free.1,
            ..Totals::default()
        }
    }

    /// What these totals are estimated from, if they are; `gone` is what ended without a free.
    pub fn samples(self, site: &SiteRecord, estimate: &SiteEstimate, gone: Sums) -> Option<Box<Samples>> {
        self.is_sampled().then(|| {
            Box::new(Samples {
                allocated: sums(site.alloc_bytes, site.alloc_count, &estimate.allocated),
                freed: sums(site.free_bytes, site.free_count, &estimate.freed),
                gone,
            })
        })
    }
}

fn sums(seen_bytes: u64, samples: u64, of: &Weighed) -> Sums {
    let Weighed { bytes, count, bytes_variance, count_variance } = *of;
    Sums { samples, seen_bytes, weights: Weights { bytes, count, bytes_variance, count_variance } }
}

/// A sum of counts, rounded.
fn whole(count: u64) -> u64 {
    (count >> COUNT_BITS) + (count >> (COUNT_BITS - 1) & 1)
}
