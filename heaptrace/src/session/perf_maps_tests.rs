use super::*;
use std::{fs, io::Read as _, os::unix::fs::FileExt as _};

const STRANGER: u32 = u32::MAX - 1;

fn held(map: File, owner: u32) -> Held {
    Held { map: Arc::new(map), owner, ended: 0 }
}

/// A map that was deleted, with so many bytes on the disk.
fn deleted(bytes: u64) -> File {
    let map = tempfile::tempfile().expect("a file");
    let block = vec![1; 1 << 20];
    (0..bytes >> 20).for_each(|at| map.write_all_at(&block, at << 20).expect("written"));
    map
}

#[test]
fn a_map_that_is_held_is_read_whole_each_time_though_it_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("map");
    fs::write(&path, "1000 10 f\n").expect("written");
    let map = File::open(&path).expect("opened");
    fs::remove_file(&path).expect("removed");
    let id = ProcessId(3);
    let mut maps = PerfMaps { held: HashMap::from([(id, held(map, 0))]), ..PerfMaps::default() };
    // It is small.
    assert!(maps.let_go_of_deleted(&ProfileBuilder::default()).is_empty());
    let held = maps.of([id, ProcessId(4)].iter());
    for _ in 0..2 {
        let mut text = String::new();
        held.open(id).expect("held").expect("opened").read_to_string(&mut text).expect("read");
        assert_eq!(text, "1000 10 f\n");
    }
    assert!(held.open(ProcessId(4)).is_none());
}

#[test]
fn maps_that_are_on_the_disk_for_our_sake_only_are_let_go_of_the_largest_first() {
    let mut maps = PerfMaps::default();
    for (id, mib) in [(0, 1), (1, 65), (2, 60), (3, 60), (4, 60), (5, 60), (6, 40)] {
        maps.held.insert(ProcessId(id), held(deleted(mib << 20), STRANGER));
    }
    maps.let_go_of_deleted(&ProfileBuilder::default());
    let mut left: Vec<u32> = maps.held.keys().map(|id| id.0).collect();
    left.sort_unstable();
    assert!(left.starts_with(&[0]) && left.ends_with(&[6]) && left.len() == 5, "{left:?}");
    let bytes = |held: &Held| MapState::of(&held.map).expect("a state").deleted;
    assert!(maps.held.values().map(bytes).sum::<u64>() <= MOST_DELETED_IN_ALL);
}

#[test]
fn one_users_maps_leave_room_for_others() {
    let mut maps = PerfMaps::default();
    let fill = |maps: &mut PerfMaps, from: u32, owner: u32| {
        let mut added = 0;
        while maps.has_room(owner) {
            let map = File::open("/dev/null").expect("opened");
            maps.held.insert(ProcessId(from + added), held(map, owner));
            added += 1;
        }
        added as usize
    };
    assert_eq!(fill(&mut maps, 0, STRANGER), MOST / PARTS);
    assert_eq!(fill(&mut maps, 1000, 0), MOST - MOST / PARTS);
    assert!(!maps.has_room(STRANGER - 1));
}

#[test]
fn what_found_no_room_until_its_end_is_said_once() {
    let mut maps = PerfMaps::default();
    assert_eq!(maps.note(), None);
    maps.crowded.extend([1, 2, 3]);
    // None of them runs.
    maps.look_for_many(&ProfileBuilder::default());
    maps.crowded.insert(4);
    let Some(Note::NamesMissing { what }) = maps.note() else { panic!("a note") };
    assert!(
        what.starts_with("4 perf maps were not held, as 256 are at most, of one user's processes 64"),
        "{what}"
    );
}

#[test]
fn processes_that_have_ended_are_told_once_that_is_certain() {
    let id = ProcessId(3);
    let map = File::open("/dev/null").expect("opened");
    let mut maps = PerfMaps { held: HashMap::from([(id, held(map, 0))]), ..PerfMaps::default() };
    let builder = ProfileBuilder::default();
    assert!(maps.ended(&builder).is_empty(), "it may be between two programs");
    assert_eq!(maps.ended(&builder), BTreeSet::from([id]));
    maps.let_go(id);
    assert!(maps.ended(&builder).is_empty());
}

#[test]
fn what_has_ended_is_looked_for_no_longer() {
    let (builder, mut maps) = (ProfileBuilder::default(), PerfMaps::default());
    (0..1000).for_each(|record| maps.want(record));
    maps.look(&builder);
    assert_eq!(maps.wanted.values().sum::<u32>() as usize, AT_ONCE);
    maps.look_for_many(&builder);
    assert!(maps.wanted.is_empty());
}
