//! Files made to hang, fill or crash what reads them, or to have it read what is not theirs: they cost their own names.

use super::tests::{compiled, found, module, on_disk, return_offset, run};
use super::*;
use object::{Object as _, ObjectSection as _};
use std::{
    fs,
    os::fd::AsRawFd as _,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::PathBuf,
};
use tempfile::TempDir;

/// Little time and memory, so that the tests are quick.
fn tight() -> Bounds {
    Bounds { file: Duration::from_secs(20), memory: 96 << 20, ..Bounds::default() }
}

fn names(symbols: &[Symbol]) -> Vec<&str> {
    symbols.iter().map(|symbol| symbol.name.as_str()).collect()
}

/// What is found at the same offset of each file, which all are still open.
fn of_all(bounds: Bounds, paths: &[&Path], offset: u64) -> Found {
    let number = |id: usize| ModuleId(u32::try_from(id).expect("few"));
    let locations: Vec<Location> =
        (0..paths.len()).map(|id| Location::InModule { module: number(id), offset }).collect();
    let modules: Vec<Module> = paths.iter().map(|path| module(path, None)).collect();
    let files: Vec<Arc<File>> = paths.iter().map(|path| Arc::new(File::open(path).expect("open"))).collect();
    let sources =
        Sources { mapped: &|id| files.get(id.index()).cloned(), unchanged_since_ns: 0, perf_map: &|_| None };
    symbolize_within(bounds, &locations, &modules, &|_| None, &sources)
}

fn long_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().expect("8 bytes"))
}

/// The program as an object file with 60,000 section headers that all say that they are one table of relocations, of
/// 1 MB. `of_one`: all are of the same section, so that they take time; else of different ones, and they take memory.
fn many_tables(dir: &Path, of_one: bool) -> PathBuf {
    const TABLES: u16 = 60_000;
    const HEADER: usize = 64;
    const ENTRY: u64 = 24;
    let mut data = fs::read(dir.join("prog")).expect("program");
    let headers = long_at(&data, 40) as usize;
    let count = u16::from_le_bytes([data[60], data[61]]);
    let mut headers = data[headers..headers + usize::from(count) * HEADER].to_vec();
    let is_symtab = |header: &[u8]| header[4..8] == 2_u32.to_le_bytes();
    let symtab = headers.chunks(HEADER).position(is_symtab).expect("SHT_SYMTAB");
    // r_offset is different in each.
    let table: Vec<u8> =
        (0..(1 << 20) / ENTRY).flat_map(|n| [n, 1, 0].map(u64::to_le_bytes)).flatten().collect();
    let mut header = headers[symtab * HEADER..(symtab + 1) * HEADER].to_vec();
    header[4..8].copy_from_slice(&4_u32.to_le_bytes()); // sh_type: SHT_RELA
    header[24..32].copy_from_slice(&(data.len() as u64).to_le_bytes());
    header[32..40].copy_from_slice(&(table.len() as u64).to_le_bytes());
    header[40..44].copy_from_slice(&(symtab as u32).to_le_bytes());
    header[56..64].copy_from_slice(&ENTRY.to_le_bytes());
    for target in 0..u32::from(TABLES - count) {
        let target = if of_one { 1 } else { target };
        header[44..48].copy_from_slice(&target.to_le_bytes());
        headers.extend(&header);
    }
    data.extend(table);
    let at = data.len() as u64;
    data[16..18].copy_from_slice(&1_u16.to_le_bytes()); // ET_REL
    data[40..48].copy_from_slice(&at.to_le_bytes());
    data[60..62].copy_from_slice(&TABLES.to_le_bytes());
    data.extend(headers);
    assert!(data.len() < 6 << 20);
    let path = dir.join("tables");
    fs::write(&path, data).expect("write");
    path
}

fn without_lines(path: &Path) -> String {
    let path = path.display();
    format!("{path}: names without lines and inlined functions, as the debug information could not be read")
}

