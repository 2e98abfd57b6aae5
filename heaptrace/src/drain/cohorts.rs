//! Live blocks by site and by when they were allocated, and with a site's past what came of all that were allocated then.

use super::{ProfileBuilder, kernel::KernelTables, past::Pasts, weighing::Weighted};
use crate::model::{COHORTS, Cohort, Cohorts, SiteId};
use heaptrace_common::{
    live::{LiveBlock, LiveKey},
    record::{ProcessRecord, process_state},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    io,
    ops::Range,
};

/// A recording has those of so many sites with most live bytes, and of as many with most live blocks.
const MOST: usize = 1_000;

/// Live blocks by site and age: see the module.
#[derive(Default)]
pub(super) struct LiveByAge {
    sites: HashMap<SiteId, OfSite>,
}

struct OfSite {
    traced: Range<u64>,
    parts: [Part; COHORTS],
    live: Part,
}

#[derive(Clone, Copy, Default)]
struct Part {
    count: u64,
    bytes: u64,
}

impl Part {
    fn add(&mut self, block: Weighted) {
        self.count += block.entered();
        self.bytes = self.bytes.saturating_add(block.amount().bytes);
    }
}

impl LiveByAge {
    /// Takes a block that was allocated at `time_ns`, of a process that was `traced` then (both `CLOCK_MONOTONIC`).
    pub fn add(&mut self, site: SiteId, traced: &Range<u64>, time_ns: u64, block: Weighted) {
        let of = self.sites.entry(site).or_insert_with(|| OfSite {
            traced: traced.clone(),
            parts: [Part::default(); COHORTS],
            live: Part::default(),
        });
        of.parts[place(&of.traced, time_ns)].add(block);
        of.live.add(block);
    }

    /// With what was counted of the sites; not of `left_out`, of which blocks are missing.
    pub fn with_pasts(self, pasts: &Pasts, left_out: &HashSet<SiteId>) -> BTreeMap<SiteId, Cohorts> {
        let sites = self.sites.into_iter().filter(|(site, _)| !left_out.contains(site));
        sites.filter_map(|(site, of)| Some((site, of.with_past(pasts.of(site)?)))).collect()
    }

    /// The same, of the sites with most only.
    pub fn most_with_pasts(mut self, pasts: &Pasts, left_out: &HashSet<SiteId>) -> BTreeMap<SiteId, Cohorts> {
        let mut chosen: HashSet<SiteId> = HashSet::new();
        for measure in [|of: &Part| of.bytes, |of: &Part| of.count] {
            let mut order: Vec<_> =
                self.sites.iter().map(|(site, of)| (Reverse(measure(&of.live)), *site)).collect();
            order.sort_unstable();
            chosen.extend(order.into_iter().take(MOST).map(|(_, site)| site));
        }
        self.sites.retain(|site, _| chosen.contains(site));
        self.with_pasts(pasts, left_out)
    }
}

impl OfSite {
    fn with_past(self, past: &super::past::Past) -> Cohorts {
        let Range { start, end } = self.traced;
        let span_ns = end.saturating_sub(start);
        let mut before = past.at(start);
        let parts = (1..).zip(self.parts).map(|(number, live)| {
            let until = start + (u128::from(span_ns) * number / COHORTS as u128) as u64;
            let now = past.at(until);
            let cohort = Cohort {
                allocated: now.allocated.saturating_sub(before.allocated),
                freed: now.freed.saturating_sub(before.freed),
                held_bytes: now.held_bytes,
                live: live.count,
                live_bytes: live.bytes,
            };
            before = now;
            cohort
        });
        Cohorts { span_ns, parts: parts.collect() }
    }
}

/// In which part of `traced` a moment is. Block times lag by a tick.
fn place(traced: &Range<u64>, time_ns: u64) -> usize {
    let span = u128::from(traced.end.saturating_sub(traced.start)).max(1);
    let passed = u128::from(time_ns.saturating_sub(traced.start));
    ((passed * COHORTS as u128 / span) as usize).min(COHORTS - 1)
}

impl ProfileBuilder {
    /// From when, `from_ns` at the earliest, until when blocks of a record were traced, which may be `now_ns` (all
    /// `CLOCK_MONOTONIC`).
    pub(super) fn traced(record: &ProcessRecord, from_ns: u64, now_ns: u64) -> Range<u64> {
        let until = if record.ended_ns == 0 { now_ns } else { record.ended_ns };
        record.started_ns.max(from_ns).min(until)..until
    }

