//! Blocks that have been outstanding for a while, by site, from the live map.

use super::ProfileBuilder;
use crate::{
    bpf::Maps,
    model::{Amount, Old, OldBlocks, SiteId},
};
use heaptrace_common::record::process_state;
use std::{collections::BTreeMap, io};

impl ProfileBuilder {
    /// What is outstanding and at least `older_than_ns` old, at `now_ns` (`CLOCK_MONOTONIC`) or at the end of its
    /// process. After [`Self::read_sites`] and [`Self::judge_blocks`].
    pub fn old_blocks(&self, maps: &Maps, older_than_ns: u64, now_ns: u64) -> io::Result<OldBlocks> {
        let mut blocks = OldBlocks::default();
        let mut by_site: BTreeMap<SiteId, Old> = BTreeMap::new();
        let mut of_exited = self.retired_gone;
        maps.live().for_each(|key, block| {
            let Some(record) = self.record(key.process) else { return };
            // An exec released them.
            if record.state == process_state::REPLACED {
                return;
            }
            let exited = record.state == process_state::EXITED;
            if exited {
                of_exited.add(Amount { bytes: block.size, count: 1 });
            }
            let until = if record.ended_ns == 0 { now_ns } else { record.ended_ns };
            let age_ns = until.saturating_sub(block.time_ns);
            if self.gone.has(&key, &block) {
                blocks.gone.add(Amount { bytes: block.size, count: 1 });
                return;
            }
            // Allocated since the sites were read: the next time.
            let Some(site) = self.site_of(block.site) else { return };
            if age_ns < older_than_ns {
                blocks.younger.add(Amount { bytes: block.size, count: 1 });
                return;
            }
            let old = by_site.entry(site).or_insert(Old {
                site,
                bytes: 0,
                count: 0,
                oldest_ns: age_ns,
                youngest_ns: age_ns,
                exited,
            });
            old.bytes += block.size;
            old.count += 1;
            old.oldest_ns = old.oldest_ns.max(age_ns);
            old.youngest_ns = old.youngest_ns.min(age_ns);
        })?;
        let mut at_exit = self.table.retired_at_exit;
        let records = self.shown_records().filter_map(|(index, _)| self.record(index));
        for record in records.filter(|record| record.state == process_state::EXITED) {
            at_exit.add(Amount { bytes: record.live_bytes, count: record.live_count });
        }
        // Not outstanding, though nobody freed them.
        blocks.gone.add(self.retired_gone);
        for (site, gone) in self.gone.removed() {
            blocks.gone.add(gone);
            let record = maps.site(site).and_then(|site| self.record(site.process));
            if record.is_some_and(|record| record.state == process_state::EXITED) {
                of_exited.add(gone);
            }
        }
        blocks.removed = Amount {
            bytes: at_exit.bytes.saturating_sub(of_exited.bytes),
            count: at_exit.count.saturating_sub(of_exited.count),
        };
        blocks.sites = by_site.into_values().collect();
        Ok(blocks)
    }
}
