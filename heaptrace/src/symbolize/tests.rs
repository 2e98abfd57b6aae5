//! Symbolizes real programs, built here with the system's compilers; absent compilers fail the test aloud.

use super::*;
use crate::process::fetched::Cache;
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

const SOURCE: &str = "#include <stdlib.h>\n\
static inline __attribute__((always_inline)) void *inner(size_t n) {\n\
  return malloc(n);\n\
}\n\
__attribute__((noinline)) void *outer(size_t n) {\n\
  void *block = inner(n);\n\
  return ((char *)block) + 1;\n\
}\n\
int main(int argc, char **argv) { return outer(argc) == (void *)argv; }\n";

pub(super) fn run(program: &str, args: &[&str], dir: &Path) {
    let status = Command::new(program).args(args).current_dir(dir).status().expect(program);
    assert!(status.success(), "{program} {args:?}");
}

pub(super) fn compiled(flags: &[&str]) -> TempDir {
    let dir = TempDir::new().expect("directory");
    fs::write(dir.path().join("prog.c"), SOURCE).expect("source");
    let args: Vec<&str> =
        ["-O2", "-Wl,--build-id", "-o", "prog", "prog.c"].iter().chain(flags).copied().collect();
    run("gcc", &args, dir.path());
    dir
}

/// File offset of the return address of `outer`'s only call, found without blazesym.
pub(super) fn return_offset(path: &Path) -> u64 {
    let data = fs::read(path).expect("program");
    let file = object::File::parse(&*data).expect("ELF");
    let outer = file.symbols().find(|s| s.name() == Ok("outer")).expect("outer");
    let segment = file
        .segments()
        .find(|s| (s.address()..s.address() + s.size()).contains(&outer.address()))
        .expect("segment");
    let start = outer.address() - segment.address() + segment.file_range().0;
    let code = &data[start as usize..(start + outer.size()) as usize];
    let call = code.iter().position(|&byte| byte == 0xe8).expect("call rel32");
    start + call as u64 + 5
}

pub(super) fn names(path: &Path, offset: u64) -> Vec<Symbol> {
    found(Bounds::default(), path, offset).symbols.remove(0)
}

/// What is found of a file that is still open from when it was mapped.
pub(super) fn found(bounds: Bounds, path: &Path, offset: u64) -> Found {
    let locations = [Location::InModule { module: ModuleId(0), offset }];
    let file = Arc::new(File::open(path).expect("open"));
    let sources = Sources { mapped: &|_| Some(file.clone()), unchanged_since_ns: 0, perf_map: &|_| None };
    symbolize_within(bounds, &locations, &[module(path, None)], &|_| None, &sources)
}

pub(super) fn module(path: &Path, build_id: Option<BuildId>) -> Module {
    Module { path: path.to_string_lossy().into_owned(), build_id }
}

pub(super) fn with_dirs(dir: &Path) -> Bounds {
    Bounds { debug_dirs: DebugDirs { dirs: vec![dir.into()], fetched: None }, ..Bounds::default() }
}

#[test]
fn an_inlined_call_has_both_functions_innermost_first_with_their_lines() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let found = names(&path, return_offset(&path));
    let short: Vec<_> = found
        .iter()
        .map(|s| {
            (s.name.as_str(), s.file.as_deref().is_some_and(|f| f.ends_with("prog.c")), s.line, s.inlined)
        })
        .collect();
    assert_eq!(short, [("inner", true, Some(3), true), ("outer", true, Some(6), false)]);
}

#[test]
fn without_debug_information_the_symbol_table_names_the_function() {
    let dir = compiled(&[]);
    let path = dir.path().join("prog");
    let found = names(&path, return_offset(&path));
    assert_eq!(found, [Symbol { name: "outer".into(), file: None, line: None, inlined: false }]);
}

#[test]
fn a_stripped_program_is_named_through_its_debug_link() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    run("objcopy", &["--only-keep-debug", "prog", "prog.debug"], dir.path());
    run("objcopy", &["--strip-all", "--add-gnu-debuglink=prog.debug", "prog"], dir.path());
    let found = names(&path, offset);
    assert_eq!(found.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["inner", "outer"]);
    fs::remove_file(dir.path().join("prog.debug")).expect("remove");
    assert_eq!(names(&path, offset), [], "stripped, and no debug file");
}

