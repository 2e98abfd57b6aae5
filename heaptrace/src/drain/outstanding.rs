//! Blocks that have been outstanding for a while, by site, from the live map.

use super::{ProfileBuilder, cohorts::LiveByAge, kernel::KernelTables, old::KeptOld};
use crate::model::{Amount, OldBlocks};
use heaptrace_common::record::process_state;
use std::io;

impl ProfileBuilder {
    /// Has [`Self::old_blocks`] know of those that were at least so old when their processes exited, though they are removed from
    /// the live map.
    pub fn keep_old_blocks(&mut self, older_than_ns: u64) {
        self.kept_old = Some(KeptOld::new(older_than_ns));
    }

    /// What is outstanding and at least `older_than_ns` old, at `now_ns` (`CLOCK_MONOTONIC`) or at the end of its
    /// process; and how sites' blocks came and stayed since calls counted, at `from_ns` or later. After [`Self::read_sites`] and
    /// [`Self::judge_blocks`].
    pub fn old_blocks(
        &self,
        maps: &impl KernelTables,
        older_than_ns: u64,
        from_ns: u64,
        now_ns: u64,
    ) -> io::Result<OldBlocks> {
        let kept = self.kept_old.as_ref();
        let mut by_site = kept.map(|kept| kept.by_site.clone()).unwrap_or_default();
        let mut of_exited = self.retired_gone;
        of_exited.add(kept.map(|kept| kept.all).unwrap_or_default());
        // Not outstanding, though nobody freed them.
        let mut gone_now = self.retired_gone;
        let mut by_age = LiveByAge::default();
        maps.for_each_live(|key, block| {
            let Some(record) = self.record(key.process) else { return };
            // An exec released them.
            if record.state == process_state::REPLACED {
                return;
            }
            let exited = record.state == process_state::EXITED;
            let weighted = self.weighing.block(&block);
            if exited {
                of_exited.add(weighted);
            }
            let until = if record.ended_ns == 0 { now_ns } else { record.ended_ns };
            let age_ns = until.saturating_sub(block.time_ns);
            if self.gone.has(&key, &block) {
                gone_now.add(weighted);
                return;
            }
            // Allocated since the sites were read: the next time.
            let Some(site) = self.site_of(block.site) else { return };
            by_site.add(site, weighted, age_ns, older_than_ns, exited);
            by_age.add(site, &Self::traced(record, from_ns, now_ns), block.time_ns, weighted);
        })?;
        let mut at_exit = self.table.retired_at_exit;
        let records = self.shown_records().filter_map(|(index, _)| self.record(index));
        for record in records.filter(|record| record.state == process_state::EXITED) {
            at_exit.add(Amount { bytes: record.live_bytes, count: record.live_count() });
        }
        for (site, gone) in self.gone.removed() {
            gone_now.add(gone);
            let record = maps.site(site).and_then(|site| self.record(site.process));
            if record.is_some_and(|record| record.state == process_state::EXITED) {
                of_exited.add(gone);
            }
        }
        Ok(OldBlocks {
            removed: Amount {
                bytes: at_exit.bytes.saturating_sub(of_exited.amount().bytes),
                count: at_exit.count.saturating_sub(of_exited.entered()),
            },
            younger: by_site.younger.amount(),
            gone: gone_now.amount(),
            sites: by_site.into_old(),
            cohorts: by_age.with_pasts(&self.pasts, &self.sites_with_removed()),
        })
    }
}
