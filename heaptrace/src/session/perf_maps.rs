//! Perf maps of processes that generate code, and dumps: opened while they run, and held. Once they have ended their PID, and what the map's
//! path leads to, may be another's, and a container's files are gone with it; what was opened has all that they wrote to their end.
//!
//! A map is let go of when its process has ended and its names were found (`early_names.rs`), or if it was deleted and takes
//! too much of the disk.

use super::code_names::{CodeNames, MapState};
use crate::{
    drain::ProfileBuilder,
    model::{Note, ProcessId},
    process::{device::Device, foreign, patience, privileges::is_trusted},
    symbolize::{open_jit_dump, open_perf_map},
    units::{counted, human},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::Path,
    sync::Arc,
};

/// Maps that are held, each by a descriptor, and the part of them that is for one user's processes who is not trusted: a
/// quarter. Of others no more is known than their processes tell at the end.
const MOST: usize = 256;
const PARTS: usize = 4;

/// Bytes of maps that were deleted, which are on the disk for our sake only: of one, and of all.
const MOST_DELETED: u64 = 64 << 20;
const MOST_DELETED_IN_ALL: u64 = 256 << 20;

/// How often a map is looked for ten times a second once a process has code of its own, and later once a second: compilers write
/// the first names of it soon, and a regular expression's code has none.
const LOOKS: u32 = 50;

/// Processes that are looked at in one go, and once a second.
const AT_ONCE: usize = 8;
const A_SECOND: usize = 128;

/// See the module.
#[derive(Default)]
pub(super) struct PerfMaps {
    held: HashMap<ProcessId, Held>,
    /// Records with code that no file has, and how often their maps were looked for.
    wanted: BTreeMap<u32, u32>,
    /// The last one that was.
    last: u32,
    /// Records whose maps found no room, and of how many they stayed so to their end.
    crowded: BTreeSet<u32>,
    never_held: u64,
    names: Arc<CodeNames>,
}

#[derive(Clone)]
struct Held {
    map: Arc<File>,
    /// Whose file it is.
    owner: u32,
    /// Of how many looks in a row the process did not run.
    ended: u32,
}

impl PerfMaps {
    /// A record's process has code that no file has.
    pub fn want(&mut self, record: u32) {
        self.wanted.entry(record).or_default();
    }

    /// Looks for some of the maps that are wanted. Cheap enough for ten times a second.
    pub fn look(&mut self, builder: &ProfileBuilder) {
        self.look_for_some(builder, AT_ONCE, |looks| looks < LOOKS);
    }

    /// Looks for many that are wanted, if not all: for once a second, and before processes are waited for no longer.
    pub fn look_for_many(&mut self, builder: &ProfileBuilder) {
        let running: BTreeSet<u32> = builder.running().map(|(record, _)| record).collect();
        self.wanted.retain(|record, _| running.contains(record));
        let before = self.crowded.len();
        self.crowded.retain(|record| running.contains(record));
        self.never_held += (before - self.crowded.len()) as u64;
        self.look_for_some(builder, A_SECOND, |_| true);
    }

    fn look_for_some(&mut self, builder: &ProfileBuilder, most: usize, is_due: impl Fn(u32) -> bool) {
        let behind = self.wanted.range(self.last.saturating_add(1)..).chain(self.wanted.range(..=self.last));
        let due: Vec<u32> =
            behind.filter(|(_, looks)| is_due(**looks)).map(|(record, _)| *record).take(most).collect();
        for record in due {
            self.last = record;
            self.look_for(builder, record);
        }
    }

    fn look_for(&mut self, builder: &ProfileBuilder, record: u32) {
        if let Some(looks) = self.wanted.get_mut(&record) {
            *looks = looks.saturating_add(1);
        }
        let known = builder.process_of(record).zip(builder.record(record));
        let inputs = builder.symbol_inputs();
        let process = known.and_then(|(id, of)| Some((id, of, inputs.processes.get(&id)?)));
        // Else it may be shown later.
        let Some((id, of, process)) = process else { return };
        if self.held.contains_key(&id) || process.exited {
            self.wanted.remove(&record);
            return;
        }
        let dump = || open_jit_dump(process, Path::new(builder.jit_dump(record)?), of.started_ns);
        let Some(map) = open_perf_map(process, of.started_ns).or_else(dump) else { return };
        let Some(owner) = MapState::of(&map).map(|state| state.owner) else { return };
        if self.has_room(owner) {
            self.held.insert(id, Held { map: Arc::new(map), ended: 0, owner });
            self.crowded.remove(&record);
            self.wanted.remove(&record);
        } else {
            self.crowded.insert(record);
        }
    }

