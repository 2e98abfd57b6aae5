//! What is probed: in one process, or wherever a file is mapped.

use crate::{
    probes::{plan::FilePlan, probe::Probe},
    process::object::FileId,
};
use std::collections::HashMap;

/// Probes that are in place.
pub struct PlacedProbes<L> {
    /// When the first of them were placed.
    since_ns: u64,
    /// By what lies below them: the kernel has one breakpoint for all names of a file.
    files: HashMap<FileId, (FilePlan, Vec<L>)>,
}

impl<L> PlacedProbes<L> {
    /// None so far, at `now_ns`.
    pub fn new(now_ns: u64) -> Self {
        Self { since_ns: now_ns, files: HashMap::new() }
    }

    /// Whether any are of before `time_ns`.
    pub fn are_before(&self, time_ns: u64) -> bool {
        self.since_ns < time_ns
    }

    pub fn has(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }

    /// The part of `plan` that is not in place. Which functions of a file are called depends on the process: beside a
    /// preloaded allocator only those of the C library that it lacks.
    pub fn missing(&self, plan: &FilePlan) -> Option<FilePlan> {
        let Some((placed, _)) = self.files.get(&plan.file.below.id) else { return Some(plan.clone()) };
        let is_placed = |probe: &&Probe| placed.probes.iter().any(|known| known.entry == probe.entry);
        let probes: Vec<Probe> = plan.probes.iter().filter(|probe| !is_placed(probe)).cloned().collect();
        (!probes.is_empty()).then(|| FilePlan { probes, ..plan.clone() })
    }

    /// `plan`, of which nothing was in place before.
    pub fn add(&mut self, plan: FilePlan, links: L) {
        let id = plan.file.below.id;
        match self.files.get_mut(&id) {
            Some((placed, all)) => {
                placed.probes.extend(plan.probes);
                placed.probes.sort_by_key(|probe| probe.entry);
                placed.code.extend(plan.code);
                placed.code.sort_by_key(|range| range.start);
                all.push(links);
            }
            None => _ = self.files.insert(id, (plan, vec![links])),
        }
    }

    pub fn plans(&self) -> impl Iterator<Item = &FilePlan> {
        self.files.values().map(|(plan, _)| plan)
    }

    /// Forgets the probes of a file.
    pub fn remove(&mut self, file: FileId) -> Vec<L> {
        self.files.remove(&file).map(|(_, links)| links).unwrap_or_default()
    }

    /// What holds them.
    pub fn take_links(&mut self) -> Vec<L> {
        self.files.values_mut().flat_map(|(_, links)| std::mem::take(links)).collect()
    }
}
