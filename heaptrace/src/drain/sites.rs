//! The map's sites as the profile has them: each read, named once, and told apart from growth and faults.

use super::{
    ProfileBuilder,
    images::{Image, Place},
    kept_sites::{Kept, unclassed},
    kernel::KernelTables,
    past::Counted,
    processes::comm,
};
use crate::model::{
    Frame, FrameId, GrowthId, LifetimeHistogram, Location, LocationId, ProcessId, Site, SiteId,
    SizeHistogram, Stack, StackId, Thread, ThreadId, Totals,
};
use heaptrace_common::{
    function::Function,
    record::{SiteRecord, process_state},
    stack::StackEnd,
};

/// How often a site waits for its code. Word of it comes with the next look, if it was not lost.
const MAX_WAITS: u8 = 2;

impl ProfileBuilder {
    /// Reads the sites. One whose code is not known yet waits for the next call: it was mapped since word of it was
    /// taken.
    pub fn read_sites(&mut self, maps: &mut impl KernelTables) {
        self.take_new_sites(maps);
        for index in maps.site_numbers() {
            self.read(maps, index, true);
        }
    }

    /// Reads all sites: as far as it is known, their code is known by now.
    pub fn read_whole(&mut self, maps: &mut impl KernelTables) {
        self.take_new_sites(maps);
        maps.site_numbers().for_each(|index| self.read(maps, index, false));
    }

    /// Reads a record's sites whose code is known, some of which is about to be replaced; and those for which word of it does
    /// not come any more.
    pub(super) fn read_known(&mut self, maps: &mut impl KernelTables, record: u32) {
        self.take_new_sites(maps);
        for index in self.kept.owners.sites_of(record) {
            if self.kept.ids.contains_key(&index) {
                continue;
            }
            let has_waited = self.kept.waits.get(&index).is_some_and(|waits| *waits >= MAX_WAITS);
            if has_waited || maps.site(index).is_some_and(|site| self.has_known_code(&site, maps)) {
                self.read(maps, index, false);
            }
        }
    }

    /// Learns whose the sites are that have been made since the last call.
    pub(super) fn take_new_sites(&mut self, maps: &mut impl KernelTables) {
        let new = maps.new_sites();
        self.kept.carried.take(maps.carried_sizes());
        self.kept.owners.take(new, |index| maps.site_owner(index));
    }

    /// Reads those sites of a record that are known of.
    pub(super) fn read_sites_of(&mut self, maps: &impl KernelTables, record: u32) {
        for index in self.kept.owners.sites_of(record).into_iter().chain([maps.overflow_site(record)]) {
            self.read(maps, index, false);
        }
    }

    fn read(&mut self, maps: &impl KernelTables, index: u32, may_wait: bool) {
        // Numbers run ahead of the room for them where that grows.
        let Some(record) = maps.site(index) else { return };
        // Overflow sites stay empty as a rule; slots that lost a race for their key are never ready.
        if record.ready == 0 || record.alloc_count == 0 {
            return;
        }
        let kept = match self.kept.ids.get(&index) {
            Some(kept) => *kept,
            None => {
                let Some(process) = self.table.id(record.process) else { return };
                if may_wait && self.is_to_wait(index, &record, maps) {
                    return;
                }
                self.kept.waits.remove(&index);
                let kept = self.keep(index, &record, maps, process);
                self.kept.ids.insert(index, kept);
                kept
            }
        };
        match kept {
            Kept::Site(id) => self.update_site(maps, index, id, &record),
            Kept::Growth(GrowthId(at)) => self.kept.growth.change(at, |site| {
                let now = (record.alloc_bytes, record.alloc_count);
                let before = (site.totals.alloc_bytes, site.totals.alloc_count);
                (site.totals.alloc_bytes, site.totals.alloc_count) = now;
                now != before
            }),
        }
    }

    /// Whether a site is in code of which nothing is known, and word of it may still come.
    fn is_to_wait(&mut self, site: u32, record: &SiteRecord, maps: &impl KernelTables) -> bool {
        if self.has_known_code(record, maps) {
            return false;
        }
        let waits = self.kept.waits.entry(site).or_default();
        *waits += 1;
        *waits <= MAX_WAITS
    }

    fn has_known_code(&self, site: &SiteRecord, maps: &impl KernelTables) -> bool {
        let known =
            |image: &Image| maps.frames(site).iter().all(|address| image.locate(*address) != Place::Unmapped);
        self.images.get(&site.process).is_some_and(known)
    }

    fn keep(
        &mut self,
        index: u32,
        record: &SiteRecord,
        maps: &impl KernelTables,
        process: ProcessId,
    ) -> Kept {
        let thread = maps.site_thread(index).map(|thread| {
            let name = comm(&thread.name());
            ThreadId(self.threads.intern(Thread { tid: thread.tid, name }))
        });
        let function = Function::from_number(record.function).unwrap_or(Function::Unknown);
        let site = Site {
            process,
            stack: self.stack(record, maps, process),
            function,
            totals: Totals::default(),
            oldest_age_ns: None,
            sizes: SizeHistogram::default(),
            samples: None,
            thread,
            lifetimes: LifetimeHistogram::default(),
        };
        if !function.is_allocation() {
            return Kept::Growth(GrowthId(self.kept.growth.push(site)));
        }
        Kept::Site(SiteId(self.kept.sites.push(site)))
    }