#[test]
fn a_stripped_program_is_named_through_its_build_id() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    let id = blazesym::helper::read_elf_build_id(&path).expect("ELF").expect("build ID");
    let hex = crate::model::BuildId(id.to_vec()).to_string();
    let debug = dir.path().join(".build-id").join(&hex[..2]);
    fs::create_dir_all(&debug).expect("directory");
    run("objcopy", &["--only-keep-debug", "prog", "prog.debug"], dir.path());
    // Under another name, only the build ID leads to it, whether there is a link or not.
    run("objcopy", &["--strip-all", "--add-gnu-debuglink=prog.debug", "prog"], dir.path());
    fs::rename(dir.path().join("prog.debug"), debug.join(format!("{}.debug", &hex[2..]))).expect("move");
    let names = || found(with_dirs(dir.path()), &path, offset).symbols.remove(0);
    assert_eq!(names().iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["inner", "outer"]);
    run("objcopy", &["--remove-section=.gnu_debuglink", "prog"], dir.path());
    assert_eq!(names().iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["inner", "outer"]);
}

#[test]
fn what_debuginfod_fetched_is_not_used_where_others_could_have_put_it_and_that_is_said() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    let id = blazesym::helper::read_elf_build_id(&path).expect("ELF").expect("build ID");
    let cache = dir.path().join("cache");
    let of_build = cache.join(BuildId(id.to_vec()).to_string());
    fs::create_dir_all(&of_build).expect("directory");
    run("objcopy", &["--only-keep-debug", "prog", "prog.debug"], dir.path());
    run("objcopy", &["--strip-all", "prog"], dir.path());
    fs::rename(dir.path().join("prog.debug"), of_build.join("debuginfo")).expect("move");
    let with = |fetched: Cache| {
        let debug_dirs = DebugDirs { fetched: Some(fetched), ..DebugDirs::default() };
        found(Bounds { debug_dirs, ..Bounds::default() }, &path, offset)
    };
    let used = with(Cache::Ours(cache.clone()));
    assert_eq!((used.symbols[0].len(), used.notes.len()), (2, 0), "{:?}", used.notes);
    let why = "others may write to it".to_owned();
    let refused = with(Cache::Refused { folder: cache.clone(), why });
    let folder = cache.display();
    let said = format!(
        "{}: what debuginfod fetched was not used: {folder} is not trusted, as others may write to it",
        path.display()
    );
    assert_eq!((refused.symbols[0].len(), refused.notes), (0, vec![said]));
    // Of other builds it says nothing.
    fs::remove_dir_all(of_build).expect("removed");
    let none = with(Cache::Refused { folder: cache.clone(), why: String::new() });
    assert!(none.notes.is_empty(), "{:?}", none.notes);
}

#[test]
fn a_debug_file_alone_gives_the_right_name_or_none() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    run("objcopy", &["--only-keep-debug", "prog", "prog.debug"], dir.path());
    let found = names(&dir.path().join("prog.debug"), offset);
    assert!(found.is_empty() || found.last().is_some_and(|s| s.name == "outer"), "{found:?}");
}

#[test]
fn a_module_is_used_only_if_its_build_id_is_the_recorded_one() {
    let dir = compiled(&[]);
    let path = dir.path().join("prog");
    let id = blazesym::helper::read_elf_build_id(&path).expect("ELF").expect("build ID");
    let offset = return_offset(&path);
    let names = |id: Option<Vec<u8>>| on_disk(&path, id, i64::MAX, offset).symbols.remove(0);
    assert_eq!(names(Some(id.to_vec())).len(), 1);
    assert_eq!(names(None).len(), 1);
    let mut other = id.to_vec();
    other[0] ^= 1;
    assert_eq!(names(Some(other)), []);
    assert_eq!(names(Some(vec![])), []);
}

/// What is found of a module of a recording.
pub(super) fn on_disk(path: &Path, id: Option<Vec<u8>>, unchanged_since_ns: i64, offset: u64) -> Found {
    let locations = [Location::InModule { module: ModuleId(0), offset }];
    let sources = Sources { mapped: &|_| None, unchanged_since_ns, perf_map: &|_| None };
    symbolize(&locations, &[module(path, id.map(BuildId))], &|_| None, &sources)
}

