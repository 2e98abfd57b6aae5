//! Where the map's sites are kept, so far. What was retired goes once it was told.

use super::{carried::Carried, owners::Owners};
use crate::model::{GrowthId, Site, SiteId};
use heaptrace_common::sizes::CARRY;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where a site of the map is kept.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    Site(SiteId),
    Growth(GrowthId),
}

/// The sites so far.
#[derive(Default)]
pub(super) struct KeptSites {
    pub sites: Table,
    /// Of growth and of faults.
    pub growth: Table,
    /// By site number in the map.
    pub ids: HashMap<u32, Kept>,
    /// By site number in the map: how often it has waited for its code.
    pub waits: HashMap<u32, u8>,
    pub owners: Owners,
    pub carried: Carried,
    /// What is counted of sites that went.
    pub gone: Gone,
}

/// See [`KeptSites`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub events: u64,
    pub growth_calls: u64,
    pub unclassed: u64,
}

/// Sites by number, in order.
#[derive(Default)]
pub(super) struct Table {
    count: u32,
    sites: BTreeMap<u32, Site>,
    /// Since the last [`Self::take_changed`].
    changed: BTreeSet<u32>,
    /// Retired since.
    over: Vec<u32>,
}

impl Table {
    /// The number of a new one.
    pub fn push(&mut self, site: Site) -> u32 {
        let number = self.count;
        self.count += 1;
        self.sites.insert(number, site);
        self.changed.insert(number);
        number
    }

    /// Has `change` do what it says to a site, which changed if that says so.
    pub fn change(&mut self, number: u32, change: impl FnOnce(&mut Site) -> bool) {
        if let Some(site) = self.sites.get_mut(&number)
            && change(site)
        {
            self.changed.insert(number);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Site> {
        self.sites.values()
    }

    /// Nothing of a site changes any more.
    pub fn retire(&mut self, number: u32) {
        self.over.push(number);
    }

    /// What is new or was changed since the last call, and those that are retired and go with it.
    pub fn take_changed(&mut self) -> (Vec<(u32, Site)>, Vec<Site>) {
        let changed = std::mem::take(&mut self.changed);
        let changed =
            changed.into_iter().filter_map(|number| Some((number, self.sites.get(&number)?.clone())));
        let changed = changed.collect();
        let over = std::mem::take(&mut self.over);
        (changed, over.into_iter().filter_map(|number| self.sites.remove(&number)).collect())
    }
}

/// Blocks of a site of which the size class is not known.
pub(super) fn unclassed(site: &Site) -> u64 {
    let entered = site.samples.as_ref().map_or(site.totals.alloc_count, |samples| samples.allocated.samples);
    let missing = entered.saturating_sub(site.sizes.total());
    // Less is what was allocated between the readings of the one and the other.
    if missing >= CARRY { missing } else { 0 }
}
