//! Finding symbols away from the session: reading debug information can take seconds, while events go on.

use crate::{
    drain::SymbolInputs,
    model::{Location, Module, Process},
    process::object::Object,
    symbolize::{Found, Sources, open_perf_map, symbolize},
};
use std::sync::Arc;

/// Locations, and what their symbols are found from.
pub struct SymbolJob {
    locations: Vec<Location>,
    modules: Vec<Module>,
    processes: Vec<Process>,
    /// By `ModuleId`: the file that was mapped.
    files: Vec<Option<Arc<Object>>>,
    /// When the session began, in nanoseconds since the Unix epoch.
    started_ns: i64,
}

impl SymbolJob {
    pub(super) fn new(inputs: &SymbolInputs<'_>, locations: Vec<Location>, started_ns: i64) -> Self {
        Self {
            locations,
            modules: inputs.modules.to_vec(),
            processes: inputs.processes.to_vec(),
            files: inputs.files.to_vec(),
            started_ns,
        }
    }

    /// The symbols of each location, in order, and what is to be said of those that are missing.
    pub fn run(&self) -> Found {
        let Self { locations, modules, processes, files, started_ns } = self;
        let sources = Sources {
            mapped: &|id| Some(files.get(id.index())?.as_ref()?.file().clone()),
            unchanged_since_ns: *started_ns,
            perf_map: &|id| processes.get(id.index()).and_then(open_perf_map),
        };
        symbolize(locations, modules, processes, &sources)
    }
}