    /// How blocks of sites came and stayed since calls counted, at `from_ns` or later, until now (both `CLOCK_MONOTONIC`). After
    /// [`Self::read_sites`].
    ///
    /// # Errors
    /// If the blocks cannot be read.
    pub fn cohorts(
        &self,
        maps: &impl KernelTables,
        from_ns: u64,
        now_ns: u64,
    ) -> io::Result<BTreeMap<SiteId, Cohorts>> {
        let mut by_age = LiveByAge::default();
        maps.for_each_live(|key, block| {
            if !self.gone.has(&key, &block) {
                self.add_by_age(&mut by_age, &key, &block, from_ns, now_ns);
            }
        })?;
        Ok(by_age.with_pasts(&self.pasts, &self.sites_with_removed()))
    }

    /// Adds a block that is live, but for one that an exec has released, or of a site that was not read yet.
    pub(super) fn add_by_age(
        &self,
        by_age: &mut LiveByAge,
        key: &LiveKey,
        block: &LiveBlock,
        from_ns: u64,
        now_ns: u64,
    ) {
        if let (Some(site), Some(record)) = (self.site_of(block.site), self.record(key.process))
            && record.state != process_state::REPLACED
        {
            let traced = Self::traced(record, from_ns, now_ns);
            by_age.add(site, &traced, block.time_ns, self.weighing.block(block));
        }
    }

    /// Sites of which blocks were removed from the live map: how old those were that remain says nothing.
    pub(super) fn sites_with_removed(&self) -> HashSet<SiteId> {
        self.ages.removed.keys().filter_map(|site| self.site_of(*site)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::past::Counted;
    use crate::drain::weighing::Weighing;

    #[test]
    fn blocks_are_counted_where_they_were_allocated_beside_all_that_were() {
        let mut pasts = Pasts::default();
        let site = SiteId(3);
        for second in 1..=24_u64 {
            pasts.reads_at(second * 1_000);
            pasts.note(site, Counted { allocated: second * 2, freed: second, held_bytes: second * 5 });
        }
        let mut live = LiveByAge::default();
        let block = Weighing::default().block(&LiveBlock { size: 5, ..LiveBlock::NOTHING });
        for time in [0, 999, 1_000, 23_999, 24_000, 30_000] {
            live.add(site, &(0..24_000), time, block);
        }
        live.add(SiteId(9), &(0..24_000), 5, block);
        let cohorts = live.with_pasts(&pasts, &HashSet::new());
        assert_eq!(cohorts.keys().copied().collect::<Vec<_>>(), [site], "of others nothing was counted");
        let Cohorts { span_ns, parts } = &cohorts[&site];
        assert_eq!((*span_ns, parts.len()), (24_000, COHORTS));
        assert_eq!(parts.iter().map(|part| part.live).collect::<Vec<_>>()[..3], [2, 1, 0]);
        assert_eq!((parts[23].live, parts[23].live_bytes, parts[23].held_bytes), (3, 15, 120));
        assert_eq!(parts.iter().map(|part| part.allocated).sum::<u64>(), 48);
        assert_eq!(parts.iter().map(|part| part.freed).sum::<u64>(), 24);
    }

    #[test]
    fn a_recording_has_the_sites_with_most() {
        let mut pasts = Pasts::default();
        let mut live = LiveByAge::default();
        pasts.reads_at(1);
        for number in 0..3_000_u32 {
            let size = if number >= 2_900 { 1_000 } else { 1 };
            let block = Weighing::default().block(&LiveBlock { size, ..LiveBlock::NOTHING });
            (0..=number % 7).for_each(|_| live.add(SiteId(number), &(0..9), 1, block));
            pasts.note(SiteId(number), Counted::default());
        }
        let left_out = HashSet::from([SiteId(2_999)]);
        let kept = live.most_with_pasts(&pasts, &left_out);
        assert!((MOST..2 * MOST).contains(&kept.len()), "{}", kept.len());
        assert!((2_900..2_999).all(|number| kept.contains_key(&SiteId(number))));
        assert!(!kept.contains_key(&SiteId(2_999)));
    }
}
