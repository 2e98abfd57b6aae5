//! The numbers of records and sites that are given back, and what knows sites: the index, by their keys, and the table of what
//! their size classes have carried.

use super::{
    cursors::CursorCell,
    error::LoadError,
    free_numbers::FreeNumbers,
    site_index::SiteIndex,
    syscall::{delete_entries, for_each_entry},
    taken::{take_array, take_data},
};
use aya::{Ebpf, maps::MapData};
use heaptrace_common::{
    record::{FREE_RECORDS, FREE_SITES, index},
    sizes,
};
use std::{collections::HashSet, io, os::fd::AsFd as _};

/// See the module.
pub(super) struct GivenBack {
    pub index: SiteIndex,
    pub records: FreeNumbers,
    pub sites: FreeNumbers,
    carried_sizes: MapData,
    /// Nodes that were left when they were last looked through.
    pub nodes_left: u64,
}

impl GivenBack {
    /// For `max_sites` sites.
    pub fn take(ebpf: &mut Ebpf, max_sites: u32) -> Result<Self, LoadError> {
        Ok(Self {
            index: SiteIndex(take_array(ebpf, "SITE_INDEX", index::cells_for(max_sites))?),
            records: FreeNumbers::take(ebpf, "FREE_RECORDS", FREE_RECORDS)?,
            sites: FreeNumbers::take(ebpf, "FREE_SITES", FREE_SITES)?,
            carried_sizes: take_data(ebpf, "CARRIED_SIZES")?,
            nodes_left: 0,
        })
    }

    /// What size classes of sites have carried.
    pub fn carried_sizes(&self) -> io::Result<Vec<(u64, u64)>> {
        const AT_ONCE: usize = 1 << 9;
        let mut entries = Vec::new();
        for_each_entry(self.carried_sizes.fd().as_fd(), AT_ONCE, |key, times| entries.push((key, times)))?;
        Ok(entries)
    }

    /// Forgets what those of `sites` have carried. What cannot be forgotten would be counted to who has the number next.
    pub fn forget_carried(&self, sites: &HashSet<u32>) -> io::Result<()> {
        let entries = self.carried_sizes()?.into_iter().map(|(key, _)| key);
        let theirs: Vec<u64> = entries.filter(|key| sites.contains(&sizes::carried_of(*key).0)).collect();
        delete_entries(self.carried_sizes.fd().as_fd(), &theirs).map(drop)
    }

    /// A record that was given back, for ourselves.
    pub fn used_record(&self, cursors: &CursorCell) -> Option<u32> {
        self.records.take_one(cursors.of_records())
    }
}
