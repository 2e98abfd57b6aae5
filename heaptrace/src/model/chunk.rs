//! What a recording is written and read as: a start, then additions to the tables, folded into a [`Profile`].
//! Every index is checked before anything is changed, so a profile never holds one that leads nowhere.

use super::{
    COHORTS, Call, Cohorts, Coverage, Frame, FrameId, Frees, GrowthId, Host, Location, LocationId, Mode,
    Module, Notes, Process, ProcessId, Profile, Residency, Site, SiteId, Stack, Symbol, Thread,
    footprint::Footprint,
};
use heaptrace_common::{lifetimes::CLASSES as LIFETIME_CLASSES, sizes::SIZE_CLASSES};
use std::{collections::BTreeMap, mem};

/// The most frames a stack may have. Recorders stop at [`heaptrace_common::stack::MAX_FRAMES`]; the rest is
/// room for later ones, and a bound on what a damaged file can make a report print.
const MAX_STACK_FRAMES: usize = 1024;

/// The most symbols a location may have: one function and what was inlined into it.
const MAX_LOCATION_SYMBOLS: usize = 256;

/// What is known when a recording begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Version of the heaptrace that records.
    pub heaptrace: String,
    pub host: Host,
    /// Nanoseconds since the Unix epoch.
    pub started_ns: i64,
    pub mode: Mode,
    /// Sites are told apart by thread.
    pub by_thread: bool,
    /// How long blocks lived is counted.
    pub has_lifetimes: bool,
}

/// What a recording adds at one moment, and what changed. Tables only grow, so that indices stay good from chunk to chunk;
/// counters are whole, not differences, so that a lost last chunk costs only what happened since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Since the start.
    pub duration_ns: u64,
    /// What processes that run and are not among these lived on since the last chunk: [`Process::live_on`].
    pub passed_ns: u64,
    pub coverage: Coverage,
    /// Set where the process is known, appended where it is the next one.
    pub processes: Vec<(ProcessId, Process)>,
    /// Appended.
    pub modules: Vec<Module>,
    /// Appended.
    pub locations: Vec<Location>,
    /// Set.
    pub symbols: Vec<(LocationId, Vec<Symbol>)>,
    /// Appended.
    pub frames: Vec<Frame>,
    /// Appended.
    pub stacks: Vec<Stack>,
    /// Set where the site is known, appended where it is the next one.
    pub sites: Vec<(SiteId, Site)>,
    /// Set where the place of growth is known, appended where it is the next one.
    pub growth: Vec<(GrowthId, Site)>,
    /// All there are, in the last one.
    pub cohorts: Vec<(SiteId, Cohorts)>,
    /// Appended.
    pub threads: Vec<Thread>,
    /// In the last one.
    pub frees: Option<Box<Frees>>,
}

/// What was found of places' names, after all else was written: finding them may take long, or fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Set.
    pub symbols: Vec<(LocationId, Vec<Symbol>)>,
    /// Whose names are missing and why; added to the notes of [`Coverage`].
    pub notes: Notes,
}

impl Footprint for Chunk {
    fn beside(&self) -> u64 {
        let Self {
            duration_ns: _,
            passed_ns: _,
            coverage,
            processes,
            modules,
            locations,
            symbols,
            frames,
            stacks,
            sites,
            growth,
            cohorts,
            threads,
            frees,
        } = self;
        let tables = [
            coverage.beside(),
            processes.beside(),
            modules.beside(),
            locations.beside(),
            symbols.beside(),
            frames.beside(),
            stacks.beside(),
            sites.beside(),
            growth.beside(),
            cohorts.beside(),
            threads.beside(),
            frees.as_ref().map_or(0, |frees| frees.whole()),
        ];
        tables.into_iter().fold(0, u64::saturating_add)
    }
}

impl Footprint for Names {
    fn beside(&self) -> u64 {
        let Self { symbols, notes } = self;
        symbols.beside() + notes.beside()
    }
}

/// A chunk that does not fit the profile it was to be folded into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    #[error("{from} {index} names {to} {target}, of {len}")]
    Reference { from: &'static str, index: usize, to: &'static str, target: usize, len: usize },
    #[error("{what} list {index} names {what} {index}, of {len}")]
    Gap { what: &'static str, index: usize, len: usize },
    #[error("{what} {index} has {count} {of}, more than {max}")]
    TooMany { what: &'static str, index: usize, count: usize, of: &'static str, max: usize },
}

impl Profile {
    /// The profile of a recording that has only begun.
    pub fn new(start: Start) -> Self {
        let Start { heaptrace, host, started_ns, mode, by_thread, has_lifetimes } = start;
        Self {
            heaptrace,
            host,
            started_ns,
            duration_ns: 0,
            mode,
            by_thread,
            has_lifetimes,
            coverage: Coverage::default(),
            modules: Vec::new(),
            locations: Vec::new(),
            symbols: Vec::new(),
            frames: Vec::new(),
            stacks: Vec::new(),
            threads: Vec::new(),
            processes: Vec::new(),
            sites: Vec::new(),
            growth: Vec::new(),
            residency: BTreeMap::new(),
            cohorts: BTreeMap::new(),
            frees: None,
            history: None,
            part: None,
            is_reduced: false,
        }
    }

