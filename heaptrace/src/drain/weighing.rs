//! What a block of the live map, or a site's record, stands for: itself, or where blocks are sampled also those that were not.

use crate::model::{Amount, Mode, Samples, Site, Sums, Totals};
use heaptrace_common::{
    live::LiveBlock,
    record::{SiteEstimate, SiteRecord},
    sampling::COUNT_BITS,
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

/// Blocks of the live map, and what they stand for where blocks are sampled: rounded once, when it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weighted {
    blocks: Amount,
    pub sums: Option<Sums>,
}

impl Weighted {
    /// Of memory, which stands for itself.
    pub fn of_memory(blocks: Amount) -> Self {
        Self { blocks, sums: None }
    }

    pub fn add(&mut self, other: Self) {
        self.blocks.add(other.blocks);
        if let Some(sums) = other.sums {
            self.sums = Some(self.sums.unwrap_or_default().with(sums));
        }
    }

    /// `other` is part of it.
    pub fn subtract(&mut self, other: Self) {
        self.blocks.bytes = self.blocks.bytes.saturating_sub(other.blocks.bytes);
        self.blocks.count = self.blocks.count.saturating_sub(other.blocks.count);
        self.sums = self.sums.map(|sums| sums.without(other.sums.unwrap_or_default()));
    }

    /// How many there are themselves.
    pub fn entered(&self) -> u64 {
        self.blocks.count
    }

    /// What they stand for.
    pub fn amount(&self) -> Amount {
        self.sums.map_or(self.blocks, |sums| Amount {
            bytes: sums.weights.bytes,
            count: whole(sums.weights.count),
        })
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

    /// A block.
    pub fn block(self, block: &LiveBlock) -> Weighted {
        let (size, weight) = (block.size, block.weight());
        let sums = || match weight {
            0 => Sums::of(size, self.mean),
            weight => Sums::given(size, weight, self.mean),
        };
        Weighted { blocks: Amount { bytes: size, count: 1 }, sums: self.is_sampled().then(sums) }
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
        let sums = |seen_bytes, samples, weights| Sums { samples, seen_bytes, weights };
        self.is_sampled().then(|| {
            Box::new(Samples {
                allocated: sums(site.alloc_bytes, site.alloc_count, estimate.allocated),
                freed: sums(site.free_bytes, site.free_count, estimate.freed),
                gone,
            })
        })
    }
}

/// A sum of counts, rounded.
fn whole(count: u64) -> u64 {
    (count >> COUNT_BITS) + (count >> (COUNT_BITS - 1) & 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sampling;

    fn of(size: u64) -> LiveBlock {
        LiveBlock { size, ..LiveBlock::NOTHING }
    }

    #[test]
    fn what_an_allocator_says_of_a_block_is_what_it_stands_for() {
        let weighing = Weighing::of(Mode::Native);
        let marks = LiveBlock::marks_of(1 << 20);
        let mut all = weighing.block(&LiveBlock { marks, ..of(256) });
        assert_eq!(all.amount(), Amount { bytes: 1 << 20, count: 4096 });
        all.add(weighing.block(&LiveBlock { marks, ..of(2 << 20) }));
        assert_eq!((all.amount(), all.entered()), (Amount { bytes: 2 << 20, count: 4097 }, 2));
    }

    #[test]
    fn counts_of_many_blocks_are_rounded_once() {
        let mean = 1 << 14;
        let weighing = Weighing::of(Mode::Sampled(Sampling { mean, frees: false }));
        let mut all = Weighted::default();
        (0..1_000).for_each(|_| all.add(weighing.block(&of(mean))));
        // 1 / (1 - exp(-1)) each.
        assert_eq!(all.amount(), Amount { bytes: 1_000 * 25_919, count: 1_582 });
        (0..500).for_each(|_| all.subtract(weighing.block(&of(mean))));
        assert_eq!(all.amount().count, 791);
        all.subtract(all);
        assert_eq!(all.amount(), Amount::default());
    }

    #[test]
    fn where_every_block_is_entered_each_is_itself() {
        let mut all = Weighted::default();
        for size in [17, 0, 19] {
            all.add(Weighing::of(Mode::Allocs).block(&of(size)));
        }
        assert_eq!((all.amount(), all.sums), (Amount { bytes: 36, count: 3 }, None));
    }
}
