//! The profile under construction: interns what the maps hold and remembers what was handed out.

use super::{
    followed::Followed,
    images::{CodeMapping, Image, is_code, module_path},
    interner::{Appended, Interner},
    kept_sites::{KeptSites, unclassed},
    kernel::KernelTables,
    old::KeptOld,
    over::Gone,
    past::Pasts,
    processes::{Counted, ProcessTable, is_fork},
    swept::Ages,
    told::Told,
    weighing::{Weighing, Weighted},
};
use crate::{
    bpf::Counters,
    model::{
        Chunk, Counts, Coverage, Frame, GrowthId, Location, Module, ModuleId, Process, ProcessId, SiteId,
        Stack, Statistics, Thread, Totals,
    },
    process::{maps::Mapping, object::Object},
};
use heaptrace_common::record::process_state;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

/// The tables that symbols are found from.
pub struct SymbolInputs<'a> {
    pub locations: &'a [Location],
    pub modules: &'a [Module],
    /// Those that are not over, or that have generated code.
    pub processes: &'a BTreeMap<ProcessId, Process>,
    /// By `ModuleId`: the opened file, where one was seen.
    pub files: &'a [Option<Arc<Object>>],
}

/// The profile so far. Fed from the maps by [`Self::drain`]; [`Self::chunk`] gives what is new.
#[derive(Default)]
pub struct ProfileBuilder {
    pub(super) modules: Interner<Module>,
    /// By `ModuleId`: the opened file, for symbols.
    pub(super) sources: Vec<Option<Arc<Object>>>,
    pub(super) locations: Interner<Location>,
    /// Of each location, in the same order.
    pub(super) frames: Appended<Frame>,
    pub(super) stacks: Interner<Stack>,
    /// Where sites are told apart by thread.
    pub(super) threads: Interner<Thread>,
    pub(super) images: HashMap<u32, Image>,
    /// Records that `/proc` was read for.
    known: HashSet<u32>,
    pub(super) table: ProcessTable,
    pub(super) kept: KeptSites,
    pub(super) ages: Ages,
    pub(super) gone: Gone,
    told: Told,
    /// Records that were taken and are still to be filled in.
    pub(super) unfilled: Vec<u32>,
    /// What was counted of retired records for `stat`.
    pub(super) retired_statistics: HashMap<ProcessId, Statistics>,
    /// What was over of the blocks that processes had which have exited and are retired.
    pub(super) retired_gone: Weighted,
    pub(super) kept_old: Option<KeptOld>,
    /// Where growth is followed.
    pub(super) followed: Option<Followed>,
    /// Processes that have code without a file, which a file of theirs may name.
    pub(super) generating: HashSet<ProcessId>,
    /// Modules that stacks were taken in.
    pub(super) called: HashSet<ModuleId>,
    pub(super) weighing: Weighing,
    pub(super) pasts: Pasts,
}

impl ProfileBuilder {
    pub fn new(weighing: Weighing) -> Self {
        Self { weighing, ..Self::default() }
    }

    /// Reads the process records.
    pub fn read_processes(&mut self, maps: &mut impl KernelTables) {
        // What has ended was followed by what came of it: where none runs, that may have been made, and have ended, meanwhile.
        while self.read_processes_once(maps) && self.table.running().next().is_none() {}
    }

    /// Whether there were new ones.
    fn read_processes_once(&mut self, maps: &mut impl KernelTables) -> bool {
        // Nothing happens to a record once it has ended.
        let running: Vec<u32> = self.table.running().collect();
        for index in running {
            if let Some(record) = maps.process(index) {
                self.table.read_again(index, record);
            }
        }
        self.unfilled.extend(maps.new_records());
        let mut new = Vec::new();
        self.unfilled.retain(|index| match maps.process(*index) {
            Some(record) if record.state != process_state::EMPTY => {
                new.push((*index, record));
                false
            }
            Some(_) => true,
            None => false,
        });
        // One that is made of another comes after it.
        new.sort_by_key(|(_, record)| record.started_ns);
        let is_any_new = !new.is_empty();
        for (index, record) in new {
            self.table.push(index, record);
            if is_fork(&record) {
                self.inherit_image(index, record.parent);
            }
        }
        is_any_new
    }

    /// Says when the tables are read next (`CLOCK_MONOTONIC`): before [`Self::read_sites`].
    pub fn reads_at(&mut self, now_ns: u64) {
        self.pasts.reads_at(now_ns);
    }

