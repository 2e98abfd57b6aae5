//! Finding symbols away from the session: reading debug information can take seconds, while events go on.

use super::perf_maps::{HeldMaps, PerfMaps};
use crate::{
    drain::SymbolInputs,
    model::{Location, Module, Process, ProcessId},
    process::{object::Object, procfs},
    symbolize::{Found, Sources, open_perf_map, symbolize},
};
use std::{collections::BTreeMap, sync::Arc};

/// Locations, and what their symbols are found from.
pub struct SymbolJob {
    locations: Vec<Location>,
    modules: Vec<Module>,
    /// Those that generate code among the locations'.
    processes: BTreeMap<ProcessId, Process>,
    /// Perf maps of these that are held since they ran.
    maps: HeldMaps,
    /// By `ModuleId`: the file that was mapped.
    files: Vec<Option<Arc<Object>>>,
    /// When the session began, in nanoseconds since the Unix epoch.
    started_ns: i64,
    /// When this was made, by `CLOCK_MONOTONIC`.
    made_ns: u64,
}

impl SymbolJob {
    pub(super) fn new(
        inputs: &SymbolInputs<'_>,
        locations: Vec<Location>,
        started_ns: i64,
        perf_maps: &PerfMaps,
    ) -> Self {
        let process = |location: &Location| match location {
            Location::Anonymous { process, .. } => Some((*process, inputs.processes.get(process)?.clone())),
            _ => None,
        };
        let processes: BTreeMap<ProcessId, Process> = locations.iter().filter_map(process).collect();
        Self {
            maps: perf_maps.of(processes.keys()),
            processes,
            locations,
            modules: inputs.modules.to_vec(),
            files: inputs.files.to_vec(),
            started_ns,
            made_ns: procfs::monotonic_ns(),
        }
    }

    /// The symbols of each location, in order, and what is to be said of those that are missing.
    pub fn run(&self) -> Found {
        let Self { locations, modules, processes, maps, files, started_ns, made_ns } = self;
        let sources = Sources {
            mapped: &|id| Some(files.get(id.index())?.as_ref()?.file().clone()),
            unchanged_since_ns: *started_ns,
            perf_map: &|id| maps.open(id).or_else(|| open_perf_map(processes.get(&id)?, *made_ns)),
        };
        symbolize(locations, modules, &|id| processes.get(&id), &sources)
    }
}