#[test]
fn a_file_that_takes_all_memory_costs_its_own_lines_only() {
    let dir = compiled(&["-g"]);
    let good = dir.path().join("prog");
    let bad = many_tables(dir.path(), false);
    let found = of_all(tight(), &[&bad, &good], return_offset(&good));
    assert_eq!(names(&found.symbols[0]), ["outer"]);
    assert_eq!(names(&found.symbols[1]), ["inner", "outer"]);
    assert_eq!(found.notes, [without_lines(&bad)]);
}

#[test]
fn a_file_that_takes_too_long_costs_its_own_lines_only() {
    let dir = compiled(&["-g"]);
    let good = dir.path().join("prog");
    let bad = many_tables(dir.path(), true);
    let bounds = Bounds { file: Duration::from_secs(2), ..Bounds::default() };
    let found = of_all(bounds, &[&bad, &good], return_offset(&good));
    assert_eq!(names(&found.symbols[0]), ["outer"]);
    assert_eq!(names(&found.symbols[1]), ["inner", "outer"]);
    assert_eq!(found.notes, [without_lines(&bad)]);
}

#[test]
fn files_of_one_owner_take_no_more_than_their_share() {
    let dir = compiled(&["-g"]);
    let good = dir.path().join("prog");
    let bad = many_tables(dir.path(), true);
    let bounds = Bounds { trusted: Duration::from_secs(2), ..Bounds::default() };
    let found = of_all(bounds, &[&bad, &good], return_offset(&good));
    assert_eq!(found.symbols, [[], []]);
    let expected = [
        format!("{}: no names, as reading them took too long", bad.display()),
        format!("{}: no names, as files of the same owner had taken too long before", good.display()),
    ];
    assert_eq!(found.notes, expected);
}

#[test]
fn a_file_put_in_place_of_roots_does_not_take_roots_share() {
    // Only root gives files away.
    if rustix::process::geteuid().as_raw() != 0 {
        return;
    }
    let dir = compiled(&[]);
    let (program, theirs) = (dir.path().join("prog"), dir.path().join("theirs"));
    let offset = return_offset(&program);
    let id = object::File::parse(&*fs::read(&program).expect("program"))
        .expect("ELF")
        .build_id()
        .expect("notes")
        .map(|id| BuildId(id.to_vec()));
    fs::copy(&program, &theirs).expect("copy");
    std::os::unix::fs::chown(&theirs, Some(64_902), None).expect("chown");
    let locations = [Location::InModule { module: ModuleId(0), offset }];
    for id in [id, None] {
        let find = |swap: bool| {
            let path = dir.path().join("lib");
            let _ = fs::remove_file(&path);
            fs::copy(&program, &path).expect("copy");
            let asked = std::cell::Cell::new(0);
            // First for its owner, then to look into it.
            let mapped = |_| {
                asked.set(asked.get() + 1);
                if swap && asked.get() == 2 {
                    fs::rename(&theirs, &path).expect("rename");
                }
                None
            };
            let sources = Sources { mapped: &mapped, unchanged_since_ns: i64::MAX, perf_map: &|_| None };
            symbolize_within(tight(), &locations, &[module(&path, id.clone())], &|_| None, &sources)
        };
        assert_eq!(names(&find(false).symbols[0]), ["outer"], "{id:?}");
        assert_eq!(find(true).symbols, [[]], "{id:?}");
        fs::rename(dir.path().join("lib"), &theirs).expect("rename");
    }
}

#[test]
fn a_compressed_section_of_any_claimed_size_costs_lines_only() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    run("objcopy", &["--compress-debug-sections=zlib", "prog"], dir.path());
    let mut data = fs::read(&path).expect("program");
    let at = {
        let file = object::File::parse(&*data).expect("ELF");
        let range = file.section_by_name(".debug_info").and_then(|section| section.file_range());
        range.expect(".debug_info").0 as usize
    };
    assert_eq!(data[at..at + 4], 1_u32.to_le_bytes(), "ELFCOMPRESS_ZLIB");
    data[at + 8..at + 16].copy_from_slice(&(1_u64 << 50).to_le_bytes());
    fs::write(&path, data).expect("damaged");
    let found = found(tight(), &path, offset);
    assert_eq!(names(&found.symbols[0]), ["outer"]);
    assert!(found.notes[0].contains("names without lines"), "{:?}", found.notes);
}

