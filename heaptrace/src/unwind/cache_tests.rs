use super::*;
use crate::fixtures::test_elf::TestElf;
use crate::process::file_cache::{HEADER, STALE, TEMPORARY};
use crate::process::object::Opened;
use crate::unwind::ehframe::RawRow;
use crate::unwind::locate::Code;
use heaptrace_common::unwind::{CfaKind, FpKind};
use proptest::prelude::*;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const ROOM: u64 = 1 << 20;

struct Setup {
    directory: TempDir,
    cache: Cache,
}

impl Setup {
    fn new(max_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("tables"), max_bytes).unwrap();
        Self { directory, cache }
    }

    fn object(&self, build_id: Option<&[u8]>) -> Object {
        let name = build_id.map_or(String::from("none"), |id| format!("{id:x?}"));
        let path = self.directory.path().join(name);
        fs::write(&path, TestElf { build_id, ..TestElf::default() }.build()).unwrap();
        Object::read(Opened::at(&path).unwrap()).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path().join("tables")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn only_file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

fn table(rows: u64) -> FileTable {
    let rule = |i: u64| Rule::new(CfaKind::Rsp, FpKind::Same, 0, 8 + i as i32 % 50, 0);
    let rows: Vec<RawRow> = (0..rows).map(|i| RawRow { address: 0x1000 + 16 * i, rule: rule(i) }).collect();
    let code = [Code { start: 0x1000, end: 0x1001 + 16 * rows.len() as u64, offset: 0 }];
    FileTable::from_rows(&rows, &code, TableStats { raw_rows: 7, ..TableStats::default() }).unwrap()
}

#[test]
fn what_was_saved_is_loaded_and_nobody_else_may_read_it() {
    let setup = Setup::new(ROOM);
    let object = setup.object(Some(&[1; 20]));
    assert_eq!(setup.cache.load(&object, RowKind::Calls), None);
    setup.cache.save(&object, RowKind::Calls, &table(1000)).unwrap();
    assert_eq!(setup.cache.load(&object, RowKind::Calls), Some(table(1000)));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&setup.only_file()), 0o600);
    assert_eq!(mode(&setup.directory.path().join("tables")), 0o700);
}

#[test]
fn a_file_without_a_build_id_is_not_kept() {
    let setup = Setup::new(ROOM);
    let object = setup.object(None);
    setup.cache.save(&object, RowKind::Calls, &table(10)).unwrap();
    assert_eq!(setup.files(), [""; 0].map(PathBuf::from));
    assert_eq!(setup.cache.load(&object, RowKind::Calls), None);
}

#[test]
fn another_file_with_the_same_build_id_gets_no_table_of_it() {
    let setup = Setup::new(ROOM);
    let victim = setup.object(Some(&[1; 20]));
    setup.cache.save(&victim, RowKind::Calls, &table(10)).unwrap();
    let path = setup.directory.path().join("copy");
    fs::copy(&victim.path, &path).unwrap();
    let copy = Object::read(Opened::at(&path).unwrap()).unwrap();
    assert_eq!(setup.cache.load(&copy, RowKind::Calls), None);
    // Even under the name of the other's.
    setup.cache.save(&copy, RowKind::Calls, &table(20)).unwrap();
    let name = |object| setup.cache.path(&Identity::of(object, RowKind::Calls).unwrap().file_name());
    fs::rename(name(&copy), name(&victim)).unwrap();
    assert_eq!(setup.cache.load(&victim, RowKind::Calls), None);
}

#[test]
fn a_file_that_changed_gets_no_table_of_what_it_was() {
    let setup = Setup::new(ROOM);
    let object = setup.object(Some(&[1; 20]));
    setup.cache.save(&object, RowKind::Calls, &table(10)).unwrap();
    // Written anew with the old time: the time of the last change of the inode tells.
    let bytes = fs::read(&object.path).unwrap();
    let modified = fs::metadata(&object.path).unwrap().modified().unwrap();
    fs::write(&object.path, bytes).unwrap();
    File::options().write(true).open(&object.path).unwrap().set_modified(modified).unwrap();
    let again = Object::read(Opened::at(&object.path).unwrap()).unwrap();
    assert_eq!(again.stamp, object.stamp);
    assert_eq!(setup.cache.load(&again, RowKind::Calls), None);
}

