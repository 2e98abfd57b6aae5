use super::*;
use crate::fixtures::test_elf::{CODE_BIAS, TestElf};
use crate::model::BuildId;
use crate::process::elf::Kind;
use crate::process::maps;
use proptest::prelude::*;
use std::io::{BufRead as _, Write as _};
use std::process::{Child, Command, Stdio};

const RET: &[u8] = &[0xc3];

fn library() -> TestElf<'static> {
    TestElf {
        soname: Some("libx.so.1"),
        needed: vec!["libc.so.6", "liby.so"],
        build_id: Some(&[0xab, 0x12, 0xff, 0x00]),
        exported: vec![("malloc", RET), ("free", RET)],
        hidden: vec![("inner", RET)],
        ..TestElf::default()
    }
}

#[test]
fn a_library_says_what_it_is_and_needs() {
    let elf = library();
    let facts = ElfFacts::parse(elf.build().as_slice()).expect("an ELF file");
    assert_eq!(facts.kind, Kind::Library);
    assert_eq!(facts.soname.as_deref(), Some("libx.so.1"));
    assert_eq!(facts.needed, ["libc.so.6", "liby.so"]);
    assert_eq!(facts.build_id, Some(BuildId(vec![0xab, 0x12, 0xff, 0x00])));
    assert_eq!((facts.interpreter.as_deref(), facts.is_go), (None, false));
    // By the segments: address and offset differ.
    let offset = elf.offset_of(1);
    assert_eq!(facts.code_offset(offset + CODE_BIAS), Some((offset, 2)));
    assert_eq!(facts.code_offset(offset), None);
}

#[test]
fn static_and_dynamic_executables_are_told_apart() {
    let kind = |elf: TestElf<'_>| ElfFacts::parse(elf.build().as_slice()).expect("an ELF file").kind;
    let fixed = TestElf { fixed_address: true, ..TestElf::default() };
    assert_eq!(kind(fixed.clone()), Kind::StaticExecutable);
    let loaded = TestElf { interpreter: Some("/lib64/ld-linux-x86-64.so.2"), ..fixed };
    assert_eq!(kind(loaded.clone()), Kind::DynamicExecutable);
    let position_independent = TestElf { fixed_address: false, needed: vec!["libc.so.6"], ..loaded };
    assert_eq!(kind(position_independent), Kind::DynamicExecutable);
}

#[test]
fn more_program_headers_than_the_kernel_takes_are_none() {
    let mut elf = library().build();
    // e_phoff, e_phnum, elf(5).
    let end = elf.len().next_multiple_of(8);
    elf.resize(end + 2000 * 56, 0);
    elf[32..40].copy_from_slice(&(end as u64).to_le_bytes());
    elf[56..58].copy_from_slice(&2000_u16.to_le_bytes());
    assert_eq!(ElfFacts::parse(elf.as_slice()), Err(ElfError::TooManySegments(2000)));
}

#[test]
fn go_code_is_known_by_its_sections() {
    let facts = ElfFacts::parse(TestElf { go: true, ..library() }.build().as_slice()).expect("an ELF file");
    assert!(facts.is_go);
}

#[test]
fn files_for_other_machines_are_refused_by_name() {
    let parse = |elf: TestElf<'_>| ElfFacts::parse(elf.build().as_slice()).expect_err("refused");
    assert_eq!(parse(TestElf { class: Some(1), ..library() }), ElfError::ThirtyTwoBit);
    assert_eq!(parse(TestElf { machine: Some(183), ..library() }), ElfError::OtherMachine(183));
    assert_eq!(ElfFacts::parse(&b"#!/bin/sh\n"[..]), Err(ElfError::NotElf));
    assert_eq!(ElfFacts::parse(&b""[..]), Err(ElfError::NotElf));
}

#[test]
fn an_object_reads_the_file_it_was_opened_for_even_when_another_takes_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("libx.so");
    std::fs::write(&path, library().build()).expect("written");
    let object = Object::read(Opened::at(&path).expect("opened")).expect("an ELF file");
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "something else").expect("written");
    assert_eq!(std::fs::read(object.attach_path()).expect("readable"), library().build());
    assert_eq!(object.read_at(1, 3).expect("readable"), b"ELF");
    assert_eq!(object.file_name(), "libx.so");
    assert_ne!(object.id(), Opened::at(&path).expect("opened").stamp.id);
}

