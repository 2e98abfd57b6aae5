//! Names of generated code that were found while tracing: what is asked for again is not read again, and those of a process
//! that has ended outlast its map.

use crate::{
    model::{ProcessId, Symbol},
    process::privileges::is_trusted,
};
use rustix::fs::{AtFlags, StatxFlags, statx};
use std::{collections::HashMap, fs::File, sync::Mutex};

/// Bytes of all names that are kept, and how many parts of them one user's processes may have who is not trusted: a quarter.
const MOST_BYTES: usize = 64 << 20;
const PARTS: usize = 4;

/// What an address takes beside its names.
const BYTES_EACH: usize = 128;

/// A map's state: unchanged, it is not read again. And what it takes on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapState {
    pub size: u64,
    /// Seconds and nanoseconds since the Unix epoch.
    pub modified: (i64, u32),
    /// Whose it is.
    pub owner: u32,
    /// Bytes that are on the disk although nobody can get at them but by what has it open; 0 where it has a name.
    pub deleted: u64,
}

impl MapState {
    /// `None` if the kernel does not say.
    pub fn of(map: &File) -> Option<Self> {
        // As it is known here: a file system that does not answer is not asked (`fuse_update_get_attr`, fs/fuse/dir.c).
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let of = statx(map, c"", how, StatxFlags::BASIC_STATS).ok()?;
        let deleted = if of.stx_nlink == 0 { of.stx_blocks.saturating_mul(512) } else { 0 };
        Some(Self {
            size: of.stx_size,
            modified: (of.stx_mtime.tv_sec, of.stx_mtime.tv_nsec),
            owner: of.stx_uid,
            deleted,
        })
    }

    /// Whether a map says what it said then.
    fn says_the_same(&self, then: &Self) -> bool {
        (self.size, self.modified) == (then.size, then.modified)
    }
}

/// See the module. An address without a name is kept, too.
#[derive(Debug, Default)]
pub(super) struct CodeNames(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    of: HashMap<ProcessId, OfProcess>,
    bytes: usize,
}

#[derive(Debug)]
struct OfProcess {
    /// Of the map as it was read.
    state: MapState,
    /// The map is not held any more.
    is_last: bool,
    names: HashMap<u64, Vec<Symbol>>,
    bytes: usize,
}

impl CodeNames {
    /// The names at an address, if they were found in the map as it is `now`, or in one that is not held any more.
    pub fn get(&self, process: ProcessId, now: Option<MapState>, address: u64) -> Option<Vec<Symbol>> {
        let kept = self.lock();
        let of = kept.of.get(&process)?;
        let is_good = now.is_none_or(|now| now.says_the_same(&of.state));
        is_good.then(|| of.names.get(&address).cloned()).flatten()
    }