    /// What reports make of all there is, at least.
    pub(crate) fn reported(&self) -> u64 {
        let reported = |count: usize, of_each: u64| count as u64 * of_each;
        reported(self.processes.len(), Process::REPORTED)
            + reported(self.sites.len(), SiteId::REPORTED)
            + reported(self.growth.len(), GrowthId::REPORTED)
    }

    /// What reports would make of that which `chunk` replaces, at least.
    pub(crate) fn reported_of_replaced(&self, chunk: &Chunk) -> u64 {
        let Chunk { processes, sites, growth, .. } = chunk;
        let processes = processes.iter().map(|(id, _)| id.index());
        let sites = sites.iter().map(|(id, _)| id.index());
        let growth = growth.iter().map(|(id, _)| id.index());
        replaced(processes, self.processes.len()) * Process::REPORTED
            + replaced(sites, self.sites.len()) * SiteId::REPORTED
            + replaced(growth, self.growth.len()) * GrowthId::REPORTED
    }

    /// Folds `chunk` in. Gives the memory that what it replaced had taken.
    ///
    /// # Errors
    /// [`BadChunk`] if an index leads nowhere or a list is longer than can be; the profile is then unchanged.
    pub fn fold(&mut self, chunk: Chunk) -> Result<u64, BadChunk> {
        self.check(&chunk)?;
        let mut freed = self.coverage.beside();
        let Chunk {
            duration_ns,
            passed_ns,
            coverage,
            processes,
            modules,
            locations,
            symbols,
            frames,
            stacks,
            sites,
            growth,
            cohorts,
            threads,
            frees,
        } = chunk;
        self.duration_ns = duration_ns;
        self.coverage = coverage;
        self.processes.iter_mut().for_each(|process| process.live_on(passed_ns));
        freed += set(&mut self.processes, processes, ProcessId::index);
        self.modules.extend(modules);
        self.locations.extend(locations);
        self.frames.extend(frames);
        self.stacks.extend(stacks);
        self.threads.extend(threads);
        if let Some(new) = frees {
            freed += self.frees.replace(new).map_or(0, |earlier| earlier.whole());
        }
        freed += self.set_symbols(symbols);
        freed += set(&mut self.sites, sites, SiteId::index);
        freed += set(&mut self.growth, growth, GrowthId::index);
        for (site, cohorts) in cohorts {
            let earlier = self.cohorts.insert(site, cohorts);
            freed += earlier.map_or(0, |earlier| (site, earlier).whole());
        }
        Ok(freed)
    }

    /// Takes names of places that earlier chunks told of; each replaces an earlier one. Gives the memory that those had
    /// taken.
    ///
    /// # Errors
    /// [`BadChunk`] if one is of a place that is not there, or a list is longer than can be; the profile is then
    /// unchanged.
    pub fn name(&mut self, names: Names) -> Result<u64, BadChunk> {
        let Names { symbols, notes } = names;
        check_symbols(&symbols, self.locations.len())?;
        let freed = self.set_symbols(symbols);
        self.coverage.notes.merge(&notes);
        Ok(freed)
    }

    fn set_symbols(&mut self, symbols: Vec<(LocationId, Vec<Symbol>)>) -> u64 {
        let mut freed = 0;
        if !symbols.is_empty() {
            self.symbols.resize_with(self.locations.len(), Vec::new);
        }
        for (location, list) in symbols {
            if let Some(slot) = self.symbols.get_mut(location.index()) {
                let earlier = mem::replace(slot, list);
                if !earlier.is_empty() {
                    freed += (location, earlier).whole();
                }
            }
        }
        freed
    }

    /// Takes measurements of processes that earlier chunks told of; each replaces an earlier one. Gives the memory that
    /// those had taken.
    ///
    /// # Errors
    /// [`BadChunk`] if one is of a process that is not there; the profile is then unchanged.
    pub fn measure(&mut self, measured: Vec<(ProcessId, Residency)>) -> Result<u64, BadChunk> {
        for (index, (process, _)) in measured.iter().enumerate() {
            reference("measurement", index, "process", process.index(), self.processes.len())?;
        }
        let mut freed = 0;
        for (process, residency) in measured {
            let earlier = self.residency.insert(process, residency);
            freed += earlier.map_or(0, |earlier| (process, earlier).whole());
        }
        Ok(freed)
    }

