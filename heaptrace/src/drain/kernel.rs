//! What is read of the kernel side's tables, and given back to it: by the BPF maps, or by one made for tests.

use crate::bpf::{Maps, Retired};
use heaptrace_common::{
    lifetimes::Lifetimes,
    live::{LiveBlock, LiveKey},
    record::{ProcessRecord, SiteEstimate, SiteRecord, SiteThread},
    statistics::StatisticsRecord,
};
use std::{collections::HashSet, io};

/// See the module. Numbers of records and sites are used again once they were retired.
pub trait KernelTables {
    /// A process record, as it stands.
    fn process(&self, record: u32) -> Option<ProcessRecord>;

    /// The records that were taken since the last call; some may still be filled in.
    fn new_records(&mut self) -> Vec<u32>;

    /// The sites that were taken since the last call.
    fn new_sites(&mut self) -> Vec<u32>;

    /// Numbers that sites may have, those for what found no room among them.
    fn site_numbers(&self) -> impl Iterator<Item = u32> + use<Self>;

    /// The number of the site for what finds no room of a record.
    fn overflow_site(&self, record: u32) -> u32;

    /// A site, as it stands.
    fn site(&self, site: u32) -> Option<SiteRecord>;

    /// What the samples of a site stand for; nothing where blocks are not sampled.
    fn estimate(&self, site: u32) -> SiteEstimate;

    /// How long the freed blocks of a site lived; `None` where that is not counted.
    fn lifetimes(&self, site: u32) -> Option<Lifetimes>;

    /// Whose calls a site has; `None` where sites are not told apart by thread, and of those for what found no room.
    fn site_thread(&self, site: u32) -> Option<SiteThread>;

    /// The record of a site that is ready and not for what found no room.
    fn site_owner(&self, site: u32) -> Option<u32>;

    /// The record that a site is made for, ready or not, if that can be told.
    fn site_maker(&self, site: u32) -> Option<u32>;

    /// The frames of a site, innermost first.
    fn frames(&self, site: &SiteRecord) -> Vec<u64>;

    /// What the size classes of sites have carried: entries of the table of that.
    ///
    /// # Errors
    /// If the kernel does not let us read.
    fn carried_sizes(&self) -> io::Result<Vec<(u64, u64)>>;

    /// Hands every live block to `each`. Blocks that come and go meanwhile may or may not be seen, or twice: the block that an
    /// address had, and the one that it has since.
    ///
    /// # Errors
    /// If the kernel does not let us read.
    fn for_each_live(&self, each: impl FnMut(LiveKey, LiveBlock)) -> io::Result<()>;

    /// Removes live blocks of processes that have ended.
    ///
    /// # Errors
    /// If the kernel does not let us.
    fn remove_blocks(&self, blocks: &[LiveKey]) -> io::Result<()>;

    /// What was counted for `stat` of a record; `None` where that was not asked for.
    fn statistics(&self, record: u32) -> Option<StatisticsRecord>;

    /// Has `others` have shares of their own, if theirs are those of `retired` records.
    fn part_shares(&self, others: impl Iterator<Item = u32>, retired: &HashSet<u32>);

    /// Gives records back, and their sites. Nothing runs any more that began while their processes lived, their live blocks
    /// are removed, and nobody asks for them any more.
    ///
    /// # Errors
    /// If the kernel does not let us; then their places stay taken.
    fn retire(&mut self, retired: &[Retired]) -> io::Result<()>;
}

impl KernelTables for Maps {
    fn process(&self, record: u32) -> Option<ProcessRecord> {
        Self::process(self, record)
    }

    fn new_records(&mut self) -> Vec<u32> {
        Self::new_records(self)
    }

    fn new_sites(&mut self) -> Vec<u32> {
        Self::new_sites(self)
    }

    fn site_numbers(&self) -> impl Iterator<Item = u32> + use<> {
        Self::site_numbers(self)
    }

    fn overflow_site(&self, record: u32) -> u32 {
        Self::overflow_site(self, record)
    }

    fn site(&self, site: u32) -> Option<SiteRecord> {
        Self::site(self, site)
    }

    fn estimate(&self, site: u32) -> SiteEstimate {
        Self::estimate(self, site)
    }

    fn lifetimes(&self, site: u32) -> Option<Lifetimes> {
        Self::lifetimes(self, site)
    }

    fn site_thread(&self, site: u32) -> Option<SiteThread> {
        Self::site_thread(self, site)
    }

    fn site_owner(&self, site: u32) -> Option<u32> {
        Self::site_owner(self, site)
    }

    fn site_maker(&self, site: u32) -> Option<u32> {
        Self::site_maker(self, site)
    }

    fn frames(&self, site: &SiteRecord) -> Vec<u64> {
        Self::frames(self, site)
    }

    fn carried_sizes(&self) -> io::Result<Vec<(u64, u64)>> {
        Self::carried_sizes(self)
    }

    fn for_each_live(&self, each: impl FnMut(LiveKey, LiveBlock)) -> io::Result<()> {
        self.live().for_each(each)
    }

    fn remove_blocks(&self, blocks: &[LiveKey]) -> io::Result<()> {
        Self::remove_blocks(self, blocks)
    }

    fn statistics(&self, record: u32) -> Option<StatisticsRecord> {
        Self::statistics(self, record)
    }

    fn part_shares(&self, others: impl Iterator<Item = u32>, retired: &HashSet<u32>) {
        Self::part_shares(self, others, retired);
    }

    fn retire(&mut self, retired: &[Retired]) -> io::Result<()> {
        Self::retire(self, retired)
    }
}