    /// Keeps what was found in a process's map, which was in this state before it was read. `is_last`: it will not be read
    /// again. Gives for how many addresses there was no room.
    pub fn put(
        &self,
        process: ProcessId,
        state: MapState,
        is_last: bool,
        found: impl IntoIterator<Item = (u64, Vec<Symbol>)>,
    ) -> usize {
        let mut kept = self.lock();
        let kept = &mut *kept;
        if kept.of.get(&process).is_some_and(|of| !of.state.says_the_same(&state)) {
            kept.forget(process);
        }
        if is_last {
            kept.make_room(process);
        }
        let of_owner: usize =
            kept.of.values().filter(|of| of.state.owner == state.owner).map(|of| of.bytes).sum();
        let most = if is_trusted(state.owner) { MOST_BYTES } else { MOST_BYTES / PARTS };
        let room = most.saturating_sub(of_owner);
        let mut room = room.min(MOST_BYTES.saturating_sub(kept.bytes));
        let of = kept.of.entry(process).or_insert_with(|| OfProcess {
            state,
            is_last,
            names: HashMap::new(),
            bytes: 0,
        });
        of.is_last |= is_last;
        let mut refused = 0;
        for (address, symbols) in found {
            let bytes = BYTES_EACH + symbols.iter().map(bytes_of).sum::<usize>();
            if bytes > room {
                refused += 1;
            } else if of.names.insert(address, symbols).is_none() {
                room -= bytes;
                of.bytes += bytes;
                kept.bytes += bytes;
            }
        }
        refused
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Kept {
    /// What can be read again gives way to what cannot, if there is little room.
    fn make_room(&mut self, but: ProcessId) {
        if self.bytes <= MOST_BYTES / 2 {
            return;
        }
        let again: Vec<ProcessId> =
            self.of.iter().filter(|(id, of)| !of.is_last && **id != but).map(|(id, _)| *id).collect();
        again.into_iter().for_each(|id| self.forget(id));
    }

    fn forget(&mut self, process: ProcessId) {
        self.bytes -= self.of.remove(&process).map_or(0, |of| of.bytes);
    }
}

fn bytes_of(symbol: &Symbol) -> usize {
    size_of::<Symbol>() + symbol.name.len() + symbol.file.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const STRANGER: u32 = u32::MAX - 1;

    fn symbol(name: &str) -> Vec<Symbol> {
        vec![Symbol { name: name.to_owned(), file: None, line: None, inlined: false }]
    }

    fn state(size: u64) -> MapState {
        MapState { size, modified: (1, 2), owner: 0, deleted: 0 }
    }

    #[test]
    fn what_was_found_is_good_as_long_as_its_map_is_as_it_was_or_gone() {
        let (names, id) = (CodeNames::default(), ProcessId(3));
        assert_eq!(names.put(id, state(10), false, [(0x1000, symbol("f")), (0x2000, Vec::new())]), 0);
        assert_eq!(names.get(id, Some(state(10)), 0x1000), Some(symbol("f")));
        assert_eq!(
            names.get(id, Some(state(10)), 0x2000),
            Some(Vec::new()),
            "there is none, and that is known"
        );
        assert_eq!(names.get(id, Some(state(10)), 0x3000), None);
        // Another place on the disk says nothing of what is in it.
        assert_eq!(names.get(id, Some(MapState { deleted: 7, ..state(10) }), 0x1000), Some(symbol("f")));
        assert_eq!(names.get(id, Some(state(11)), 0x1000), None);
        assert_eq!(names.get(id, None, 0x1000), Some(symbol("f")));
        names.put(id, state(11), false, [(0x1000, symbol("g"))]);
        assert_eq!(names.get(id, Some(state(11)), 0x1000), Some(symbol("g")));
        assert_eq!(names.get(id, None, 0x2000), None, "of the map as it was before");
    }

    #[test]
    fn one_users_names_leave_room_for_others_and_what_is_refused_is_counted() {
        let names = CodeNames::default();
        let long = "x".repeat(1 << 20);
        let many = |first: u64| (first..first + 40).map(|at| (at, symbol(&long)));
        let refused = names.put(ProcessId(1), MapState { owner: STRANGER, ..state(1) }, true, many(0));
        assert!((20..40).contains(&refused), "{refused}");
        assert_eq!(names.put(ProcessId(2), MapState { owner: STRANGER, ..state(1) }, true, many(0)), 40);
        assert_eq!(names.put(ProcessId(3), state(1), true, many(0)), 0);
    }

    #[test]
    fn what_can_be_read_again_gives_way() {
        let names = CodeNames::default();
        let long = "x".repeat(1 << 20);
        let many = || (0..50).map(|at| (at, symbol(&long)));
        assert_eq!(names.put(ProcessId(1), state(1), false, many()), 0);
        assert_eq!(names.put(ProcessId(2), state(1), true, many()), 0);
        assert_eq!(names.get(ProcessId(1), Some(state(1)), 0), None);
        assert_eq!(names.put(ProcessId(3), state(1), true, many()), 37);
        assert!(names.get(ProcessId(2), None, 0).is_some(), "it cannot be found again");
    }

    #[test]
    fn a_maps_state_says_what_it_takes_though_it_is_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("map");
        fs::write(&path, "1000 10 f\n").expect("written");
        let map = File::open(&path).expect("opened");
        let before = MapState::of(&map).expect("a state");
        assert_eq!((before.size, before.deleted), (10, 0));
        fs::remove_file(&path).expect("removed");
        let after = MapState::of(&map).expect("a state");
        assert!(after.says_the_same(&before) && after.deleted > 0, "{after:?}");
    }
}
