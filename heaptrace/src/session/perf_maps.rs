//! Perf maps of processes that generate code, and dumps: opened while they run, and held. Once they have ended their PID, and what the map's
//! path leads to, may be another's, and a container's files are gone with it; what was opened has all that they wrote to their end.

use crate::{
    drain::ProfileBuilder,
    model::ProcessId,
    process::foreign,
    symbolize::{open_jit_dump, open_perf_map},
};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    os::fd::AsRawFd as _,
    path::Path,
    sync::Arc,
};

/// Maps that are held, each by a descriptor. Of others no more is known than their processes tell at the end.
const MOST: usize = 256;

/// How often a map is looked for once a process has code of its own: compilers write the first names of it soon, and a regular
/// expression's code has none.
const LOOKS: u32 = 50;

/// Processes that are looked at in one go.
const AT_ONCE: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct PerfMaps {
    held: HashMap<ProcessId, Arc<File>>,
    /// Records with code that no file has, and how often their maps were looked for.
    wanted: BTreeMap<u32, u32>,
    /// The last one that was.
    last: u32,
}

impl PerfMaps {
    /// A record's process has code that no file has.
    pub fn want(&mut self, record: u32) {
        if self.held.len() + self.wanted.len() < MOST {
            self.wanted.entry(record).or_default();
        }
    }

    /// Looks for some of the maps that are wanted. Cheap enough for ten times a second.
    pub fn look(&mut self, builder: &ProfileBuilder) {
        let behind = self.wanted.range(self.last.saturating_add(1)..).chain(self.wanted.range(..=self.last));
        let due: Vec<u32> = behind.map(|(record, _)| *record).take(AT_ONCE).collect();
        for record in due {
            self.last = record;
            self.look_for(builder, record);
        }
    }

    /// Looks for all that are wanted: processes are about to be waited for no longer.
    pub fn look_for_all(&mut self, builder: &ProfileBuilder) {
        let all: Vec<u32> = self.wanted.keys().copied().collect();
        all.into_iter().for_each(|record| self.look_for(builder, record));
    }

    fn look_for(&mut self, builder: &ProfileBuilder, record: u32) {
        let known = builder.process_of(record).zip(builder.record(record));
        let inputs = builder.symbol_inputs();
        let process = known.and_then(|(id, of)| Some((id, of, inputs.processes.get(&id)?)));
        let Some((id, of, process)) = process else {
            // It may be shown later.
            return self.count_look(record);
        };
        if self.held.contains_key(&id) || process.exited {
            self.wanted.remove(&record);
            return;
        }
        let dump = || open_jit_dump(process, Path::new(builder.jit_dump(record)?), of.started_ns);
        match open_perf_map(process, of.started_ns).or_else(dump) {
            Some(map) => {
                self.held.insert(id, Arc::new(map));
                self.wanted.remove(&record);
            }
            None => self.count_look(record),
        }
    }

    fn count_look(&mut self, record: u32) {
        if self.wanted.get_mut(&record).is_some_and(|looks| {
            *looks += 1;
            *looks >= LOOKS
        }) {
            self.wanted.remove(&record);
        }
    }

    /// Those that are held of some processes.
    pub fn of<'a>(&self, processes: impl Iterator<Item = &'a ProcessId>) -> HeldMaps {
        let held = processes.filter_map(|id| Some((*id, Arc::clone(self.held.get(id)?))));
        HeldMaps(held.collect())
    }
}

/// See [`PerfMaps::of`].
#[derive(Default)]
pub(super) struct HeldMaps(HashMap<ProcessId, Arc<File>>);

impl HeldMaps {
    /// A process's map, to be read from its beginning.
    pub fn open(&self, process: ProcessId) -> Option<File> {
        let held = self.0.get(&process)?;
        foreign::open(Path::new(&format!("/proc/self/fd/{}", held.as_raw_fd()))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Read as _};

    #[test]
    fn a_map_that_is_held_is_read_whole_each_time_though_it_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("map");
        fs::write(&path, "1000 10 f\n").expect("written");
        let map = Arc::new(File::open(&path).expect("opened"));
        fs::remove_file(&path).expect("removed");
        let id = ProcessId(3);
        let maps = PerfMaps { held: HashMap::from([(id, map)]), ..PerfMaps::default() };
        let held = maps.of([id, ProcessId(4)].iter());
        for _ in 0..2 {
            let mut text = String::new();
            held.open(id).expect("held").read_to_string(&mut text).expect("read");
            assert_eq!(text, "1000 10 f\n");
        }
        assert!(held.open(ProcessId(4)).is_none());
    }

    #[test]
    fn what_never_has_a_map_is_looked_for_no_longer() {
        let (builder, mut maps) = (ProfileBuilder::default(), PerfMaps::default());
        (0..20).for_each(|record| maps.want(record));
        for _ in 0..LOOKS * 3 {
            maps.look(&builder);
        }
        assert!(maps.wanted.is_empty(), "{:?}", maps.wanted);
        (0..1_000).for_each(|record| maps.want(record));
        assert_eq!(maps.wanted.len(), MOST);
    }
}