    fn check(&self, chunk: &Chunk) -> Result<(), BadChunk> {
        let set = chunk.processes.iter().map(|(id, _)| id.index());
        let processes = check_set("process", set, self.processes.len())?;
        let modules = self.modules.len() + chunk.modules.len();
        let locations = self.locations.len() + chunk.locations.len();
        let frames = self.frames.len() + chunk.frames.len();
        let stacks = self.stacks.len() + chunk.stacks.len();
        let threads = self.threads.len() + chunk.threads.len();

        for (index, location) in (self.locations.len()..).zip(&chunk.locations) {
            match *location {
                Location::InModule { module, .. } => {
                    reference("location", index, "module", module.index(), modules)?;
                }
                Location::Anonymous { process, .. } | Location::Unmapped { process, .. } => {
                    reference("location", index, "process", process.index(), processes)?;
                }
            }
        }
        check_symbols(&chunk.symbols, locations)?;
        for (index, frame) in (self.frames.len()..).zip(&chunk.frames) {
            reference("frame", index, "location", frame.location.index(), locations)?;
        }
        for (index, stack) in (self.stacks.len()..).zip(&chunk.stacks) {
            bounded("stack", index, stack.frames.len(), "frames", MAX_STACK_FRAMES)?;
            for FrameId(frame) in &stack.frames {
                reference("stack", index, "frame", *frame as usize, frames)?;
            }
        }
        let sites = check_set("site", chunk.sites.iter().map(|(id, _)| id.index()), self.sites.len())?;
        for (index, (site, cohorts)) in chunk.cohorts.iter().enumerate() {
            reference("cohorts", index, "site", site.index(), sites)?;
            bounded("cohorts", index, cohorts.parts.len(), "parts", COHORTS)?;
        }
        for (id, site) in &chunk.sites {
            check_site("site", id.index(), site, (processes, stacks, threads))?;
        }
        if let Some(frees) = &chunk.frees {
            check_frees(frees, processes, stacks)?;
        }
        check_set("growth", chunk.growth.iter().map(|(id, _)| id.index()), self.growth.len())?;
        for (id, site) in &chunk.growth {
            check_site("growth", id.index(), site, (processes, stacks, threads))?;
        }
        Ok(())
    }
}

/// Sets what is known, and appends what is next; that none is past that was checked. Gives the memory that what was replaced
/// had taken.
fn set<Id: Footprint + Copy, T: Footprint>(
    table: &mut Vec<T>,
    new: Vec<(Id, T)>,
    index: fn(Id) -> usize,
) -> u64 {
    let mut freed = 0;
    for (id, new) in new {
        match table.get_mut(index(id)) {
            Some(slot) => freed += (id, mem::replace(slot, new)).whole(),
            None => table.push(new),
        }
    }
    freed
}

/// How many of a table of `known` are replaced. One that comes twice replaces one.
fn replaced(indices: impl Iterator<Item = usize>, known: usize) -> u64 {
    let mut next = 0;
    let mut replaced = 0;
    for index in indices {
        if index >= next && index < known {
            next = index + 1;
            replaced += 1;
        }
    }
    replaced
}

/// How many there are of a table with `known` when all `indices` are set: one past the end is the next new one.
fn check_set(
    what: &'static str,
    indices: impl Iterator<Item = usize>,
    mut known: usize,
) -> Result<usize, BadChunk> {
    for index in indices {
        if index > known {
            return Err(BadChunk::Gap { what, index, len: known + 1 });
        }
        known = known.max(index + 1);
    }
    Ok(known)
}

fn check_symbols(symbols: &[(LocationId, Vec<Symbol>)], locations: usize) -> Result<(), BadChunk> {
    for (location, list) in symbols {
        reference("symbol", location.index(), "location", location.index(), locations)?;
        bounded("location", location.index(), list.len(), "symbols", MAX_LOCATION_SYMBOLS)?;
    }
    Ok(())
}

fn check_site(
    what: &'static str,
    index: usize,
    site: &Site,
    (processes, stacks, threads): (usize, usize, usize),
) -> Result<(), BadChunk> {
    let ProcessId(process) = site.process;
    reference(what, index, "process", process as usize, processes)?;
    reference(what, index, "stack", site.stack.index(), stacks)?;
    if let Some(thread) = site.thread {
        reference(what, index, "thread", thread.index(), threads)?;
    }
    bounded(what, index, site.lifetimes.0.len(), "classes of lifetimes", LIFETIME_CLASSES)?;
    bounded(what, index, site.sizes.0.len(), "size classes", SIZE_CLASSES)
}

fn check_frees(frees: &Frees, processes: usize, stacks: usize) -> Result<(), BadChunk> {
    let Frees { bad, pairs, is_cut: _ } = frees;
    let call = |index, call: &Call| reference("free", index, "stack", call.stack.index(), stacks);
    for (index, of) in bad.iter().enumerate() {
        reference("free", index, "process", of.process.index(), processes)?;
        let calls = [Some(of.call), of.allocated, of.freed];
        calls.iter().flatten().try_for_each(|of| call(index, of))?;
    }
    for (index, of) in pairs.iter().enumerate() {
        reference("pair", index, "process", of.process.index(), processes)?;
        [of.allocated, of.freed].iter().try_for_each(|of| call(index, of))?;
    }
    Ok(())
}

fn reference(
    from: &'static str,
    index: usize,
    to: &'static str,
    target: usize,
    len: usize,
) -> Result<(), BadChunk> {
    if target < len { Ok(()) } else { Err(BadChunk::Reference { from, index, to, target, len }) }
}

fn bounded(
    what: &'static str,
    index: usize,
    count: usize,
    of: &'static str,
    max: usize,
) -> Result<(), BadChunk> {
    if count <= max { Ok(()) } else { Err(BadChunk::TooMany { what, index, count, of, max }) }
}
