use super::*;
use crate::fixtures::test_elf::TestElf;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A file of a process, without the file.
struct Mapped {
    path: PathBuf,
    elf: ElfFacts,
}

fn mapped(path: &str, elf: TestElf<'_>) -> Mapped {
    let elf = ElfFacts::parse(elf.build().as_slice()).expect("an ELF file");
    Mapped { path: path.into(), elf }
}

fn needing(path: &'static str, soname: Option<&'static str>, needed: &[&'static str]) -> Mapped {
    mapped(path, TestElf { soname, needed: needed.to_vec(), ..TestElf::default() })
}

#[test]
fn resolution_is_breadth_first_behind_what_was_preloaded() {
    let files = [
        needing("/lib/plugin.so", None, &[]),
        needing("/lib/libc.so.6", Some("libc.so.6"), &["ld-linux-x86-64.so.2"]),
        needing("/lib64/ld-linux-x86-64.so.2", Some("ld-linux-x86-64.so.2"), &[]),
        needing("/lib/libdeep.so", None, &["libc.so.6"]),
        needing("/lib/liba.so.1.2", Some("liba.so.1"), &["libdeep.so", "libc.so.6"]),
        needing("/opt/pre.so", None, &["libc.so.6"]),
        needing("/bin/x", None, &["liba.so.1", "libb.so"]),
        needing("/lib/libb.so", None, &["libc.so.6"]),
    ];
    let listed: Vec<_> = files.iter().map(|file| (file.path.as_path(), &file.elf)).collect();
    let order = |preloaded: &[&str]| {
        let preloaded: Vec<_> = preloaded.iter().map(Path::new).collect();
        resolution_order(&listed, 6, &preloaded)
    };
    assert_eq!(order(&["/opt/pre.so"]), [6, 5, 4, 7, 1, 3, 2, 0]);
    assert_eq!(order(&["missing.so"]), [6, 4, 7, 3, 1, 2, 0, 5]);
    assert_eq!(resolution_order(&[], 0, &[]), [] as [usize; 0]);
}

/// 6 MB of LD_PRELOAD, which is what an environment takes, against thousands of files.
#[test]
fn millions_of_preloaded_names_take_no_longer_than_reading_them() {
    let files: Vec<_> = (0..5000).map(|index| format!("/lib/{index}.so")).collect();
    let library = mapped("", TestElf::default());
    let files: Vec<_> = files.iter().map(|path| (Path::new(path), &library.elf)).collect();
    let begun = Instant::now();
    let order = resolution_order(&files, 7, &vec![Path::new("x"); 3_000_000]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!((order.len(), &order[..3]), (5000, &[7, 0, 1][..]));
}

#[test]
fn a_program_that_its_loader_was_told_to_run_is_searched_first() {
    const LOADER: &str = "ld-linux-x86-64.so.2";
    let loaded = |path: &str, soname, needed: &[&'static str]| {
        let elf =
            TestElf { soname, needed: needed.to_vec(), interpreter: Some("/lib64/ld"), ..TestElf::default() };
        mapped(path, elf)
    };
    // Before glibc 2.32 the loader exports a malloc, too.
    let loader = TestElf { soname: Some(LOADER), exported: vec![("malloc", &[0xc3])], ..TestElf::default() };
    let files = [
        mapped("/old/ld-2.31.so", loader),
        loaded("/old/libc-2.31.so", Some("libc.so.6"), &[LOADER]),
        loaded("/bin/x", None, &["libc.so.6"]),
    ];
    let listed: Vec<_> = files.iter().map(|file| (file.path.as_path(), &file.elf)).collect();
    assert_eq!(program(&listed), 2);
    assert_eq!(resolution_order(&listed, 2, &[]), [2, 1, 0]);
    // Started as usual, or by itself.
    assert_eq!((program(&[listed[2], listed[1], listed[0]]), program(&listed[..2]), program(&[])), (0, 0, 0));
}
