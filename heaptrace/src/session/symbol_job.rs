//! Finding symbols away from the session: reading debug information can take seconds, while events go on.

use crate::{
    drain::SymbolInputs,
    model::{Location, Module, Process, Symbol},
    process::object::Object,
    symbolize::{Sources, locate_module, locate_perf_map, symbolize},
};
use std::sync::Arc;

/// Locations, and what their symbols are found from.
pub struct SymbolJob {
    locations: Vec<Location>,
    modules: Vec<Module>,
    processes: Vec<Process>,
    /// By `ModuleId`: the file that was mapped.
    files: Vec<Option<Arc<Object>>>,
}

impl SymbolJob {
    pub(super) fn new(inputs: &SymbolInputs<'_>, locations: Vec<Location>) -> Self {
        Self {
            locations,
            modules: inputs.modules.to_vec(),
            processes: inputs.processes.to_vec(),
            files: inputs.files.to_vec(),
        }
    }

    /// The symbols of each location, in order.
    pub fn run(&self) -> Vec<Vec<Symbol>> {
        let Self { locations, modules, processes, files } = self;
        let sources = Sources {
            // By its name where that still is the file: separate debug files are found beside it. Else the file
            // that was mapped, before others of its build.
            module: &|id| {
                let module = modules.get(id.index())?;
                let located = locate_module(module);
                let mapped = || files.get(id.index())?.as_ref().map(|object| object.attach_path());
                located.clone().filter(|path| *path == module.path).or_else(mapped).or(located)
            },
            perf_map: &|id| processes.get(id.index()).and_then(locate_perf_map),
        };
        symbolize(locations, modules, processes, &sources)
    }
}
