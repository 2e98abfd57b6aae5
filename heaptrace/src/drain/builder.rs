//! The profile under construction: interns what the maps hold and remembers what was handed out.

use super::{
    ages::Ages,
    images::{CodeMapping, Image, Place, is_code, module_path},
    interner::Interner,
    processes::{ProcessTable, is_fork},
};
use crate::{
    bpf::{Counters, Maps},
    model::{
        Chunk, Coverage, Frame, FrameId, Location, LocationId, Lost, Module, ModuleId, Process, ProcessId,
        Site, SiteId, SizeHistogram, Stack, StackId, Totals,
    },
    process::{maps::Mapping, object::Object},
};
use heaptrace_common::{
    counter::Counter,
    function::Function,
    record::{SiteRecord, process_state},
    stack::StackEnd,
};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

/// The tables that symbols are found from.
pub struct SymbolInputs<'a> {
    pub locations: &'a [Location],
    pub modules: &'a [Module],
    pub processes: &'a [Process],
    /// By `ModuleId`: the opened file, where one was seen.
    pub files: &'a [Option<Arc<Object>>],
}

/// Where a site of the map is kept.
#[derive(Clone, Copy)]
enum Kept {
    Site(SiteId),
    /// Index into `growth`.
    Growth(usize),
}

/// The profile so far. Fed from the maps by [`Self::drain`]; [`Self::chunk`] gives what is new.
pub struct ProfileBuilder {
    own_pid: u32,
    pub(super) modules: Interner<Module>,
    /// By `ModuleId`: the opened file, for symbols.
    pub(super) sources: Vec<Option<Arc<Object>>>,
    locations: Interner<Location>,
    frames: Interner<Frame>,
    stacks: Interner<Stack>,
    pub(super) images: HashMap<u32, Image>,
    /// Records that `/proc` was read for.
    known: HashSet<u32>,
    table: ProcessTable,
    sites: Vec<Site>,
    changed: Vec<bool>,
    growth: Vec<Site>,
    /// By site number in the map.
    site_ids: Vec<Option<Kept>>,
    pub(super) ages: Ages,
}

impl ProfileBuilder {
    /// An empty one. Records of `own_pid` are left out.
    pub fn new(own_pid: u32) -> Self {
        Self {
            own_pid,
            modules: Interner::new(),
            sources: Vec::new(),
            locations: Interner::new(),
            frames: Interner::new(),
            stacks: Interner::new(),
            images: HashMap::new(),
            known: HashSet::new(),
            table: ProcessTable::default(),
            sites: Vec::new(),
            changed: Vec::new(),
            growth: Vec::new(),
            site_ids: Vec::new(),
            ages: Ages::default(),
        }
    }

    /// Reads the process records.
    pub fn read_processes(&mut self, maps: &Maps) {
        for index in 0..maps.process_count() {
            let known = self.table.records.get_mut(index as usize);
            // Nothing happens to a record once it has ended.
            if known.as_ref().is_some_and(|record| record.state != process_state::RUNNING) {
                continue;
            }
            let Some(record) = maps.process(index) else { break };
            if let Some(known) = known {
                *known = record;
            } else if record.state == process_state::EMPTY {
                // Being filled in; the next time.
                break;
            } else {
                self.table.push(record, record.tgid == self.own_pid);
                if is_fork(&record) {
                    self.inherit_image(index, record.parent);
                }
            }
        }
    }

    /// Records that run and that nothing is known of yet: see [`Self::set_image`].
    pub fn unknown(&self) -> Vec<u32> {
        self.running().map(|(record, _)| record).filter(|record| !self.known.contains(record)).collect()
    }

    /// The record that a code change of `pid` at `time_ns` belongs to. If the process had begun an exec
    /// (`exec_began`) that was not over then, that is the new image's, which may not be there yet.
    pub fn record_at(&self, pid: u32, time_ns: u64, exec_began: Option<u64>) -> Option<u32> {
        self.table.record_at(pid, time_ns, exec_began)
    }

    /// Records forked from `record` at `time_ns` or later: they have the code that it had then.
    pub fn heirs_since(&self, record: u32, time_ns: u64) -> Vec<u32> {
        self.table.heirs_since(record, time_ns)
    }

    /// Says where the image of a record has its code now.
    pub fn set_image(&mut self, record: u32, mappings: &[Mapping], objects: &[Arc<Object>]) {
        let code = mappings.iter().filter(|mapping| is_code(mapping));
        let code = code
            .map(|mapping| {
                let object = objects.iter().find(|object| object.is_behind(mapping));
                self.code_mapping(mapping, object.cloned())
            })
            .collect();
        self.images.entry(record).or_default().update(code);
        self.known.insert(record);
    }

    /// Whether a mapping takes the place of code that stacks may have been taken in: sites have to be read before.
    pub fn replaces_code(&self, record: u32, start: u64, end: u64) -> bool {
        self.images.get(&record).is_some_and(|image| image.covers_file(start, end))
    }

