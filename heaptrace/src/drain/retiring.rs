//! What is over is retired: records of processes that have ended, with all that is known of them and their sites, so that
//! tracing can go on for months.

use super::{ProfileBuilder, kept_sites::Kept, kernel::KernelTables, processes::Counted, statistics};
use crate::bpf::Retired;
use heaptrace_common::record::{ProcessRecord, process_state};
use std::{collections::HashSet, io};

impl ProfileBuilder {
    /// Records that can be retired, as far as `is_told` says that all news of them have come.
    pub fn retirable(&self, is_told: impl Fn(u32, &ProcessRecord) -> bool) -> Vec<u32> {
        // One of those may come of any.
        if self.unfilled.is_empty() { self.table.retirable(is_told) } else { Vec::new() }
    }

    /// Retires records that [`Self::retirable`] gave, and on which no program of the kernel side is at work any more.
    ///
    /// # Errors
    /// If their live blocks cannot be read or removed, or what their sites carried; then their places stay taken.
    pub fn retire(
        &mut self,
        maps: &mut impl KernelTables,
        records: &[u32],
        counted: Counted,
    ) -> io::Result<()> {
        self.take_new_sites(maps);
        for record in records {
            self.read_sites_of(maps, *record);
            self.keep_held(*record);
        }
        let of: HashSet<u32> = records.iter().copied().collect();
        // As they are now: what runs in its memory may have gone on after its own end.
        let has_blocks = |record: &u32| maps.process(*record).is_some_and(|record| record.live_count() > 0);
        if records.iter().any(has_blocks) || self.gone.has_any_of(&of) {
            self.remove_blocks(maps, &of)?;
        }
        self.gone.forget(&of);
        let others = self.table.records().map(|(index, ..)| index).filter(|index| !of.contains(index));
        maps.part_shares(others, &of);
        let retired: Vec<Retired> = records.iter().map(|record| self.retire_one(maps, *record)).collect();
        self.table.retire(records, counted);
        maps.retire(&retired)
    }

    fn retire_one(&mut self, maps: &impl KernelTables, record: u32) -> Retired {
        let (ended_ns, was_released) =
            self.record(record).map_or((0, false), |of| (of.ended_ns, of.state == process_state::REPLACED));
        let sites = self.kept.owners.retire(record, |site| maps.site_maker(site));
        for site in sites.iter().copied().chain([maps.overflow_site(record)]) {
            if let Some(time_ns) = self.ages.removed.remove(&site) {
                self.set_age(site, ended_ns.saturating_sub(time_ns));
            }
            let gone = self.gone.retire(site);
            if !was_released {
                self.retired_gone.add(gone);
            }
            self.kept.waits.remove(&site);
            match self.kept.ids.remove(&site) {
                Some(Kept::Site(id)) => {
                    self.kept.sites.retire(id.0);
                    self.pasts.forget(id);
                }
                Some(Kept::Growth(id)) => self.kept.growth.retire(id.0),
                None => {}
            }
        }
        if let (Some(process), Some(of)) = (self.table.id(record), maps.statistics(record)) {
            statistics::add(self.retired_statistics.entry(process).or_default(), &of);
        }
        self.ages.swept.remove(&record);
        self.forget_image(record);
        Retired { record, sites }
    }
}