    /// Whether a process is in the midst of an exec, as far as can be told at `now_ns`: its old image's record has ended, and
    /// its new image's has not come yet.
    pub fn is_within_exec(&self, now_ns: u64) -> bool {
        self.table.is_within_exec(now_ns)
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

    /// Records of the process of `record`, whatever its image was, and of all that came from it.
    pub fn family(&self, record: u32) -> HashSet<u32> {
        self.table.family(record)
    }

    /// Says that the process of a record ran before it became a target, or was held: its life begins when its calls
    /// begin to count.
    pub fn was_found(&mut self, record: u32) {
        self.table.was_found(record);
    }

    /// Whether a process was there before it became a target.
    pub fn is_found(&self, process: ProcessId) -> bool {
        self.table.is_found(process)
    }

    /// Says that some of a record's probes were missing in this time.
    pub fn add_gap(&mut self, record: u32, gap: std::ops::Range<u64>) {
        self.table.add_gap(record, gap);
    }

    /// Says that the probes of a record's process, whatever its image, are away on purpose from now on.
    pub fn pause(&mut self, record: u32, now_ns: u64) {
        self.table.pause(record, now_ns);
    }

    /// Says that they are back.
    pub fn resumed(&mut self, record: u32, now_ns: u64) {
        self.table.resumed(record, now_ns);
    }

    /// Hits of all processes' probes, as last read.
    pub fn hits(&self) -> u64 {
        self.table.hits()
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

    /// Adds to the code of a record's image, in order of time. Before it takes the place of other code, what was called in that
    /// gets its name; stacks with code of which word comes later are not in it, and wait. Gives the path of another file, if
    /// stacks were taken in code of it that is replaced: some of those may have been taken in the new code, which came first.
    pub fn add_code(
        &mut self,
        maps: &mut impl KernelTables,
        record: u32,
        mapping: &Mapping,
        object: Option<Arc<Object>>,
    ) -> Option<String> {
        let code = self.code_mapping(mapping, object);
        let under = self.images.get(&record).and_then(|image| image.under(&code));
        let mut replaced = None;
        if let Some(before) = under {
            self.read_known(maps, record);
            let path = |module: ModuleId| &self.modules.table.items[module.index()].path;
            let is_other = code.module.is_none_or(|after| path(after) != path(before));
            replaced = (is_other && self.called.contains(&before)).then(|| path(before).clone());
        }
        self.images.entry(record).or_default().add(code);
        // The first file that an exec maps is the program: the last exec's, as a process's earlier images are over.
        if self.table.is_last_image(record)
            && let (Some(process), Some(path)) = (self.table.get_mut(record), mapping.file())
            && process.exe.is_empty()
        {
            process.exe = path.to_string_lossy().into_owned();
        }
        replaced
    }

    fn code_mapping(&mut self, mapping: &Mapping, object: Option<Arc<Object>>) -> CodeMapping {
        let module = module_path(mapping).map(|path| {
            let build_id = object.as_ref().and_then(|object| object.elf.build_id.clone());
            let id = self.modules.intern(Module { path: path.to_string_lossy().into_owned(), build_id });
            self.sources.resize(self.modules.table.items.len(), None);
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

    /// What is known of a record's code goes.
    pub(super) fn forget_image(&mut self, record: u32) {
        self.images.remove(&record);
        self.known.remove(&record);
    }

    /// The process of a record, to be told what userspace knows of it.
    pub fn process_mut(&mut self, record: u32) -> Option<&mut Process> {
        self.table.get_mut(record)
    }

    /// The record as last read.
    pub fn record(&self, record: u32) -> Option<&heaptrace_common::record::ProcessRecord> {
        self.table.record(record)
    }

    /// Records that run, with their PIDs.
    pub fn running(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.table.running().filter_map(|index| Some((index, self.table.record(index)?.tgid)))
    }

    /// What was added or changed since the last chunk.
    pub fn chunk(&mut self, duration_ns: u64, counted: Counted, coverage: Coverage) -> Chunk {
        let mut totals: HashMap<ProcessId, Totals> = HashMap::new();
        for site in self.kept.sites.iter() {
            totals.entry(site.process).or_default().add(&site.totals);
        }
        self.table.sum(&totals, counted);
        let (changing, over) = self.table.take_changing();
        let passed_ns = self.told.pass(counted.until_ns);
        let changing = changing.into_iter().filter_map(|id| Some((id, self.table.processes.get(&id)?)));
        let processes = self.told.processes(changing);
        let (sites, gone) = self.kept.sites.take_changed();
        for site in gone {
            self.kept.gone.events += self.weighing.events(&site);
            self.kept.gone.unclassed += unclassed(&site);
            self.table.keep_totals(site.process, &site.totals);
        }
        let (growth, gone) = self.kept.growth.take_changed();
        self.kept.gone.growth_calls += gone.iter().map(|site| site.totals.alloc_count).sum::<u64>();
        for process in over {
            self.told.forget(process);
            self.table.forget(process, self.generating.contains(&process));
        }
        Chunk {
            duration_ns,
            passed_ns,
            coverage,
            processes,
            modules: self.modules.table.take_new(),
            locations: self.locations.table.take_new(),
            symbols: Vec::new(),
            frames: self.frames.take_new(),
            stacks: self.stacks.table.take_new(),
            sites: sites.into_iter().map(|(number, site)| (SiteId(number), site)).collect(),
            growth: growth.into_iter().map(|(number, site)| (GrowthId(number), site)).collect(),
            cohorts: Vec::new(),
            threads: self.threads.table.take_new(),
            frees: None,
        }
    }

    /// The counters' part of the coverage. `blocks`: they are traced.
    pub fn coverage(&self, counters: &Counters, blocks: bool) -> Coverage {
        // Of the records: the processes have their sums only once a chunk is made.
        let shown = self.shown_records().filter_map(|(index, _)| self.record(index));
        Coverage {
            events: self.events(blocks),
            counts: Counts::new(|counter| counters.get(counter)),
            unknown_frees: self.table.retired_unknown_frees
                + shown.map(|record| record.unknown_frees).sum::<u64>(),
            ..Coverage::default()
        }
    }

    /// What symbols are found from.
    pub fn symbol_inputs(&self) -> SymbolInputs<'_> {
        SymbolInputs {
            locations: &self.locations.table.items,
            modules: &self.modules.table.items,
            processes: &self.table.processes,
            files: &self.sources,
        }
    }

    /// Live bytes and events of all processes, as last read. `blocks`: they are traced.
    pub fn glance(&self, blocks: bool) -> (u64, u64) {
        let live = self.table.running().filter_map(|index| self.record(index));
        (live.map(|record| record.live_bytes).sum(), self.events(blocks))
    }

    /// Live bytes of what ran when records were last read, as the kernel side has them now.
    pub fn live_now(&self, maps: &impl KernelTables) -> u64 {
        let records = self.table.running().filter_map(|index| maps.process(index));
        records.map(|record| record.live_bytes).sum()
    }

    /// Calls of allocators, or where blocks are not traced calls that mapped memory, and page faults.
    fn events(&self, blocks: bool) -> u64 {
        if !blocks {
            let of_sites = self.kept.growth.iter().map(|site| site.totals.alloc_count);
            return self.kept.gone.growth_calls + of_sites.sum::<u64>();
        }
        let of_sites = self.kept.sites.iter().map(|site| self.weighing.events(site));
        self.kept.gone.events + of_sites.sum::<u64>()
    }

    /// Of how much something is kept that grows with processes: records, processes, sites.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let sites = self.kept.sites.iter().count() + self.kept.ids.len() + self.images.len();
        self.table.records().count() + self.table.processes.len() + sites
    }

    /// Blocks in the live map, as last read: those of processes that ended are there until [`Self::sweep`].
    pub fn outstanding_blocks(&self) -> u64 {
        self.table.records().map(|(_, _, record)| record.live_count()).sum()
    }

    /// The process of a record, if it is shown.
    pub fn process_of(&self, record: u32) -> Option<ProcessId> {
        self.table.id(record)
    }

    /// Records that run and have code that no file has.
    pub fn generating(&self) -> impl Iterator<Item = u32> + '_ {
        let has_any = |record: &u32| {
            let image = self.images.get(record);
            image.is_some_and(|image| image.mappings().iter().any(|code| code.module.is_none()))
        };
        self.table.running().filter(has_any)
    }

    /// What a record's image has mapped that is named like a dump of generated code.
    pub fn jit_dump(&self, record: u32) -> Option<&str> {
        let modules = self.images.get(&record)?.mappings().iter().filter_map(|code| code.module);
        let mut paths = modules.map(|module| self.modules.table.items[module.index()].path.as_str());
        paths.find(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.starts_with("jit-") && name.ends_with(".dump")
        })
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
