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

#[cfg(test)]
mod tests {
    use super::*;
    use heaptrace_common::{
        record::index::{cell, cells_for},
        sizes,
    };
    use std::collections::HashMap;

    fn site(hash: u64, process: u32) -> SiteRecord {
        SiteRecord {
            process,
            stack: 0,
            frames: 0,
            end: 0,
            function: 1,
            ready: 1,
            hash_low: hash as u32,
            alloc_bytes: 0,
            alloc_count: 0,
            free_bytes: 0,
            free_count: 0,
            sizes: [0; sizes::WORDS],
        }
    }

    /// As the kernel side looks for a site, and enters one (`site_in_cell`, heaptrace-ebpf/src/site.rs).
    fn find_or_enter(index: &SiteIndex, sites: &HashMap<u32, (u64, SiteRecord)>, hash: u64, new: u32) -> u32 {
        let first = first(hash as u32, sites[&new].1.process);
        let is_of = |held: u64| {
            held >> 32 == hash >> 32
                && sites.get(&(held as u32).wrapping_sub(1)).is_some_and(|of| of.0 == hash)
        };
        for n in 0..PROBES {
            let held = index.cell(first, n).expect("a cell").load(Ordering::Relaxed);
            if held == 0 {
                break;
            }
            if is_of(held) {
                return held as u32 - 1;
            }
        }
        for n in 0..PROBES {
            let at = index.cell(first, n).expect("a cell");
            let held = at.load(Ordering::Relaxed);
            if held == 0 || held == TOMBSTONE {
                at.store(cell(hash, new + 1), Ordering::Relaxed);
                return new;
            }
        }
        u32::MAX
    }

    /// Sites come and go ten thousand times as often as there is room for: each is found as long as it is there, and none finds
    /// no room.
    #[test]
    fn sites_that_come_and_go_for_ever_find_room_and_are_found() {
        const ENTRIES: u32 = 512;
        let cells = SharedArray::in_memory(cells_for(ENTRIES));
        let index = SiteIndex(cells);
        let mut sites: HashMap<u32, (u64, SiteRecord)> = HashMap::new();
        let mut free: Vec<u32> = (0..ENTRIES).collect();
        let mut random = 1_u64;
        for round in 0..400_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let hash = random.rotate_left(32) ^ round;
            if let Some(number) = free.pop() {
                sites.insert(number, (hash, site(hash, round as u32 % 16)));
                assert_eq!(find_or_enter(&index, &sites, hash, number), number, "{round}");
                assert_eq!(find_or_enter(&index, &sites, hash, number), number, "{round}");
            }
            // Most of the time nearly all are in use.
            let leaves = free.len() < 8 || random >> 60 == 0;
            if leaves && let Some(number) = sites.keys().copied().nth(random as usize % sites.len().min(16)) {
                let (hash, site) = sites[&number];
                assert_eq!(find_or_enter(&index, &sites, hash, number), number, "{round}");
                index.remove(number, &site);
                sites.remove(&number);
                free.push(number);
            }
        }
        assert!(sites.len() > 400);
    }
}
