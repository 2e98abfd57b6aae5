//! Which processes are traced and which probes are placed where: placed, kept up with forks, execs, exits and first threads
//! that end, verified, and let go of. It owns what is in place, and decides; what is found and done is the world's
//! (`world.rs`).

mod attaching;
mod detaching;
mod following;
mod held;
mod leaderless;
mod leaving_out;
mod letting_go;
mod pausing;
mod placed;
mod placing;
mod removing;
mod shared;
mod unheard;
mod verification;
mod verified;
mod world;

#[cfg(test)]
mod own_samples_tests;
#[cfg(test)]
mod pausing_tests;
#[cfg(test)]
mod tests;

use crate::{
    bpf::{Links, ProbeSite},
    model::Untraceable,
    probes::{merged_sites::merged_sites, plan::FilePlan},
};
use detaching::Detaching;
use held::Leaderless;
use placed::PlacedProbes;
use shared::Shared;
use std::collections::{BTreeMap, HashMap, HashSet};
use verified::Verification;
pub(crate) use world::{Kernel, Processes, World};

/// How processes are traced.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Allocators are probed.
    pub probes: bool,
    /// What mappings change by calls that are not seen is told.
    pub watched: bool,
    /// Probes are placed for each process, not for all that map a file.
    pub per_process: bool,
    /// Nobody named the processes one by one.
    pub unnamed: bool,
    /// What others pay for probes for all is to be told.
    pub tell_of_others: bool,
}

/// See the module.
pub struct Attachments<L = Links> {
    how: How,
    /// By PID; a fork's child is given the same at once.
    probed: HashMap<u32, PlacedProbes<L>>,
    leaderless: Leaderless,
    /// For all processes.
    everywhere: PlacedProbes<L>,
    shared: Shared,
    /// Of processes that ended.
    idle_links: Vec<L>,
    /// By PID, and bounded: see [`Attachments::note_untraceable`].
    untraceable: BTreeMap<u32, Untraceable>,
    /// Records in which all was in place that their processes call, when last looked at.
    looked_at: HashSet<u32>,
    /// What the events at hand tell to look at, by PID: the record, and when the first of its news came.
    due: BTreeMap<u32, (u32, u64)>,
    /// PIDs that have probes and no record that runs, and when that was seen first.
    ended: HashMap<u32, u64>,
    verification: Verification<L>,
    detaching: Detaching,
    /// PIDs of targets whose probes are away for a while, and since when.
    paused: HashMap<u32, u64>,
    /// New targets begin so.
    pauses_new: bool,
    /// What it took to place probes in children, which is as long as forks wait, and each gets.
    placed_ns: u64,
    /// Nothing is placed any more.
    is_over: bool,
}

impl<L: Send + 'static> Attachments<L> {
    pub fn new(how: How) -> Self {
        Self {
            how,
            probed: HashMap::new(),
            leaderless: Leaderless::default(),
            everywhere: PlacedProbes::new(0),
            shared: Shared::new(how.tell_of_others),
            idle_links: Vec::new(),
            untraceable: BTreeMap::new(),
            looked_at: HashSet::new(),
            due: BTreeMap::new(),
            ended: HashMap::new(),
            verification: Verification::default(),
            detaching: Detaching::default(),
            paused: HashMap::new(),
            pauses_new: false,
            placed_ns: 0,
            is_over: false,
        }
    }

    /// What is probed in process `pid` or in all.
    pub fn plans_for(&self, pid: u32) -> impl Iterator<Item = &FilePlan> {
        let own = self.probed.get(&pid).into_iter().flat_map(PlacedProbes::plans);
        own.chain(self.everywhere.plans())
    }

    /// Files that are probed for all processes, whose calls others pay for, too.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What it took so far to place probes in forked children.
    pub fn placed_ns(&self) -> u64 {
        self.placed_ns
    }

    /// Why processes are not traced, as far as that is listed.
    pub fn untraceable(&self) -> impl ExactSizeIterator<Item = &Untraceable> {
        self.untraceable.values()
    }

    /// Nobody asks for a record any more.
    pub fn forget_record(&mut self, record: u32) {
        self.looked_at.remove(&record);
    }

    /// Places nothing from now on; gives the links of all probes, those of processes that run first. Of what was placed where is
    /// known as before. Then [`Attachments::wait`].
    pub fn end(&mut self) -> Vec<L> {
        self.is_over = true;
        self.detaching.hurry();
        self.leaderless.clear();
        let links = self.probed.values_mut().flat_map(PlacedProbes::take_links);
        let links = links.chain(self.everywhere.take_links());
        let links = links.chain(self.verification.end());
        links.chain(self.idle_links.drain(..)).collect()
    }

    /// Waits until what was let go of is gone.
    pub fn wait(&mut self) {
        self.detaching.wait();
    }
}

/// A plan's probes, as they are placed.
pub(super) fn probe_sites(plan: &FilePlan) -> Vec<ProbeSite> {
    let sites = plan.probes.iter().flat_map(|probe| &probe.sites).filter(|site| site.semaphore != 0);
    let semaphores: HashMap<u64, u64> = sites.map(|site| (site.offset, site.semaphore)).collect();
    let semaphore = |offset| semaphores.get(&offset).copied().unwrap_or(0);
    let merged = merged_sites(&plan.probes).into_iter();
    merged.map(|(offset, record)| ProbeSite { offset, record, semaphore: semaphore(offset) }).collect()
}
