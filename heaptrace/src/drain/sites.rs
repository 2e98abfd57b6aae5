//! The map's sites as the profile has them: each read, named once, and told apart from growth and faults.

use super::{
    ProfileBuilder,
    images::{Image, Place},
    kept_sites::Kept,
};
use crate::{
    bpf::Maps,
    model::{
        Frame, FrameId, Location, LocationId, ProcessId, Site, SiteId, SizeHistogram, Stack, StackId, Totals,
    },
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
    pub fn read_sites(&mut self, maps: &Maps) {
        for index in maps.site_numbers() {
            self.read(maps, index, true);
        }
    }

    /// Reads all sites of all processes, or of one record: as far as it is known, their code is known by now.
    pub fn read_whole(&mut self, maps: &Maps, only: Option<u32>) {
        match only {
            None => maps.site_numbers().for_each(|index| self.read(maps, index, false)),
            Some(record) => {
                let sites =
                    self.kept.owners.sites_of(record, maps.sites_made(), |index| maps.site_owner(index));
                sites
                    .into_iter()
                    .chain([maps.overflow_site(record)])
                    .for_each(|index| self.read(maps, index, false));
            }
        }
    }

    fn read(&mut self, maps: &Maps, index: u32, may_wait: bool) {
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
                let kept = self.keep(&record, maps, process);
                self.kept.ids.insert(index, kept);
                kept
            }
        };
        match kept {
            Kept::Site(id) => self.update_site(index, id, &record),
            Kept::Growth(at) => {
                let totals = &mut self.kept.growth[at].totals;
                (totals.alloc_bytes, totals.alloc_count) = (record.alloc_bytes, record.alloc_count);
            }
        }
    }

    /// Whether a site is in code of which nothing is known, and word of it may still come.
    fn is_to_wait(&mut self, site: u32, record: &SiteRecord, maps: &Maps) -> bool {
        let known = |image: &Image| {
            maps.frames(record).iter().all(|address| image.locate(*address) != Place::Unmapped)
        };
        if self.images.get(&record.process).is_some_and(known) {
            self.kept.waits.remove(&site);
            return false;
        }
        let waits = self.kept.waits.entry(site).or_default();
        *waits += 1;
        *waits <= MAX_WAITS
    }

    fn keep(&mut self, record: &SiteRecord, maps: &Maps, process: ProcessId) -> Kept {
        let function = Function::from_number(record.function).unwrap_or(Function::Unknown);
        let site = Site {
            process,
            stack: self.stack(record, maps, process),
            function,
            totals: Totals::default(),
            oldest_age_ns: None,
            sizes: SizeHistogram::default(),
        };
        if !function.is_allocation() {
            self.kept.growth.push(site);
            return Kept::Growth(self.kept.growth.len() - 1);
        }
        self.kept.sites.push(site);
        self.kept.changed.push(true);
        Kept::Site(SiteId(self.kept.sites.len() as u32 - 1))
    }

    /// What is known to be gone of a site's blocks has changed.
    pub(super) fn set_gone(&mut self, site: u32, maps: &Maps) {
        if let (Some(id), Some(record)) = (self.site_of(site), maps.site(site)) {
            self.update_site(site, id, &record);
        }
    }

    fn update_site(&mut self, index: u32, id: SiteId, record: &SiteRecord) {
        let (alloc_bytes, alloc_count) = (record.alloc_bytes, record.alloc_count);
        let (free_bytes, free_count) = (record.free_bytes, record.free_count);
        let mut totals = Totals { alloc_bytes, alloc_count, free_bytes, free_count, ..Totals::default() };
        let image = self.table.records.get(record.process as usize);
        if image.is_some_and(|image| image.state == process_state::REPLACED) {
            (totals.released_bytes, totals.released_count) = (totals.live_bytes(), totals.live_count());
        } else {
            let gone = self.gone.of_site(index);
            (totals.gone_bytes, totals.gone_count) = (gone.bytes, gone.count);
        }
        let site = &mut self.kept.sites[id.index()];
        if site.totals != totals {
            site.totals = totals;
            site.sizes.follow(&record.sizes);
            self.kept.changed[id.index()] = true;
        }
    }

    /// Blocks whose size classes are not known: the map's counts went round between two readings.
    pub fn unclassed_blocks(&self) -> u64 {
        let unclassed = |site: &Site| {
            let missing = site.totals.alloc_count.saturating_sub(site.sizes.0.iter().sum());
            // Less is what was allocated between the readings of the one and the other.
            if missing > u64::from(u32::MAX) { missing } else { 0 }
        };
        self.kept.sites.iter().map(unclassed).sum()
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
        (0..self.table.records.len() as u32).filter_map(|index| Some((index, self.table.id(index)?)))
    }

    fn stack(&mut self, record: &SiteRecord, maps: &Maps, process: ProcessId) -> StackId {
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
        let (locations, interned) = (&mut self.locations, &mut self.frames);
        let stack = frames
            .iter()
            .map(|&address| {
                let location = match image.locate(address) {
                    Place::InModule(module, offset) => Location::InModule { module, offset },
                    Place::Anonymous => Location::Anonymous { process, address },
                    Place::Unmapped => Location::Unmapped { process, address },
                };
                let location = LocationId(locations.intern(location));
                FrameId(interned.intern(Frame { address, location }))
            })
            .collect();
        StackId(self.stacks.intern(Stack { frames: stack, end }))
    }

    /// Sets the age of a site's oldest live block; `site` is its number in the map.
    pub(super) fn set_age(&mut self, site: u32, age_ns: u64) {
        let Some(id) = self.site_of(site) else { return };
        let site = &mut self.kept.sites[id.index()];
        let age = (site.totals.live_count() > 0).then_some(age_ns);
        self.kept.changed[id.index()] |= site.oldest_age_ns != age;
        site.oldest_age_ns = age;
    }
}
