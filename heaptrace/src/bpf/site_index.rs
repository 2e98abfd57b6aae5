//! The index of sites, as userspace takes sites out of it: `heaptrace_common::record::index`.

use super::array::SharedArray;
use heaptrace_common::record::{
    SiteRecord,
    index::{PROBES, TOMBSTONE, first},
};
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(super) struct SiteIndex(pub SharedArray<u64>);

impl SiteIndex {
    /// Takes the site numbered `number` out. Nobody looks for it any more.
    pub fn remove(&self, number: u32, site: &SiteRecord) {
        let first = first(site.hash_low, site.process);
        let Some((n, cell, held)) = (0..PROBES).find_map(|n| {
            let cell = self.cell(first, n)?;
            let held = cell.load(Ordering::Acquire);
            (held as u32 == number + 1).then_some((n, cell, held))
        }) else {
            // It lost a race for its key, or found no room.
            return;
        };
        // Where nothing is behind it, searches need not go on there.
        let is_last =
            n + 1 < PROBES && self.cell(first, n + 1).is_some_and(|next| next.load(Ordering::Acquire) == 0);
        let left = if is_last { 0 } else { TOMBSTONE };
        let _ = cell.compare_exchange(held, left, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn cell(&self, first: u32, n: u32) -> Option<&AtomicU64> {
        let at = self.0.pointer(first.wrapping_add(n) & (self.0.entries - 1))?;
        // SAFETY: an element of the map, aligned; the BPF side changes it by exchange only.
        Some(unsafe { AtomicU64::from_ptr(at) })
    }
}