    fn has_room(&self, owner: u32) -> bool {
        let of_owner = || self.held.values().filter(|held| held.owner == owner).count();
        self.held.len() < MOST && (is_trusted(owner) || of_owner() < MOST / PARTS)
    }

    /// Lets go of maps that take too much of the disk, and says so. For once a second.
    pub fn let_go_of_deleted(&mut self, builder: &ProfileBuilder) -> Vec<Note> {
        let mut deleted: Vec<(u64, ProcessId)> = self
            .held
            .iter()
            .filter_map(|(id, held)| Some((MapState::of(&held.map)?.deleted, *id)))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        deleted.sort_unstable();
        let mut all: u64 = deleted.iter().map(|(bytes, _)| bytes).sum();
        let mut notes = Vec::new();
        while let Some((bytes, id)) =
            deleted.pop().filter(|(bytes, _)| *bytes > MOST_DELETED || all > MOST_DELETED_IN_ALL)
        {
            all -= bytes;
            self.let_go(id);
            if let Some(process) = builder.symbol_inputs().processes.get(&id) {
                let what = format!(
                    "generated code of {}:{}: not all names, as its map was deleted and had {}, which only heaptrace kept on \
                     the disk",
                    process.comm,
                    process.pid,
                    human(bytes)
                );
                notes.push(Note::NamesMissing { what });
            }
        }
        notes
    }

    /// Processes that have ended, and whose maps are held. For once a second, when all places were read that stacks had in them.
    pub fn ended(&mut self, builder: &ProfileBuilder) -> BTreeSet<ProcessId> {
        let running: HashSet<ProcessId> =
            builder.running().filter_map(|(record, _)| builder.process_of(record)).collect();
        for (id, held) in &mut self.held {
            held.ended = if running.contains(id) { 0 } else { held.ended.saturating_add(1) };
        }
        // It may be between two programs.
        self.held.iter().filter(|(_, held)| held.ended > 1).map(|(id, _)| *id).collect()
    }

    /// A map is not needed any more.
    pub fn let_go(&mut self, id: ProcessId) {
        self.held.remove(&id);
    }

    /// What could not be held.
    pub fn note(&self) -> Option<Note> {
        let count = self.never_held + self.crowded.len() as u64;
        let what = || {
            let maps = counted(count, "perf map was", "perf maps were");
            format!(
                "{maps} not held, as {MOST} are at most, of one user's processes {}: code that those processes generated has \
                 no names where they have ended",
                MOST / PARTS
            )
        };
        (count > 0).then(|| Note::NamesMissing { what: what() })
    }

    /// Those that are held of some processes.
    pub fn of<'a>(&self, processes: impl Iterator<Item = &'a ProcessId>) -> HeldMaps {
        let held = processes.filter_map(|id| Some((*id, self.held.get(id)?.clone()))).collect();
        HeldMaps { held, names: Arc::clone(&self.names) }
    }
}

/// See [`PerfMaps::of`].
#[derive(Default)]
pub(super) struct HeldMaps {
    held: HashMap<ProcessId, Held>,
    /// What was found in maps before.
    pub names: Arc<CodeNames>,
}

impl HeldMaps {
    /// A process's map, to be read from its beginning.
    pub fn open(&self, process: ProcessId) -> Option<io::Result<File>> {
        let map = Arc::clone(&self.held.get(&process)?.map);
        let device = Device::of(&*map);
        let open = move || foreign::open(Path::new(&format!("/proc/self/fd/{}", map.as_raw_fd())));
        Some(patience::look_at_files(device, open).flatten())
    }

    /// How a process's map is now.
    pub fn state(&self, process: ProcessId) -> Option<MapState> {
        MapState::of(&self.held.get(&process)?.map)
    }

    /// Those of which there are any.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> {
        self.held.keys().copied()
    }
}

#[cfg(test)]
#[path = "perf_maps_tests.rs"]
mod tests;