    /// Adds to the code of a record's image.
    pub fn add_code(&mut self, record: u32, mapping: &Mapping, object: Option<Arc<Object>>) {
        let code = self.code_mapping(mapping, object);
        self.images.entry(record).or_default().add(code);
        // The first file that an exec maps is the program.
        if let (Some(process), Some(path)) = (self.table.get_mut(record), mapping.file())
            && process.exe.is_empty()
        {
            process.exe = path.to_string_lossy().into_owned();
        }
    }

    fn code_mapping(&mut self, mapping: &Mapping, object: Option<Arc<Object>>) -> CodeMapping {
        let module = module_path(mapping).map(|path| {
            let build_id = object.as_ref().and_then(|object| object.elf.build_id.clone());
            let id = self.modules.intern(Module { path: path.to_string_lossy().into_owned(), build_id });
            self.sources.resize(self.modules.items.len(), None);
            if let Some(object) = object {
                self.sources[id as usize].get_or_insert(object);
            }
            ModuleId(id)
        });
        CodeMapping { start: mapping.start, end: mapping.end, offset: mapping.offset, module }
    }

    /// A fork: the child has its parent's code.
    fn inherit_image(&mut self, child: u32, parent: u32) {
        if let Some(image) = self.images.get(&parent).cloned() {
            self.images.insert(child, image);
            self.known.insert(child);
        }
        let parent =
            self.table.get_mut(parent).map(|process| (process.exe.clone(), process.allocators.clone()));
        if let (Some((exe, allocators)), Some(child)) = (parent, self.table.get_mut(child)) {
            child.exe = exe;
            child.allocators = allocators;
        }
    }

    /// The process of a record, to be told what userspace knows of it.
    pub fn process_mut(&mut self, record: u32) -> Option<&mut Process> {
        self.table.get_mut(record)
    }

    /// The record as last read.
    pub fn record(&self, record: u32) -> Option<&heaptrace_common::record::ProcessRecord> {
        self.table.records.get(record as usize)
    }

    /// Processes so far.
    pub fn processes(&self) -> &[Process] {
        &self.table.processes
    }

    /// Records that run, with their PIDs.
    pub fn running(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let records = self.table.records.iter().enumerate();
        records
            .filter(|(index, record)| {
                record.state == process_state::RUNNING && self.table.id(*index as u32).is_some()
            })
            .map(|(index, record)| (index as u32, record.tgid))
    }

    /// Reads the sites, of all processes or of one record only. The code of what is read must be known by now.
    pub fn read_sites(&mut self, maps: &Maps, only: Option<u32>) {
        let count = maps.site_count();
        self.site_ids.resize(self.site_ids.len().max(count as usize), None);
        for index in 0..count {
            let Some(record) = maps.site(index) else { break };
            // Overflow sites stay empty as a rule; slots that lost a race for their key are never ready.
            let wanted = only.is_none_or(|only| only == record.process);
            if !wanted || record.ready == 0 || record.alloc_count == 0 {
                continue;
            }
            let kept = match self.site_ids[index as usize] {
                Some(kept) => kept,
                None => {
                    let Some(process) = self.table.id(record.process) else { continue };
                    let kept = self.keep(&record, maps, process);
                    self.site_ids[index as usize] = Some(kept);
                    kept
                }
            };
            match kept {
                Kept::Site(id) => self.update_site(id, &record),
                Kept::Growth(at) => {
                    let totals = &mut self.growth[at].totals;
                    (totals.alloc_bytes, totals.alloc_count) = (record.alloc_bytes, record.alloc_count);
                }
            }
        }
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
        if function.is_growth() {
            self.growth.push(site);
            return Kept::Growth(self.growth.len() - 1);
        }
        self.sites.push(site);
        self.changed.push(true);
        Kept::Site(SiteId(self.sites.len() as u32 - 1))
    }

    fn update_site(&mut self, id: SiteId, record: &SiteRecord) {
        let (alloc_bytes, alloc_count) = (record.alloc_bytes, record.alloc_count);
        let (free_bytes, free_count) = (record.free_bytes, record.free_count);
        let mut totals =
            Totals { alloc_bytes, alloc_count, free_bytes, free_count, released_bytes: 0, released_count: 0 };
        let image = self.table.records.get(record.process as usize);
        if image.is_some_and(|image| image.state == process_state::REPLACED) {
            (totals.released_bytes, totals.released_count) = (totals.live_bytes(), totals.live_count());
        }
        let site = &mut self.sites[id.index()];
        if site.totals != totals {
            site.totals = totals;
            let used = record.sizes.iter().rposition(|count| *count != 0).map_or(0, |last| last + 1);
            site.sizes = SizeHistogram(record.sizes[..used].to_vec());
            self.changed[id.index()] = true;
        }
    }

