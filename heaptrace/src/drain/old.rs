//! Old blocks, by site; and what is kept of those that are removed from the live map.

use super::weighing::Weighted;
use crate::model::{Old, SiteId};
use std::collections::BTreeMap;

/// Old blocks by site.
#[derive(Clone, Default)]
pub(super) struct OldBySite {
    sites: BTreeMap<SiteId, OfSite>,
    pub younger: Weighted,
}

#[derive(Clone)]
struct OfSite {
    blocks: Weighted,
    oldest_ns: u64,
    youngest_ns: u64,
    exited: bool,
}

impl OldBySite {
    /// Takes a block that is so old.
    pub fn add(&mut self, site: SiteId, block: Weighted, age_ns: u64, older_than_ns: u64, exited: bool) {
        if age_ns < older_than_ns {
            self.younger.add(block);
            return;
        }
        let none = OfSite { blocks: Weighted::default(), oldest_ns: age_ns, youngest_ns: age_ns, exited };
        let of = self.sites.entry(site).or_insert(none);
        of.blocks.add(block);
        of.oldest_ns = of.oldest_ns.max(age_ns);
        of.youngest_ns = of.youngest_ns.min(age_ns);
    }

    /// All of them.
    pub fn into_old(self) -> Vec<Old> {
        let old = |(site, OfSite { blocks, oldest_ns, youngest_ns, exited })| {
            let amount = blocks.amount();
            Old {
                site,
                bytes: amount.bytes,
                count: amount.count,
                oldest_ns,
                youngest_ns,
                exited,
                samples: blocks.sums,
            }
        };
        self.sites.into_iter().map(old).collect()
    }
}

/// What is kept of blocks that are removed from the live map, of processes that have exited.
pub(super) struct KeptOld {
    older_than_ns: u64,
    pub by_site: OldBySite,
    pub all: Weighted,
}

impl KeptOld {
    /// Of those that are at least so old.
    pub fn new(older_than_ns: u64) -> Self {
        Self { older_than_ns, by_site: OldBySite::default(), all: Weighted::default() }
    }

    /// Younger ones are not told apart by site.
    pub fn older_than_ns(&self) -> u64 {
        self.older_than_ns
    }

    /// Takes a block of which the site has been read, `age_ns` old at its process's end.
    pub fn add(&mut self, site: SiteId, block: Weighted, age_ns: u64) {
        self.by_site.add(site, block, age_ns, self.older_than_ns, true);
        self.all.add(block);
    }
}
