//! The live map read block by block: how old each site's oldest block is, and blocks of processes that ended,
//! which would else fill the map.

use super::{ProfileBuilder, cohorts::LiveByAge, kernel::KernelTables};
use crate::model::{Cohorts, SiteId};
use heaptrace_common::{
    live::{LiveBlock, LiveKey},
    record::{ProcessRecord, process_state},
};
use std::{
    collections::{HashMap, HashSet},
    io,
};

/// Removing is worth a pass over the whole map once this share of it is of ended processes.
const SWEEP_AT: u64 = 4;

impl ProfileBuilder {
    /// Sets the age of each site's oldest live block: at the end of its process, or now (`CLOCK_MONOTONIC`); and gives of the sites
    /// with most how their blocks came and stayed since calls counted, at `from_ns` or later. After [`Self::judge_blocks`].
    pub fn read_ages(
        &mut self,
        maps: &impl KernelTables,
        from_ns: u64,
        now_ns: u64,
    ) -> io::Result<Vec<(SiteId, Cohorts)>> {
        let mut oldest: HashMap<u32, (u64, u64)> = HashMap::new();
        let mut by_age = LiveByAge::default();
        let end_of = |process: u32| self.record(process).map_or(0, |record| record.ended_ns);
        maps.for_each_live(|key, block| {
            if self.gone.has(&key, &block) {
                return;
            }
            self.add_by_age(&mut by_age, &key, &block, from_ns, now_ns);
            let (time, _) = oldest.entry(block.site).or_insert((block.time_ns, end_of(key.process)));
            *time = (*time).min(block.time_ns);
        })?;
        for (site, time) in &self.ages.removed {
            let end = maps.site(*site).map_or(0, |record| end_of(record.process));
            oldest.insert(*site, (*time, end));
        }
        for (site, (time, end)) in oldest {
            let until = if end == 0 { now_ns } else { end };
            self.set_age(site, until.saturating_sub(time));
        }
        Ok(by_age.most_with_pasts(&self.pasts, &self.sites_with_removed()).into_iter().collect())
    }

    /// Gives the live map's room back that blocks of ended processes take, once it is much of the `capacity`.
    pub fn sweep(&mut self, maps: &impl KernelTables, capacity: u32) -> io::Result<()> {
        let has_ended = |record: &ProcessRecord| record.state != process_state::RUNNING;
        let dead = self
            .table
            .records()
            .filter(|(index, _, record)| has_ended(record) && !self.ages.swept.contains(index));
        let (mut blocks, mut records) = (0, HashSet::new());
        for (index, _, record) in dead {
            blocks += record.live_count();
            records.insert(index);
        }
        if blocks < u64::from(capacity) / SWEEP_AT {
            return Ok(());
        }
        self.remove_blocks(maps, &records)
    }

    /// Removes the live blocks of records that have ended.
    pub(super) fn remove_blocks(
        &mut self,
        maps: &impl KernelTables,
        records: &HashSet<u32>,
    ) -> io::Result<()> {
        self.judge_blocks_of(maps, |record| records.contains(&record))?;
        let mut removed: Vec<LiveKey> = Vec::new();
        let mut gone: Vec<(LiveKey, LiveBlock)> = Vec::new();
        let mut oldest: HashMap<u32, u64> = HashMap::new();
        let mut kept = self.kept_old.take();
        let read = maps.for_each_live(|key, block| {
            if records.contains(&key.process) {
                removed.push(key);
                if self.gone.has(&key, &block) {
                    gone.push((key, block));
                    return;
                }
                if let (Some(kept), Some(site)) = (&mut kept, self.site_of(block.site))
                    && let Some(of) =
                        self.record(key.process).filter(|of| of.state != process_state::REPLACED)
                {
                    kept.add(site, self.weighing.block(&block), of.ended_ns.saturating_sub(block.time_ns));
                }
                let time = oldest.entry(block.site).or_insert(block.time_ns);
                *time = (*time).min(block.time_ns);
            }
        });
        self.kept_old = kept;
        read?;
        maps.remove_blocks(&removed)?;
        for (key, block) in &gone {
            self.gone.remove(key, block, self.weighing.block(block));
        }
        self.ages.swept.extend(records);
        for (site, time) in oldest {
            let kept = self.ages.removed.entry(site).or_insert(time);
            *kept = (*kept).min(time);
        }
        Ok(())
    }
}