#[test]
fn a_fifo_is_refused_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    assert!(matches!(Opened::at(&path), Err(ObjectError::NotRegular { .. })));
}

/// Runs a copy of `cat` from `directory` until it answers.
fn running_copy(directory: &Path) -> (Child, PathBuf) {
    let copy = directory.join("a copy");
    std::fs::copy("/bin/cat", &copy).expect("copied");
    let mut child =
        Command::new(&copy).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawned");
    child.stdin.as_mut().expect("stdin").write_all(b"x\n").expect("written");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("an echo");
    (child, copy)
}

fn mapping_of(pid: u32, path: &Path) -> maps::Mapping {
    let mappings = procfs::read_maps(pid).expect("maps");
    mappings.into_iter().find(|m| m.permissions.execute && m.file() == Some(path)).expect("mapped")
}

/// As map_files answers those who may not use it.
fn not_permitted() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

#[test]
fn without_map_files_a_library_is_found_by_its_path_if_it_still_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("libx.so");
    std::fs::write(&path, library().build()).expect("written");
    let file = File::open(&path).expect("opened");
    // SAFETY: the file is written to by nobody from here on.
    let _mapped = unsafe { memmap2::MmapOptions::new().map_exec(&file) }.expect("mapped");
    let mapping = mapping_of(std::process::id(), &path);
    let by_path = |mapping: &maps::Mapping| Opened::by_path(std::process::id(), mapping, not_permitted());
    assert_eq!(by_path(&mapping).expect("found").stamp.id.inode, mapping.inode);
    // Another file by that name is not taken for it.
    std::fs::rename(&path, directory.path().join("moved")).expect("moved");
    std::fs::write(&path, library().build()).expect("written");
    let replaced = by_path(&mapping);
    assert!(matches!(replaced, Err(ObjectError::Replaced { .. })), "{replaced:?}");
    let deleted = by_path(&maps::Mapping { deleted: true, ..mapping });
    assert!(matches!(deleted, Err(ObjectError::Open { .. })), "{deleted:?}");
}

#[test]
fn without_map_files_the_executable_is_found_whatever_became_of_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut child, copy) = running_copy(directory.path());
    let mapping = mapping_of(child.id(), &copy);
    std::fs::remove_file(&copy).expect("removed");
    std::fs::copy("/bin/true", &copy).expect("copied");
    let deleted = maps::Mapping { deleted: true, ..mapping.clone() };
    let found = [mapping, deleted].map(|mapping| {
        let opened = Opened::by_path(child.id(), &mapping, not_permitted());
        opened.map(|opened| opened.stamp.id.inode == mapping.inode)
    });
    child.kill().expect("killed");
    child.wait().expect("waited");
    assert!(found.iter().all(|found| matches!(found, Ok(true))), "{found:?}");
}

#[test]
fn the_file_behind_a_mapping_is_found_after_its_deletion() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut child, copy) = running_copy(directory.path());
    let inode = copy.metadata().expect("metadata").ino();
    std::fs::remove_file(&copy).expect("removed");
    let mapping = mapping_of(child.id(), &copy);
    let opened = Opened::behind(child.id(), &mapping);
    child.kill().expect("killed");
    child.wait().expect("waited");
    assert!(mapping.deleted);
    match opened {
        Ok(opened) => assert_eq!(opened.stamp.id.inode, inode),
        // map_files is root's.
        Err(ObjectError::Open { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::PermissionDenied),
        Err(other) => panic!("{other}"),
    }
}

proptest! {
    #[test]
    fn a_damaged_file_gives_an_error_or_facts_and_never_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), cut in any::<prop::sample::Index>(),
    ) {
        let mut file = TestElf { interpreter: Some("/lib/ld.so"), go: true, ..library() }.build();
        for (index, byte) in changes {
            let at = index.index(file.len());
            file[at] = byte;
        }
        let _ = ElfFacts::parse(file.as_slice());
        file.truncate(cut.index(file.len()));
        let _ = ElfFacts::parse(file.as_slice());
        // Through a file as well: sizes beyond its end must not be believed.
        let cursor = ReadCache::new(io::Cursor::new(file));
        let _ = ElfFacts::parse(&cursor);
    }
}
