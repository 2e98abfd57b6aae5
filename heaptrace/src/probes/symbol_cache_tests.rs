use super::*;
use crate::fixtures::test_elf::TestElf;
use crate::process::file_cache::HEADER;
use crate::process::object::Opened;
use proptest::prelude::*;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

const EMULATION: Emulation = Emulation { push: true, long_nops: false };

/// push rbx; pop rbx; ret
const MALLOC: &[u8] = &[0x53, 0x5b, 0xc3, 0x90];
/// test rdi, rdi; je +2; push rbx; pop rbx; ret
const FREE: &[u8] = &[0x48, 0x85, 0xff, 0x74, 0x02, 0x53, 0x5b, 0xc3];

struct Setup {
    folder: TempDir,
    cache: FileCache,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = FileCache::open(&folder.path().join("kept"), 1 << 20).expect("a cache");
        Self { folder, cache }
    }

    fn object(&self, name: &str, code: &'static [u8]) -> Object {
        let path = self.folder.path().join(name);
        fs::write(&path, elf(code).build()).expect("written");
        open(&path)
    }

    fn symbols(&self, object: &Object) -> FileSymbols {
        symbols_for(object, Some(&self.cache), EMULATION).expect("symbols")
    }

    fn kept(&self, object: &Object) -> Option<FileSymbols> {
        load(&self.cache, object, EMULATION)
    }

    fn file(&self, object: &Object) -> PathBuf {
        self.cache.path(&file_name(&FileIdentity::of(object).expect("an identity")))
    }
}

