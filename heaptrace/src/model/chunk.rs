//! What a recording is written and read as: a start, then additions to the tables, folded into a [`Profile`].
//! Every index is checked before anything is changed, so a profile never holds one that leads nowhere.

use super::{
    Coverage, Frame, FrameId, Host, Location, LocationId, Mode, Module, Process, ProcessId, Profile,
    Residency, Site, SiteId, Stack, Symbol,
    footprint::{Footprint, growth_footprint},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most frames a stack may have. Recorders stop at [`heaptrace_common::stack::MAX_FRAMES`]; the rest is
/// room for later ones, and a bound on what a damaged file can make a report print.
const MAX_STACK_FRAMES: usize = 1024;

/// The most symbols a location may have: one function and what was inlined into it.
const MAX_LOCATION_SYMBOLS: usize = 256;

/// Classes a size histogram can have: size 0, and one for each bit of a size.
const MAX_SIZE_CLASSES: usize = 65;

/// What is known when a recording begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the heaptrace that records.
    pub heaptrace: String,
    pub host: Host,
    /// Nanoseconds since the Unix epoch.
    pub started_ns: i64,
    pub mode: Mode,
}

/// What a recording adds at one moment. Tables only grow, so that indices stay good from chunk to chunk;
/// counters are whole, not differences, so that a lost last chunk costs only what happened since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Since the start.
    pub duration_ns: u64,
    pub coverage: Coverage,
    /// Every process so far; replaces the earlier ones.
    pub processes: Vec<Process>,
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
    /// Every place of growth so far; replaces the earlier ones.
    pub growth: Vec<Site>,
}

/// What was found of places' names, after all else was written: finding them may take long, or fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Set.
    pub symbols: Vec<(LocationId, Vec<Symbol>)>,
    /// Whose names are missing and why, one sentence each; added to the notes of [`Coverage`].
    pub notes: Vec<String>,
}

impl Footprint for Chunk {
    fn beside(&self) -> u64 {
        let Self {
            duration_ns: _,
            coverage,
            processes,
            modules,
            locations,
            symbols,
            frames,
            stacks,
            sites,
            growth,
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
            growth_footprint(growth),
        ];
        tables.into_iter().fold(0, u64::saturating_add)
    }
}

impl Footprint for Names {
    fn beside(&self) -> u64 {
        let Self { symbols, notes } = self;
        // Notes are counted twice, as those of `Coverage` are.
        symbols.beside() + 2 * notes.beside()
    }
}

/// A chunk that does not fit the profile it was to be folded into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    #[error("{from} {index} names {to} {target}, of {len}")]
    Reference { from: &'static str, index: usize, to: &'static str, target: usize, len: usize },
    #[error("{0} processes after {1}")]
    FewerProcesses(usize, usize),
    #[error("{what} {index} has {count} {of}, more than {max}")]
    TooMany { what: &'static str, index: usize, count: usize, of: &'static str, max: usize },
}

impl Profile {
    /// The profile of a recording that has only begun.
    pub fn new(start: Start) -> Self {
        let Start { heaptrace, host, started_ns, mode } = start;
        Self {
            heaptrace,
            host,
            started_ns,
            duration_ns: 0,
            mode,
            coverage: Coverage::default(),
            modules: Vec::new(),
            locations: Vec::new(),
            symbols: Vec::new(),
            frames: Vec::new(),
            stacks: Vec::new(),
            processes: Vec::new(),
            sites: Vec::new(),
            growth: Vec::new(),
            residency: BTreeMap::new(),
        }
    }

    /// What reports make of all there is, at least.
    pub(crate) fn reported(&self) -> u64 {
        self.always_replaced() + self.sites.len() as u64 * SiteId::REPORTED
    }

    /// What reports would make of that which `chunk` replaces, at least.
    pub(crate) fn reported_of_replaced(&self, chunk: &Chunk) -> u64 {
        // One that comes twice replaces one.
        let mut next = 0;
        let mut replaced = 0;
        for (id, _) in &chunk.sites {
            if id.index() >= next && id.index() < self.sites.len() {
                next = id.index() + 1;
                replaced += SiteId::REPORTED;
            }
        }
        self.always_replaced() + replaced
    }

    fn always_replaced(&self) -> u64 {
        self.processes.len() as u64 * Process::REPORTED + self.growth.len() as u64 * SiteId::REPORTED
    }

    /// Folds `chunk` in. Gives the memory that what it replaced had taken.
    ///
    /// # Errors
    /// [`BadChunk`] if an index leads nowhere or a list is longer than can be; the profile is then unchanged.
    pub fn fold(&mut self, chunk: Chunk) -> Result<u64, BadChunk> {
        self.check(&chunk)?;
        let mut freed = growth_footprint(&self.growth) + self.processes.beside() + self.coverage.beside();
        let Chunk {
            duration_ns,
            coverage,
            processes,
            modules,
            locations,
            symbols,
            frames,
            stacks,
            sites,
            growth,
        } = chunk;
        self.growth = growth;
        self.duration_ns = duration_ns;
        self.coverage = coverage;
        self.processes = processes;
        self.modules.extend(modules);
        self.locations.extend(locations);
        self.frames.extend(frames);
        self.stacks.extend(stacks);
        freed += self.set_symbols(symbols);
        for (id, site) in sites {
            match self.sites.get_mut(id.index()) {
                Some(slot) => {
                    freed += size_of::<(SiteId, Site)>() as u64 + SiteId::REPORTED + slot.beside();
                    *slot = site;
                }
                None => self.sites.push(site),
            }
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
        self.coverage.notes.extend(notes);
        Ok(freed)
    }

    fn set_symbols(&mut self, symbols: Vec<(LocationId, Vec<Symbol>)>) -> u64 {
        let mut freed = 0;
        if !symbols.is_empty() {
            self.symbols.resize_with(self.locations.len(), Vec::new);
        }
        for (location, list) in symbols {
            if let Some(slot) = self.symbols.get_mut(location.index()) {
                let known = if slot.is_empty() { 0 } else { size_of::<(LocationId, Vec<Symbol>)>() as u64 };
                freed += known + slot.beside();
                *slot = list;
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
            let footprint = |of: Residency| {
                size_of::<(ProcessId, Residency)>() as u64 + Residency::REPORTED + of.beside()
            };
            freed += earlier.map_or(0, footprint);
        }
        Ok(freed)
    }

    fn check(&self, chunk: &Chunk) -> Result<(), BadChunk> {
        let processes = chunk.processes.len();
        if processes < self.processes.len() {
            return Err(BadChunk::FewerProcesses(processes, self.processes.len()));
        }
        let modules = self.modules.len() + chunk.modules.len();
        let locations = self.locations.len() + chunk.locations.len();
        let frames = self.frames.len() + chunk.frames.len();
        let stacks = self.stacks.len() + chunk.stacks.len();

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
        let mut sites = self.sites.len();
        for (id, site) in &chunk.sites {
            // One past the end is the next new site.
            reference("site list", id.index(), "site", id.index(), sites + 1)?;
            sites = sites.max(id.index() + 1);
            check_site("site", id.index(), site, processes, stacks)?;
        }
        for (index, site) in chunk.growth.iter().enumerate() {
            check_site("growth", index, site, processes, stacks)?;
        }
        Ok(())
    }
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
    processes: usize,
    stacks: usize,
) -> Result<(), BadChunk> {
    let ProcessId(process) = site.process;
    reference(what, index, "process", process as usize, processes)?;
    reference(what, index, "stack", site.stack.index(), stacks)?;
    bounded(what, index, site.sizes.0.len(), "size classes", MAX_SIZE_CLASSES)
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