#[test]
fn truncated_and_replaced_files_are_no_tables() {
    let setup = Setup::new(ROOM);
    let object = setup.object(Some(&[1; 20]));
    setup.cache.save(&object, RowKind::Calls, &table(10)).unwrap();
    let file = setup.only_file();
    let whole = fs::read(&file).unwrap();
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        assert_eq!(setup.cache.load(&object, RowKind::Calls), None, "{length}");
    }
    fs::write(&file, [&whole[..], &[0]].concat()).unwrap();
    assert_eq!(setup.cache.load(&object, RowKind::Calls), None);
    fs::write(&file, &whole).unwrap();
    assert_eq!(setup.cache.load(&object, RowKind::Calls), Some(table(10)));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(setup.cache.load(&object, RowKind::Calls), None);
}

#[test]
fn links_are_not_followed() {
    let setup = Setup::new(ROOM);
    let object = setup.object(Some(&[1; 20]));
    setup.cache.save(&object, RowKind::Calls, &table(10)).unwrap();
    let file = setup.only_file();
    let elsewhere = setup.directory.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert_eq!(setup.cache.load(&object, RowKind::Calls), None);
    // Saving replaces the link, and leaves alone what it leads to.
    let before = fs::read(&elsewhere).unwrap();
    setup.cache.save(&object, RowKind::Calls, &table(20)).unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), before);
    assert_eq!(setup.cache.load(&object, RowKind::Calls), Some(table(20)));
    let link = setup.directory.path().join("link");
    symlink(setup.directory.path().join("tables"), &link).unwrap();
    assert!(Cache::open(&link, ROOM).is_err());
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let setup = Setup::new(ROOM);
    let directory = setup.directory.path().join("tables");
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Cache::open(&directory, ROOM).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
    // Root can make a directory someone else's; anyone else finds one that is root's.
    if !rustix::process::geteuid().is_root() {
        assert_eq!(Cache::open(Path::new("/usr"), ROOM).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    } else {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&directory, Some(65_534), None).unwrap();
        assert_eq!(Cache::open(&directory, ROOM).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn the_tables_not_used_for_longest_go_first() {
    let setup = Setup::new(ROOM);
    let objects: Vec<Object> = (0..4u8).map(|id| setup.object(Some(&[id; 20]))).collect();
    setup.cache.save(&objects[0], RowKind::Calls, &table(1000)).unwrap();
    let size = fs::metadata(setup.only_file()).unwrap().len();
    // Room for three, and a bit.
    let cache = Cache::open(&setup.directory.path().join("tables"), 3 * size + size / 2).unwrap();
    let age = |object: &Object, seconds| {
        let path = cache.path(&Identity::of(object, RowKind::Calls).unwrap().file_name());
        let then = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    };
    for (index, object) in objects.iter().enumerate().take(3) {
        cache.save(object, RowKind::Calls, &table(1000)).unwrap();
        age(object, 1000 - index as u64);
    }
    // The oldest, but now used.
    assert!(cache.load(&objects[0], RowKind::Calls).is_some());
    cache.save(&objects[3], RowKind::Calls, &table(1000)).unwrap();
    let there: Vec<bool> =
        objects.iter().map(|object| cache.load(object, RowKind::Calls).is_some()).collect();
    assert_eq!(there, [true, false, true, true]);
}

#[test]
fn leftovers_are_removed_once_they_are_old_and_foreign_files_never() {
    let setup = Setup::new(ROOM);
    let old = setup.cache.path(&format!("{TEMPORARY}1-2"));
    let new = setup.cache.path(&format!("{TEMPORARY}1-3"));
    let foreign = setup.cache.path("notes");
    for path in [&old, &new, &foreign] {
        fs::write(path, "x").unwrap();
    }
    for path in [&old, &foreign] {
        let then = SystemTime::now() - 2 * STALE;
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }
    setup.cache.save(&setup.object(Some(&[1; 20])), RowKind::Calls, &table(10)).unwrap();
    assert_eq!([old.exists(), new.exists(), foreign.exists()], [false, true, true]);
}

#[test]
fn a_well_made_file_with_parts_that_do_not_fit_is_no_table() {
    let setup = Setup::new(ROOM);
    let object = setup.object(Some(&[1; 20]));
    let identity = || Identity::of(&object, RowKind::Calls).unwrap();
    let whole = encode(identity(), Path::new("/a/file"), &table(10)).unwrap();
    let spoil: [fn(&mut Entry); 4] = [
        |entry| entry.pages[0].first_row = 1 << 30,
        |entry| entry.rules.clear(),
        |entry| entry.rows.truncate(3),
        |entry| entry.identity.file.changed.1 += 1,
    ];
    assert!(decode(&whole, &identity()).is_some());
    for (index, spoil) in spoil.into_iter().enumerate() {
        let mut entry: Entry = postcard::from_bytes(&whole[HEADER..]).unwrap();
        spoil(&mut entry);
        let body = postcard::to_stdvec(&entry).unwrap();
        let mut bytes = whole[..HEADER - 4].to_vec();
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        assert!(decode(&bytes, &identity()).is_none(), "{index}");
    }
}

proptest! {
    #[test]
    fn a_damaged_file_is_no_table(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let identity = || Identity {
            rows: RowKind::Calls,
            file: FileIdentity {
                build_id: vec![1; 20], dev: 1, inode: 2, size: 3, modified: (4, 5), changed: (6, 7),
            },
        };
        let mut bytes = encode(identity(), Path::new("/a/file"), &table(50)).unwrap();
        prop_assert_eq!(decode(&bytes, &identity()), Some(table(50)));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(decode(&bytes, &identity()), None);
    }

    /// With a right checksum: whatever comes out can be looked into at any address.
    #[test]
    fn a_hostile_file_is_no_table_or_a_sound_one(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        address in 0u64..0x4000,
    ) {
        let identity = || Identity {
            rows: RowKind::Calls,
            file: FileIdentity {
                build_id: vec![1; 20], dev: 1, inode: 2, size: 3, modified: (4, 5), changed: (6, 7),
            },
        };
        let mut bytes = encode(identity(), Path::new("/a/file"), &table(50)).unwrap();
        for (at, byte) in damage {
            let at = HEADER + at.index(bytes.len() - HEADER);
            bytes[at] = byte;
        }
        let checksum = crc32fast::hash(&bytes[HEADER..]);
        bytes[HEADER - 4..HEADER].copy_from_slice(&checksum.to_le_bytes());
        if let Some(table) = decode(&bytes, &identity()) {
            table.lookup(address);
        }
    }
}

#[test]
fn the_files_that_have_tables_are_found_again_the_last_used_first() {
    let setup = Setup::new(ROOM);
    let objects = [1, 2, 3].map(|id| setup.object(Some(&[id; 20])));
    for object in &objects {
        setup.cache.save(object, RowKind::Calls, &table(10)).unwrap();
    }
    setup.cache.save(&objects[0], RowKind::Exact, &table(10)).unwrap();
    let paths = |limit| setup.cache.paths(RowKind::Calls, limit);
    let all: std::collections::BTreeSet<PathBuf> = paths(9).into_iter().collect();
    assert_eq!(all, objects.iter().map(|object| object.path.clone()).collect());
    assert_eq!(setup.cache.paths(RowKind::Exact, 9), [objects[0].path.clone()]);
    let used = |object| {
        let path = setup.cache.path(&Identity::of(object, RowKind::Calls).unwrap().file_name());
        File::open(path).unwrap().set_modified(SystemTime::now() + Duration::from_secs(9)).unwrap();
    };
    used(&objects[1]);
    assert_eq!(paths(1), [objects[1].path.clone()]);
    fs::write(setup.directory.path().join("tables").join("odd.unwind"), "no table").unwrap();
    assert_eq!(paths(9).len(), 3);
}