#[test]
fn a_section_that_expands_without_end_costs_lines_only() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    File::create(dir.path().join("zeros")).and_then(|file| file.set_len(160 << 20)).expect("zeros");
    run("objcopy", &["--update-section", ".debug_str=zeros", "prog"], dir.path());
    run("objcopy", &["--compress-debug-sections=zlib", "prog"], dir.path());
    assert!(fs::metadata(&path).expect("program").len() < 1 << 20);
    let found = found(tight(), &path, offset);
    assert_eq!(names(&found.symbols[0]), ["outer"]);
    assert!(found.notes[0].contains("names without lines"), "{:?}", found.notes);
}

/// The program with its debug information in another file, which a link names.
fn linked(name: &str) -> (TempDir, PathBuf, u64) {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    run("objcopy", &["--only-keep-debug", "prog", name], dir.path());
    run("objcopy", &["--strip-debug", &format!("--add-gnu-debuglink={name}"), "prog"], dir.path());
    (dir, path, offset)
}

#[test]
fn a_debug_link_that_is_a_path_is_not_followed() {
    let name = "n".repeat(64);
    let (dir, path, offset) = linked(&name);
    assert_eq!(names(&found(tight(), &path, offset).symbols[0]), ["inner", "outer"]);
    // As long as the name, and good but for being a path.
    let other = TempDir::new().expect("folder");
    let debug = other.path().join("d".repeat(63 - other.path().as_os_str().len()));
    assert_eq!(debug.as_os_str().len(), name.len());
    let mut data = fs::read(&path).expect("program");
    let at = data.windows(64).position(|bytes| bytes == name.as_bytes()).expect("the link");
    data[at..at + 64].copy_from_slice(debug.as_os_str().as_bytes());
    fs::write(&path, data).expect("write");
    fs::rename(dir.path().join(&name), &debug).expect("move");
    let seen = found(tight(), &path, offset);
    assert_eq!(names(&seen.symbols[0]), ["outer"]);
    assert!(seen.notes[0].contains("not a bare name"), "{:?}", seen.notes);
    // Nor is it opened, which would hang.
    fs::remove_file(&debug).expect("remove");
    fifo(&debug);
    assert_eq!(names(&found(tight(), &path, offset).symbols[0]), ["outer"]);
}

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).expect("FIFO");
}

#[test]
fn a_debug_link_to_no_regular_file_or_another_file_is_not_followed() {
    let (dir, path, offset) = linked("prog.debug");
    let debug = dir.path().join("prog.debug");
    let without = |what: &str| {
        let found = found(tight(), &path, offset);
        assert_eq!(names(&found.symbols[0]), ["outer"], "{what}");
        fs::remove_file(&debug).expect("remove");
    };
    let mut data = fs::read(&debug).expect("debug file");
    data.push(0);
    fs::write(&debug, data).expect("write");
    without("a wrong checksum");
    fifo(&debug);
    without("a FIFO");
    symlink("/dev/zero", &debug).expect("link");
    without("a device");
    File::create(&debug).and_then(|file| file.set_len(1 << 40)).expect("sparse");
    without("a terabyte of nothing");
}

#[test]
fn a_file_without_a_build_id_that_was_replaced_since_has_no_names() {
    let dir = compiled(&["-Wl,--build-id=none"]);
    // A mapping's path has no links.
    let path = dir.path().canonicalize().expect("path").join("prog");
    let offset = return_offset(&path);
    let changed = fs::metadata(&path).expect("metadata");
    let changed_ns = changed.ctime() * 1_000_000_000 + changed.ctime_nsec();
    assert_eq!(names(&on_disk(&path, None, changed_ns, offset).symbols[0]), ["outer"]);
    let later = on_disk(&path, None, changed_ns - 1, offset);
    assert_eq!(later.symbols[0], []);
    assert!(later.notes[0].contains("may be another file"), "{:?}", later.notes);
    let secret = path.with_file_name("secret");
    fs::rename(&path, &secret).expect("rename");
    symlink(&secret, &path).expect("link");
    let replaced = on_disk(&path, None, i64::MAX, offset);
    assert_eq!(replaced.symbols[0], []);
    assert!(replaced.notes[0].contains("may be another file"), "{:?}", replaced.notes);
}