#[test]
fn locations_without_a_file_stay_without_symbols_and_the_order_is_kept() {
    let dir = compiled(&[]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    let map = dir.path().join("perf-1.map");
    fs::write(&map, "7000 100 jitted\n").expect("map");
    let locations = [
        Location::Unmapped { process: ProcessId(0), address: 0x7001 },
        Location::InModule { module: ModuleId(1), offset },
        Location::Anonymous { process: ProcessId(0), address: 0x7100 },
        Location::InModule { module: ModuleId(0), offset },
        Location::InModule { module: ModuleId(9), offset },
        Location::InModule { module: ModuleId(1), offset: 0 },
        Location::Anonymous { process: ProcessId(0), address: 0x7000 },
    ];
    let file = Arc::new(File::open(&path).expect("open"));
    let sources = Sources {
        mapped: &|id| (id == ModuleId(1)).then(|| file.clone()),
        unchanged_since_ns: 0,
        perf_map: &|_| File::open(&map).ok(),
    };
    let modules = [module(Path::new("/gone"), None), module(Path::new("prog"), None)];
    let process = Process::default();
    let found = symbolize(&locations, &modules, &|id| (id.0 == 0).then_some(&process), &sources);
    assert_eq!(found.notes, [] as [&str; 0]);
    let names: Vec<_> = found.symbols.iter().map(|list| list.first().map(|s| s.name.as_str())).collect();
    assert_eq!(names, [None, Some("outer"), Some("jitted"), None, None, None, None]);
}

#[test]
fn cpp_names_are_demangled() {
    let dir = TempDir::new().expect("directory");
    let source = "#include <cstdlib>\nnamespace pool { struct Arena { void *grow(unsigned long n); }; \
                  __attribute__((noinline)) void *Arena::grow(unsigned long n) { return (char *)malloc(n) + 1; } }\n\
                  int main(int c, char **) { pool::Arena a; return a.grow(c) == (void *)&a; }\n";
    fs::write(dir.path().join("prog.cc"), source).expect("source");
    run("g++", &["-O1", "-g", "-o", "prog", "prog.cc"], dir.path());
    let path = dir.path().join("prog");
    let data = fs::read(&path).expect("program");
    let file = object::File::parse(&*data).expect("ELF");
    let grow = file.symbols().find(|s| s.name() == Ok("_ZN4pool5Arena4growEm")).expect("grow");
    let segment = file
        .segments()
        .find(|s| (s.address()..s.address() + s.size()).contains(&grow.address()))
        .expect("segment");
    let offset = grow.address() - segment.address() + segment.file_range().0 + 5;
    let name = &names(&path, offset)[0].name;
    assert!(name.starts_with("pool::Arena::grow(unsigned long"), "{name}");
}

#[inline(always)]
fn inlined_marker(values: &mut Vec<u64>) {
    values.push(std::hint::black_box(7));
}

#[inline(never)]
fn marker() -> usize {
    let mut values = Vec::new();
    inlined_marker(&mut values);
    values.len()
}

#[test]
fn rust_names_are_demangled_and_offsets_are_those_of_proc_maps() {
    assert_eq!(marker(), 1);
    let address = marker as fn() -> usize as usize as u64;
    // proc_pid_maps(5): start-end permissions offset device inode path.
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let (start, offset) = maps
        .lines()
        .find_map(|line| {
            let mut fields = line.split_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            let offset = hex(fields.nth(1)?)?;
            (hex(start)?..hex(end)?).contains(&address).then_some((hex(start)?, offset))
        })
        .expect("mapping of the function");
    let path = std::env::current_exe().expect("path");
    let found = names(&path, address - start + offset + 1);
    let last = found.last().expect("symbol");
    assert_eq!((last.name.as_str(), last.inlined), ("heaptrace::symbolize::tests::marker", false));
    assert!(last.file.as_deref().is_some_and(|file| file.ends_with("symbolize/tests.rs")), "{last:?}");
}

/// What a fuzzer found: blazesym adds offset and size of a segment without looking.
#[test]
fn a_segment_past_the_end_of_all_numbers_costs_names_only() {
    let dir = compiled(&["-g"]);
    let path = dir.path().join("prog");
    let offset = return_offset(&path);
    let mut data = fs::read(&path).expect("program");
    let segments = u64::from_le_bytes(data[32..40].try_into().expect("e_phoff")) as usize;
    // p_offset of every program header.
    for segment in (segments..).step_by(56).take(usize::from(data[56])) {
        data[segment + 8..segment + 16].copy_from_slice(&(u64::MAX - 16).to_le_bytes());
    }
    fs::write(&path, data).expect("damaged");
    assert!(names(&path, offset).is_empty());
}
