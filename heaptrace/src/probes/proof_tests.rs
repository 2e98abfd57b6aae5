use super::*;
use crate::fixtures::test_elf::TestElf;
use crate::probes::candidate::Candidate;
use crate::probes::cut::Emulation;
use crate::probes::plan::{FilePlan, Wanted, plan};
use crate::probes::symbols::FileSymbols;
use crate::process::object::Opened;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const EMULATION: Emulation = Emulation { push: true, long_nops: false };

/// push rbx; pop rbx; ret
const MALLOC: &[u8] = &[0x53, 0x5b, 0xc3, 0x90];
/// test rdi, rdi; je +2; push rbx; pop rbx; ret
const FREE: &[u8] = &[0x48, 0x85, 0xff, 0x74, 0x02, 0x53, 0x5b, 0xc3];

struct Setup {
    _folder: TempDir,
    path: PathBuf,
    plan: FilePlan,
    elf: TestElf<'static>,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lib.so");
        let elf = TestElf {
            exported: vec![("malloc", MALLOC), ("free", FREE)],
            build_id: Some(&[1; 20]),
            ..TestElf::default()
        };
        fs::write(&path, elf.build()).expect("written");
        let plan = planned(&path);
        Self { _folder: folder, path, plan, elf }
    }

    /// Writes a byte in place, and puts the old time back.
    fn write(&self, byte: u8, offset: u64) {
        let file = File::options().write(true).open(&self.path).expect("open");
        let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        file.write_all_at(&[byte], offset).expect("written");
        file.set_modified(modified).expect("the old time");
    }

    fn first_change(&self) -> Option<u64> {
        self.plan.proof.first_change(&self.plan.file)
    }
}

fn planned(path: &Path) -> FilePlan {
    let object = Object::read(Opened::at(path).expect("open")).expect("an object");
    let bytes = fs::read(path).expect("read");
    let symbols = FileSymbols::read_for(bytes.as_slice(), &object.elf, EMULATION).expect("symbols");
    let candidate = Candidate {
        object: Arc::new(object),
        symbols: Arc::new(symbols),
        own: Arc::default(),
        repeated: false,
    };
    plan(&[candidate], Wanted::default()).files.remove(0)
}

#[test]
fn a_file_that_is_as_it_was_has_no_change() {
    let setup = Setup::new();
    assert!(!setup.plan.proof.parts.is_empty());
    assert_eq!(setup.first_change(), None);
}

#[test]
fn code_that_was_written_to_in_place_is_found_though_build_id_and_times_are_the_same() {
    let setup = Setup::new();
    let malloc = setup.elf.offset_of(0);
    setup.write(0x55, malloc);
    let again = Object::read(Opened::at(&setup.path).expect("open")).expect("an object");
    assert_eq!((again.stamp, &again.elf.build_id), (setup.plan.file.stamp, &setup.plan.file.elf.build_id));
    assert!(setup.first_change().is_some_and(|offset| offset <= malloc));
    setup.write(MALLOC[0], malloc);
    assert_eq!(setup.first_change(), None);
    setup.write(0x90, setup.elf.offset_of(1) + FREE.len() as u64 - 1);
    assert!(setup.first_change().is_some());
}

#[test]
fn what_is_no_code_of_the_sites_may_change() {
    let setup = Setup::new();
    // The padding of the ELF header's identification.
    setup.write(1, 15);
    assert_eq!(setup.first_change(), None);
}

#[test]
fn a_file_that_was_cut_short_has_changed() {
    let setup = Setup::new();
    File::options().write(true).open(&setup.path).and_then(|file| file.set_len(100)).expect("cut short");
    assert!(setup.first_change().is_some());
}

#[test]
fn another_file_of_the_same_build_id_has_changed() {
    let setup = Setup::new();
    let other = setup.path.with_extension("other");
    let other_code = TestElf { exported: vec![("malloc", FREE), ("free", FREE)], ..setup.elf.clone() };
    fs::write(&other, other_code.build()).expect("written");
    let object = Object::read(Opened::at(&other).expect("open")).expect("an object");
    assert_eq!(object.elf.build_id, setup.plan.file.elf.build_id);
    assert!(setup.plan.proof.first_change(&object).is_some());
}

#[test]
fn long_code_is_looked_at_in_parts_up_to_its_end() {
    let file: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let lengths = |proof: Proof| proof.parts.iter().map(|part| part.length).collect::<Vec<_>>();
    let most = MOST as usize;
    let ranges = [1000..180_000, 10..20, 199_999..200_001];
    assert_eq!(lengths(Proof::of(&file, &ranges)), [most, most, 179_000 - 2 * most, 10, 1]);
}

#[test]
fn code_that_is_said_to_be_longer_than_its_file_ends_with_it() {
    let proof = Proof::of(&[0x90; 100], &[10..1 << 60, 1 << 40..u64::MAX]);
    assert_eq!(proof.parts.iter().map(|part| (part.offset, part.length)).collect::<Vec<_>>(), [(10, 90)]);
}