    /// What is known to be gone of a site's blocks has changed.
    pub(super) fn set_gone(&mut self, site: u32, maps: &impl KernelTables) {
        if let (Some(id), Some(record)) = (self.site_of(site), maps.site(site)) {
            self.update_site(maps, site, id, &record);
        }
    }

    fn update_site(&mut self, maps: &impl KernelTables, index: u32, id: SiteId, record: &SiteRecord) {
        let estimate = maps.estimate(index);
        let mut totals = self.weighing.totals(record, &estimate);
        let gone = self.gone.of_site(index);
        let mut samples = self.weighing.samples(record, &estimate, gone.sums.unwrap_or_default());
        let image = self.table.record(record.process);
        if image.is_some_and(|image| image.state == process_state::REPLACED) {
            (totals.released_bytes, totals.released_count) = (totals.live_bytes(), totals.live_count());
            if let Some(samples) = &mut samples {
                samples.gone = samples.allocated.without(samples.freed);
            }
        } else {
            let gone = gone.amount();
            (totals.gone_bytes, totals.gone_count) = (gone.bytes, gone.count);
        }
        let (allocated, freed) = match &samples {
            Some(samples) => (samples.allocated.samples, samples.freed.samples),
            None => (totals.alloc_count, totals.free_count),
        };
        self.pasts.note(id, Counted { allocated, freed, held_bytes: totals.live_bytes() });
        let lifetimes = maps.lifetimes(index).map(|counts| LifetimeHistogram(counts.to_vec()));
        let carried = &self.kept.carried;
        self.kept.sites.change(id.0, |site| {
            let classed = site.sizes.total();
            // Between a free and its lifetime it may be read, too.
            let other = lifetimes.filter(|of| *of != site.lifetimes);
            let changed = site.totals != totals || site.samples != samples || other.is_some();
            site.lifetimes = other.unwrap_or_else(|| std::mem::take(&mut site.lifetimes));
            // Sizes may be behind: what was carried is read before.
            if changed || classed != record.alloc_count {
                site.totals = totals;
                site.samples = samples;
                carried.follow(index, &record.sizes, &mut site.sizes);
            }
            changed || site.sizes.total() != classed
        });
    }

    /// Blocks whose size classes are not known: there was no room for what their sites carried. `is_over`: nothing counts
    /// any more; before that, what is missing may have been carried since.
    pub fn unclassed_blocks(&self, is_over: bool) -> u64 {
        let is_short = is_over || self.kept.carried.is_short();
        let of_sites = if is_short { self.kept.sites.iter().map(unclassed).sum() } else { 0 };
        self.kept.gone.unclassed + of_sites
    }

    /// The site numbered `index` in the map, if it has been read and is none of growth.
    pub(super) fn site_of(&self, index: u32) -> Option<SiteId> {
        match self.kept.ids.get(&index) {
            Some(Kept::Site(id)) => Some(*id),
            _ => None,
        }
    }

    /// The records of processes that are shown.
    pub(super) fn shown_records(&self) -> impl Iterator<Item = (u32, ProcessId)> + '_ {
        self.table.records().map(|(index, process, _)| (index, process))
    }

    pub(super) fn stack(
        &mut self,
        record: &SiteRecord,
        maps: &impl KernelTables,
        process: ProcessId,
    ) -> StackId {
        self.stack_of(record.process, process, &maps.frames(record), StackEnd::from_number(record.end))
    }

    /// The stack of these frames, innermost first, in a record's image as it is known now.
    pub(super) fn stack_of(
        &mut self,
        record: u32,
        process: ProcessId,
        frames: &[u64],
        end: StackEnd,
    ) -> StackId {
        let unknown = Image::default();
        let image = self.images.get(&record).unwrap_or(&unknown);
        let (locations, of_locations) = (&mut self.locations, &mut self.frames);
        let (generating, called) = (&mut self.generating, &mut self.called);
        let stack = frames
            .iter()
            .map(|&address| {
                let location = match image.locate(address) {
                    Place::InModule(module, offset) => {
                        called.insert(module);
                        Location::InModule { module, offset }
                    }
                    Place::Anonymous => {
                        generating.insert(process);
                        Location::Anonymous { process, address }
                    }
                    Place::Unmapped => Location::Unmapped { process, address },
                };
                let location = locations.intern(location);
                // One frame for each: processes of one program have it at many addresses, and their stacks in common.
                if of_locations.items.len() == location as usize {
                    of_locations.items.push(Frame { address, location: LocationId(location) });
                }
                FrameId(location)
            })
            .collect();
        StackId(self.stacks.intern(Stack { frames: stack, end }))
    }

    /// Sets the age of a site's oldest live block; `site` is its number in the map.
    pub(super) fn set_age(&mut self, site: u32, age_ns: u64) {
        let Some(id) = self.site_of(site) else { return };
        self.kept.sites.change(id.0, |site| {
            let age = (site.totals.live_count() > 0).then_some(age_ns);
            std::mem::replace(&mut site.oldest_age_ns, age) != age
        });
    }
}
