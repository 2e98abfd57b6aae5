//! Old blocks, by site; and what is kept of those that are removed from the live map.

use super::weighing::Weighted;
use crate::model::{Amount, Old, SiteId};
use std::collections::BTreeMap;

/// Old blocks by site.
#[derive(Clone, Default)]
pub(super) struct OldBySite {
    pub sites: BTreeMap<SiteId, Old>,
    pub younger: Amount,
}

impl OldBySite {
    /// Takes a block that is so old.
    pub fn add(
        &mut self,
        site: SiteId,
        Weighted { amount, sums }: Weighted,
        age_ns: u64,
        older_than_ns: u64,
        exited: bool,
    ) {
        if age_ns < older_than_ns {
            self.younger.add(amount);
            return;
        }
        let old = self.sites.entry(site).or_insert(Old {
            site,
            bytes: 0,
            count: 0,
            oldest_ns: age_ns,
            youngest_ns: age_ns,
            exited,
            samples: None,
        });
        old.bytes = old.bytes.saturating_add(amount.bytes);
        old.count = old.count.saturating_add(amount.count);
        if let Some(sums) = sums {
            old.samples = Some(old.samples.unwrap_or_default().with(sums));
        }
        old.oldest_ns = old.oldest_ns.max(age_ns);
        old.youngest_ns = old.youngest_ns.min(age_ns);
    }
}

/// What is kept of blocks that are removed from the live map, of processes that have exited.
pub(super) struct KeptOld {
    older_than_ns: u64,
    pub by_site: OldBySite,
    pub all: Amount,
}

impl KeptOld {
    /// Of those that are at least so old.
    pub fn new(older_than_ns: u64) -> Self {
        Self { older_than_ns, by_site: OldBySite::default(), all: Amount::default() }
    }

    /// Takes a block of which the site has been read, `age_ns` old at its process's end.
    pub fn add(&mut self, site: SiteId, block: Weighted, age_ns: u64) {
        self.by_site.add(site, block, age_ns, self.older_than_ns, true);
        self.all.add(block.amount);
    }
}