#[test]
fn names_are_those_of_the_mapped_file_whatever_lies_at_its_path() {
    let dir = compiled(&["-Wl,--build-id=none"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    let file = Arc::new(File::open(&path).expect("open"));
    fs::remove_file(&path).expect("remove");
    symlink("/proc/self/exe", &path).expect("link");
    let sources = Sources { mapped: &|_| Some(file.clone()), unchanged_since_ns: 0, perf_map: &|_| None };
    let locations = [Location::InModule { module: ModuleId(0), offset }];
    let found = symbolize(&locations, &[module(&path, None)], &|_| None, &sources);
    assert_eq!(names(&found.symbols[0]), ["outer"]);
}

fn begun() -> Worker {
    Worker::start(Limits { memory: 256 << 20, cpu: 60 }).expect("the child")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_file_that_is_cut_short_meanwhile_kills_the_child_only() {
    let dir = compiled(&[]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    let file = File::options().read(true).write(true).open(&path).expect("open");
    let mut worker = begun();
    worker.ask(&Question::Elf(Depth::Full), &[file.as_fd()], soon()).expect("the file");
    worker.ask(&Question::Names(vec![offset]), &[], soon()).expect("names");
    file.set_len(0).expect("cut");
    let failure = worker.ask(&Question::Names(vec![offset]), &[], soon()).expect_err("no file");
    assert_eq!(failure.signal(), Some(libc::SIGBUS), "{failure}");
}

#[test]
fn the_child_has_no_rights_and_ends_with_its_socket() {
    let worker = begun();
    let tasks = format!("/proc/{}/task", worker.id());
    let lines: Vec<String> = fs::read_dir(&tasks)
        .expect("threads")
        .map(|task| fs::read_to_string(task.expect("thread").path().join("status")).expect("status"))
        .collect();
    let field = |status: &str, name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    // In tests it has a main thread that only waits.
    let inside: Vec<_> =
        lines.iter().filter(|status| field(status, "Seccomp:").as_deref() == Some("2")).collect();
    let [inside] = inside[..] else { panic!("one thread: {lines:?}") };
    assert_eq!(field(inside, "NoNewPrivs:").as_deref(), Some("1"));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(inside, set).as_deref(), Some("0000000000000000"), "{set}");
    }
    if rustix::process::geteuid().is_root() {
        assert_eq!(field(inside, "CapBnd:").as_deref(), Some("0000000000000000"));
    }
    let open = fs::read_dir(format!("/proc/{}/fd", worker.id())).expect("descriptors").count();
    assert_eq!(open, 3, "standard input, output and error");
}

#[test]
fn a_descriptor_stays_where_it_was_told() {
    let file = tempfile::tempfile().expect("file");
    file.set_len(1 << 20).expect("size");
    let mut worker = begun();
    let answer = worker.ask(&Question::Checksum, &[file.as_fd()], soon()).expect("checksum");
    assert!(matches!(answer, Answer::Checksum(crc) if crc == crc32fast::hash(&vec![0; 1 << 20])));
    let none = worker.ask(&Question::Checksum, &[], soon());
    assert!(matches!(none, Err(Failure::Refused(_))), "{none:?} {}", file.as_raw_fd());
}

/// A pipe that nobody writes to is like a file whose file system does not answer: the child waits, and does nothing else.
#[test]
fn a_child_that_waits_for_what_does_not_come_is_given_up() {
    let (pipe, _kept_open) = std::io::pipe().expect("a pipe");
    let mut worker = begun();
    let brief = Instant::now() + Duration::from_millis(200);
    let failure = worker.ask(&Question::Checksum, &[pipe.as_fd()], brief).expect_err("nothing comes");
    assert!(matches!(failure, Failure::TooLong), "{failure}");
    let mut worker = begun();
    let failure = worker.ask(&Question::Checksum, &[pipe.as_fd()], soon()).expect_err("nothing comes");
    assert!(matches!(failure, Failure::Deaf), "{failure}");
}