    /// The site numbered `index` in the map, if it has been read and is none of growth.
    pub(super) fn site_of(&self, index: u32) -> Option<SiteId> {
        match self.site_ids.get(index as usize).copied().flatten() {
            Some(Kept::Site(id)) => Some(id),
            _ => None,
        }
    }

    /// The records of processes that are shown.
    pub(super) fn shown_records(&self) -> impl Iterator<Item = (u32, ProcessId)> + '_ {
        (0..self.table.records.len() as u32).filter_map(|index| Some((index, self.table.id(index)?)))
    }

    fn stack(&mut self, record: &SiteRecord, maps: &Maps, process: ProcessId) -> StackId {
        let unknown = Image::default();
        let image = self.images.get(&record.process).unwrap_or(&unknown);
        let (locations, frames) = (&mut self.locations, &mut self.frames);
        let stack = maps
            .frames(record)
            .into_iter()
            .map(|address| {
                let location = match image.locate(address) {
                    Place::InModule(module, offset) => Location::InModule { module, offset },
                    Place::Anonymous => Location::Anonymous { process, address },
                    Place::Unmapped => Location::Unmapped { process, address },
                };
                let location = LocationId(locations.intern(location));
                FrameId(frames.intern(Frame { address, location }))
            })
            .collect();
        StackId(self.stacks.intern(Stack { frames: stack, end: StackEnd::from_number(record.end) }))
    }

    /// Sets the age of a site's oldest live block; `site` is its number in the map.
    pub(super) fn set_age(&mut self, site: u32, age_ns: u64) {
        let Some(Kept::Site(id)) = self.site_ids.get(site as usize).copied().flatten() else { return };
        let site = &mut self.sites[id.index()];
        let age = (site.totals.live_count() > 0).then_some(age_ns);
        self.changed[id.index()] |= site.oldest_age_ns != age;
        site.oldest_age_ns = age;
    }

    /// What was added or changed since the last chunk.
    pub fn chunk(&mut self, duration_ns: u64, coverage: Coverage) -> Chunk {
        let mut totals = vec![Totals::default(); self.table.processes.len()];
        for site in &self.sites {
            totals[site.process.index()].add(&site.totals);
        }
        self.table.sum(&totals);
        let changed = self.sites.iter().zip(&mut self.changed).enumerate();
        let sites = changed
            .filter_map(|(index, (site, changed))| {
                std::mem::take(changed).then(|| (SiteId(index as u32), site.clone()))
            })
            .collect();
        Chunk {
            duration_ns,
            coverage,
            processes: self.table.processes.clone(),
            modules: self.modules.take_new(),
            locations: self.locations.take_new(),
            symbols: Vec::new(),
            frames: self.frames.take_new(),
            stacks: self.stacks.take_new(),
            sites,
            growth: self.growth.clone(),
        }
    }

    /// The counters' part of the coverage.
    pub fn coverage(&self, counters: &Counters) -> Coverage {
        // Of the records: the processes have their sums only once a chunk is made.
        let shown = self.shown_records().filter_map(|(index, _)| self.record(index));
        Coverage {
            events: self.sites.iter().map(|site| site.totals.alloc_count + site.totals.free_count).sum(),
            lost: Lost {
                live_map_full: counters.get(Counter::LiveMapFull),
                stack_map_full: counters.get(Counter::SiteTableFull),
                pending_full: counters.get(Counter::PendingFull),
                ring_full: counters.get(Counter::RingFull),
                process_table_full: counters.get(Counter::ProcessTableFull),
                scratch_busy: counters.get(Counter::ScratchBusy),
                result_unreadable: counters.get(Counter::ResultUnreadable),
            },
            unknown_frees: shown.map(|record| record.unknown_frees).sum(),
            missed_returns: counters.get(Counter::MissedReturn),
            unpaired_returns: counters.get(Counter::UnpairedReturn),
            nested_calls: counters.get(Counter::Nested),
            ..Coverage::default()
        }
    }

    /// What symbols are found from.
    pub fn symbol_inputs(&self) -> SymbolInputs<'_> {
        SymbolInputs {
            locations: &self.locations.items,
            modules: &self.modules.items,
            processes: &self.table.processes,
            files: &self.sources,
        }
    }

    /// Live bytes and events of all processes, as last read.
    pub fn glance(&self) -> (u64, u64) {
        let live = self.table.records.iter().filter(|record| record.state == process_state::RUNNING);
        let events = self.sites.iter().map(|site| site.totals.alloc_count + site.totals.free_count);
        (live.map(|record| record.live_bytes).sum(), events.sum())
    }

    /// Path of a process's executable relative to nothing: as it sees it.
    pub fn describe(&mut self, record: u32, exe: &Path, comm: &str, rss_bytes: u64) {
        if let Some(process) = self.table.get_mut(record) {
            process.exe = exe.to_string_lossy().into_owned();
            comm.clone_into(&mut process.comm);
            process.rss_bytes = rss_bytes;
        }
    }
}
