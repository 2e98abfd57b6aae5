//! Finding symbols away from the session: reading debug information can take seconds, while events go on.

use super::{
    code_names::MapState,
    perf_maps::{HeldMaps, PerfMaps},
};
use crate::{
    drain::SymbolInputs,
    model::{Location, Module, Process, ProcessId, Symbol},
    process::{object::Object, procfs},
    symbolize::{Found, Sources, open_perf_map, symbolize},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Addresses that nobody asked for yet are looked up with those that somebody did, as their map is read anyway; no more.
const MOST_OTHERS: usize = 16 << 10;

/// Locations, and what their symbols are found from.
pub struct SymbolJob {
    locations: Vec<Location>,
    modules: Vec<Module>,
    /// Those that generate code among the locations'.
    processes: BTreeMap<ProcessId, Process>,
    /// Perf maps of these that are held since they ran.
    maps: HeldMaps,
    /// Where else stacks were in what these maps name.
    others: Vec<(ProcessId, u64)>,
    /// Their maps are not read again.
    is_last: bool,
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
        let maps = perf_maps.of(processes.keys());
        let held: BTreeSet<ProcessId> = maps.processes().collect();
        let others = generated(inputs, &held).filter_map(|location| match location {
            Location::Anonymous { process, address } => Some((*process, *address)),
            _ => None,
        });
        Self {
            others: others.take(MOST_OTHERS).collect(),
            maps,
            processes,
            locations,
            is_last: false,
            modules: inputs.modules.to_vec(),
            files: inputs.files.to_vec(),
            started_ns,
            made_ns: procfs::monotonic_ns(),
        }
    }

    /// All that is to be named of processes that have ended: what is found is kept, and their maps are not needed again.
    pub(super) fn of_ended(
        inputs: &SymbolInputs<'_>,
        ended: &BTreeSet<ProcessId>,
        started_ns: i64,
        perf_maps: &PerfMaps,
    ) -> Self {
        let locations = generated(inputs, ended).cloned().collect();
        let job = Self::new(inputs, locations, started_ns, perf_maps);
        // What is only in generated code needs no module.
        Self { is_last: true, others: Vec::new(), modules: Vec::new(), files: Vec::new(), ..job }
    }

    /// The symbols of each location, in order, and what is to be said of those that are missing.
    pub fn run(&self) -> Found {
        let Self { modules, processes, maps, files, started_ns, made_ns, .. } = self;
        // Before anything is read: what is written meanwhile is read the next time.
        let states: BTreeMap<ProcessId, MapState> =
            maps.processes().filter_map(|id| Some((id, maps.state(id)?))).collect();
        let known = |process, address| maps.names.get(process, states.get(&process).copied(), address);
        let mut symbols: Vec<Option<Vec<Symbol>>> = vec![None; self.locations.len()];
        let (mut asked, mut places) = (Vec::new(), Vec::new());
        let mut read = BTreeSet::new();
        for (index, location) in self.locations.iter().enumerate() {
            if let Location::Anonymous { process, address } = location {
                symbols[index] = known(*process, *address);
                if symbols[index].is_none() && states.contains_key(process) {
                    read.insert(*process);
                }
            }
            if symbols[index].is_none() {
                asked.push(index);
                places.push(location.clone());
            }
        }
        let others = self
            .others
            .iter()
            .filter(|(process, address)| read.contains(process) && known(*process, *address).is_none());
        places.extend(
            others.map(|(process, address)| Location::Anonymous { process: *process, address: *address }),
        );
        let sources = Sources {
            mapped: &|id| Some(files.get(id.index())?.as_ref()?.file().clone()),
            unchanged_since_ns: *started_ns,
            perf_map: &|id| match maps.open(id) {
                Some(map) => map.ok(),
                None => open_perf_map(processes.get(&id)?, *made_ns),
            },
        };
        let mut found = symbolize(&places, modules, &|id| processes.get(&id), &sources);
        let refused = self.keep(&read, &states, &places, &found.symbols);
        if refused > 0 && self.is_last {
            found
                .notes
                .push(format!("{refused} places in generated code: no names, as there are too many to keep"));
        }
        for (index, names) in asked.into_iter().zip(found.symbols) {
            symbols[index] = Some(names);
        }
        found.symbols = symbols.into_iter().map(Option::unwrap_or_default).collect();
        found
    }

    /// Keeps what was found in maps that were `read`; gives of how many addresses there was no room for that.
    fn keep(
        &self,
        read: &BTreeSet<ProcessId>,
        states: &BTreeMap<ProcessId, MapState>,
        places: &[Location],
        found: &[Vec<Symbol>],
    ) -> usize {
        let mut by_process: BTreeMap<ProcessId, Vec<(u64, Vec<Symbol>)>> = BTreeMap::new();
        for (place, symbols) in places.iter().zip(found) {
            if let Location::Anonymous { process, address } = place
                && read.contains(process)
            {
                by_process.entry(*process).or_default().push((*address, symbols.clone()));
            }
        }
        let kept = by_process.into_iter().filter_map(|(process, names)| {
            Some(self.maps.names.put(process, *states.get(&process)?, self.is_last, names))
        });
        kept.sum()
    }
}

/// Places in code that these processes generated.
fn generated<'a>(inputs: &SymbolInputs<'a>, of: &BTreeSet<ProcessId>) -> impl Iterator<Item = &'a Location> {
    let locations = if of.is_empty() { &[] } else { inputs.locations };
    locations.iter().filter(|location| match location {
        Location::Anonymous { process, .. } => of.contains(process),
        _ => false,
    })
}
