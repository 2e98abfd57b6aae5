//! Which live blocks are over although no free was seen, and how much of each site's: as last judged.

use super::weighing::Weighted;
use heaptrace_common::live::{LiveBlock, LiveKey};
use std::collections::{HashMap, HashSet};

/// See the module.
#[derive(Default)]
pub struct Gone {
    /// Seen without memory, or free in the heap; those of them that are still in the map.
    pub(super) seen_over: HashMap<LiveKey, LiveBlock>,
    /// As last judged: those, and what newer blocks lie over.
    pub(super) over: HashMap<LiveKey, LiveBlock>,
    /// By site number in the map: as last judged, and of blocks that have been removed from the live map since.
    pub(super) by_site: HashMap<u32, Weighted>,
    removed: HashMap<u32, Weighted>,
}

impl Gone {
    /// Whether this very block is over. One that has its address later has another time.
    pub fn has(&self, key: &LiveKey, block: &LiveBlock) -> bool {
        self.over.get(key).is_some_and(|over| is_same(over, block))
    }

    /// Whether this very block was seen without memory, or free.
    pub(super) fn has_seen(&self, key: &LiveKey, block: &LiveBlock) -> bool {
        self.seen_over.get(key).is_some_and(|over| is_same(over, block))
    }

    /// What is over of the blocks that a site of the map had.
    pub fn of_site(&self, site: u32) -> Weighted {
        let mut sum = self.by_site.get(&site).copied().unwrap_or_default();
        sum.add(self.removed.get(&site).copied().unwrap_or_default());
        sum
    }

    /// The same of blocks that were removed, by site.
    pub fn removed(&self) -> impl Iterator<Item = (u32, Weighted)> + '_ {
        self.removed.iter().map(|(site, of)| (*site, *of))
    }

    /// Records are retired: others have their numbers.
    pub fn forget(&mut self, records: &HashSet<u32>) {
        self.over.retain(|key, _| !records.contains(&key.process));
        self.seen_over.retain(|key, _| !records.contains(&key.process));
    }

    /// Whether any block of these records was over when last judged.
    pub fn has_any_of(&self, records: &HashSet<u32>) -> bool {
        self.over.keys().any(|key| records.contains(&key.process))
    }

    /// A site is retired: what is over of its blocks.
    pub fn retire(&mut self, site: u32) -> Weighted {
        let of_site = self.of_site(site);
        self.by_site.remove(&site);
        self.removed.remove(&site);
        of_site
    }

    /// A block, which stands for so much, is removed from the live map: it stays over if it is.
    pub fn remove(&mut self, key: &LiveKey, block: &LiveBlock, stands_for: Weighted) {
        if !self.has(key, block) {
            return;
        }
        self.over.remove(key);
        self.seen_over.remove(key);
        self.removed.entry(block.site).or_default().add(stands_for);
        if let Some(of_site) = self.by_site.get_mut(&block.site) {
            of_site.subtract(stands_for);
        }
    }
}

/// Whether both are one block, held or not.
pub(super) fn is_same(one: &LiveBlock, other: &LiveBlock) -> bool {
    let LiveBlock { size, time_ns, site, marks: _ } = *other;
    (one.size, one.time_ns, one.site) == (size, time_ns, site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{drain::Weighing, model::Amount};

    fn block(address: u64, size: u64) -> (LiveKey, LiveBlock) {
        (LiveKey { address, process: 1, _pad: 0 }, LiveBlock { size, time_ns: 7, site: 3, marks: 0 })
    }

    fn gone(blocks: &[(LiveKey, LiveBlock)]) -> Gone {
        let mut by_site = Weighted::default();
        blocks.iter().for_each(|(_, block)| by_site.add(Weighing::default().block(block)));
        Gone { over: blocks.iter().copied().collect(), by_site: [(3, by_site)].into(), ..Gone::default() }
    }

    #[test]
    fn a_later_block_with_the_same_address_is_another_one() {
        let (key, over) = block(0x1000, 17);
        let gone = gone(&[(key, over)]);
        assert!(gone.has(&key, &over));
        for other in
            [LiveBlock { time_ns: 8, ..over }, LiveBlock { size: 18, ..over }, LiveBlock { site: 4, ..over }]
        {
            assert!(!gone.has(&key, &other), "{other:?}");
        }
    }

    #[test]
    fn what_is_removed_stays_over_and_is_counted_once() {
        let (one, two) = (block(0x1000, 17), block(0x2000, 19));
        let mut gone = gone(&[one, two]);
        let mut remove = |(key, block): &(LiveKey, LiveBlock)| {
            gone.remove(key, block, Weighing::default().block(block));
        };
        remove(&one);
        remove(&one);
        remove(&block(0x3000, 23));
        assert_eq!(gone.of_site(3).amount(), Amount { bytes: 36, count: 2 });
        let removed: Vec<_> = gone.removed().map(|(site, of)| (site, of.amount())).collect();
        assert_eq!(removed, [(3, Amount { bytes: 17, count: 1 })]);
        assert_eq!(gone.of_site(4), Weighted::default());
    }
}
