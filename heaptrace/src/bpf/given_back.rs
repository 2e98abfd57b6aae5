//! The numbers of records and sites that are given back, and the index that knows sites by their keys.

use super::{
    cursors::CursorCell, error::LoadError, free_numbers::FreeNumbers, site_index::SiteIndex,
    taken::take_array,
};
use aya::Ebpf;
use heaptrace_common::record::{FREE_RECORDS, FREE_SITES, index};

/// See the module.
pub(super) struct GivenBack {
    pub index: SiteIndex,
    pub records: FreeNumbers,
    pub sites: FreeNumbers,
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
            nodes_left: 0,
        })
    }

    /// A record that was given back, for ourselves.
    pub fn used_record(&self, cursors: &CursorCell) -> Option<u32> {
        self.records.take_one(cursors.of_records())
    }
}