fn elf(malloc: &'static [u8]) -> TestElf<'static> {
    let exported = vec![("malloc", malloc), ("free", FREE)];
    TestElf { exported, build_id: Some(&[1; 20]), ..TestElf::default() }
}

fn open(path: &Path) -> Object {
    Object::read(Opened::at(path).expect("open")).expect("an object")
}

fn read(object: &Object) -> FileSymbols {
    symbols_for(object, None, EMULATION).expect("symbols")
}

#[test]
fn what_was_found_is_found_again_as_it_was() {
    let setup = Setup::new();
    let object = setup.object("lib.so", MALLOC);
    assert_eq!(setup.kept(&object), None);
    let found = setup.symbols(&object);
    assert_eq!(found, read(&object));
    assert_eq!(setup.kept(&object), Some(found));
}

#[test]
fn the_c_library_of_this_machine_is_found_again_and_sooner() {
    let setup = Setup::new();
    let maps = fs::read("/proc/self/maps").expect("maps");
    let mappings = crate::process::maps::parse(&maps);
    let mut files = mappings.iter().filter_map(|mapping| mapping.file());
    let object = open(files.find(|path| path.ends_with("libc.so.6")).expect("libc"));
    let timed = |read: &dyn Fn() -> FileSymbols| {
        let begun = Instant::now();
        (read(), begun.elapsed())
    };
    let (searched, first) = timed(&|| setup.symbols(&object));
    let (kept, again) = timed(&|| setup.kept(&object).expect("kept"));
    assert_eq!(kept, searched);
    assert!(again < first, "{again:?}, and {first:?} with a search");
    eprintln!("searched in {first:?}, taken from the disk in {again:?}");
}

#[test]
fn a_file_without_allocation_functions_or_build_id_is_not_kept() {
    let setup = Setup::new();
    let path = setup.folder.path().join("lib.so");
    for elf in [
        TestElf { exported: vec![("other", MALLOC)], build_id: Some(&[1; 20]), ..TestElf::default() },
        TestElf { build_id: None, ..elf(MALLOC) },
    ] {
        fs::write(&path, elf.build()).expect("written");
        setup.symbols(&open(&path));
        assert_eq!(fs::read_dir(setup.folder.path().join("kept")).expect("a folder").count(), 0);
    }
}

#[test]
fn the_same_build_id_with_other_code_gets_nothing_of_it() {
    let setup = Setup::new();
    let (object, other) = (setup.object("lib.so", MALLOC), setup.object("other.so", FREE));
    let (found, of_other) = (setup.symbols(&object), setup.symbols(&other));
    assert_eq!(object.elf.build_id, other.elf.build_id);
    assert_ne!(found.proof, of_other.proof);
    // Even under the name of the other's.
    fs::rename(setup.file(&other), setup.file(&object)).expect("renamed");
    assert_eq!(setup.kept(&object), None);
    assert_eq!(setup.symbols(&object), found);
}

#[test]
fn one_other_byte_anywhere_and_other_segments_are_another_file() {
    let setup = Setup::new();
    let object = setup.object("lib.so", MALLOC);
    let identity = || FileIdentity::of(&object).expect("an identity");
    let file = elf(MALLOC).build();
    let key = Key::of(identity(), &file, &object.elf, EMULATION);
    let bytes = encode(Key::of(identity(), &file, &object.elf, EMULATION), &read(&object)).expect("encoded");
    assert!(decode(&bytes, &key, &file, &object.elf).is_some());
    for at in 0..file.len() {
        let mut other = file.clone();
        other[at] ^= 1;
        let key = Key::of(identity(), &other, &object.elf, EMULATION);
        assert!(decode(&bytes, &key, &other, &object.elf).is_none(), "{at}");
    }
    let mut facts = object.elf.clone();
    facts.loads[0].offset += 4096;
    let key = Key::of(identity(), &file, &facts, EMULATION);
    assert!(decode(&bytes, &key, &file, &facts).is_none());
}

#[test]
fn a_kernel_that_does_otherwise_gets_its_own() {
    let setup = Setup::new();
    let object = setup.object("lib.so", MALLOC);
    setup.symbols(&object);
    let other = Emulation { push: false, long_nops: true };
    assert_eq!(load(&setup.cache, &object, other), None);
}

#[test]
fn a_file_that_was_written_to_with_its_old_time_gets_nothing_of_what_it_was() {
    let setup = Setup::new();
    let object = setup.object("lib.so", MALLOC);
    setup.symbols(&object);
    let modified = fs::metadata(&object.path).and_then(|metadata| metadata.modified()).expect("a time");
    fs::write(&object.path, elf(&[0x55, 0x5d, 0xc3, 0x90]).build()).expect("written");
    let file = File::options().write(true).open(&object.path).expect("open");
    file.set_modified(modified).expect("the old time");
    let again = open(&object.path);
    assert_eq!(again.stamp, object.stamp);
    assert_eq!(setup.kept(&again), None);
}

#[test]
fn what_lies_outside_of_the_files_code_is_not_believed() {
    let setup = Setup::new();
    let object = setup.object("lib.so", MALLOC);
    let file = elf(MALLOC).build();
    let key = || Key::of(FileIdentity::of(&object).expect("an identity"), &file, &object.elf, EMULATION);
    let whole = encode(key(), &read(&object)).expect("encoded");
    let spoil: [fn(&mut Cut); 8] = [
        |cut| cut.sites[0].address = 0,
        |cut| cut.sites[0].address += 1 << 20,
        |cut| cut.sites[0].condition = 17,
        |cut| cut.sites = vec![cut.sites[0].clone(); MAX_SITES + 1],
        |cut| cut.bytes.clear(),
        |cut| cut.bytes.push((u64::MAX, u64::MAX)),
        |cut| cut.own_code.push(0..u64::MAX),
        |cut| cut.passes_on.push(1),
    ];
    for (index, spoil) in spoil.into_iter().enumerate() {
        let mut entry: Entry = FORMAT.open(&whole).expect("whole");
        let Probing::Sites { cut, .. } = &mut entry.functions[0].probing else { panic!("no sites") };
        spoil(cut);
        let bytes = FORMAT.seal(&entry).expect("sealed");
        assert!(decode(&bytes, &key(), &file, &object.elf).is_none(), "{index}");
    }
    let mut entry: Entry = FORMAT.open(&whole).expect("whole");
    entry.functions[0].symbol = "no_allocation_function".to_owned();
    let bytes = FORMAT.seal(&entry).expect("sealed");
    assert!(decode(&bytes, &key(), &file, &object.elf).is_none());
}

#[test]
fn a_version_that_is_older_is_not_believed() {
    let setup = Setup::new();
    let object = setup.object("lib.so", MALLOC);
    setup.symbols(&object);
    let file = setup.file(&object);
    let mut bytes = fs::read(&file).expect("read");
    bytes[8] ^= 1;
    fs::write(&file, bytes).expect("written");
    assert_eq!(setup.kept(&object), None);
}

proptest! {
    /// With a right checksum.
    #[test]
    fn hostile_contents_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let setup = Setup::new();
        let object = setup.object("lib.so", MALLOC);
        let file = elf(MALLOC).build();
        let key = Key::of(FileIdentity::of(&object).expect("an identity"), &file, &object.elf, EMULATION);
        let of_same = Key::of(FileIdentity::of(&object).expect("an identity"), &file, &object.elf, EMULATION);
        let mut bytes = encode(of_same, &read(&object)).expect("encoded");
        for (at, byte) in damage {
            let at = HEADER + at.index(bytes.len() - HEADER);
            bytes[at] = byte;
        }
        let checksum = crc32fast::hash(&bytes[HEADER..]);
        bytes[HEADER - 4..HEADER].copy_from_slice(&checksum.to_le_bytes());
        if let Some(symbols) = decode(&bytes, &key, &file, &object.elf) {
            let mut sites = symbols.functions.iter().filter_map(|function| match &function.probing {
                Probing::Sites { cut, .. } => Some(&cut.sites),
                Probing::Refused(_) => None,
            });
            let is_code = |address| object.elf.code_offset(address).is_some();
            prop_assert!(sites.all(|sites| sites.iter().all(|site| is_code(site.address))));
        }
    }
}
