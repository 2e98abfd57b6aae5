//! Real inputs of the entry points.

use super::super::*;
use crate::{
    model::Symbol,
    process::{
        file_cache::{FileCache, HEADER},
        object::{Object, Opened},
        test_elf::TestElf,
    },
    report::samples::{full, start},
};
use std::{os::unix::fs::FileExt as _, sync::LazyLock};

/// Real inputs of an entry.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let proc = |file: &str| std::fs::read(format!("/proc/self/{file}")).expect("/proc");
    match name {
        "record" => [vec![recorded()], file::kept().map(|(_, file)| file.to_vec()).to_vec()].concat(),
        "chunk" => {
            let chunk = crate::report::samples::chunk(&full());
            [Version::CURRENT, Version::of_header(6)]
                .map(|version| file::content_of(version, &chunk))
                .to_vec()
        }
        "elf" | "cuts" | "unwind" | "symbols" => {
            vec![TEST_ELF.clone(), vdso(), own_library(), PROGRAM.clone()]
        }
        "code" => {
            let file = own_library();
            let facts = ElfFacts::parse(file.as_slice()).expect("an ELF file");
            let load = facts.loads.iter().find(|load| load.executable).expect("code");
            let start = load.offset as usize;
            (1..4).map(|part| file[start + 4096 * part..][..1024].to_vec()).collect()
        }
        "ldso" => vec![LIST.to_vec(), b"#! /usr/bin/env python3\n".to_vec()],
        "preload" => vec![PRELOADED.to_vec()],
        "mapped" => vec![[mapping(0x1000, b"/lib/x.so"), mapping(0x1800, b"//anon")].concat()],
        "unwind_cache" => kept(|object, cache| {
            let table = FileTable::of(&own_library().as_slice(), RowKind::Calls).expect("a table");
            cache.save(object, RowKind::Calls, &table).expect("kept");
        }),
        "cuts_cache" => kept(|object, cache| {
            symbol_cache::symbols(object, Some(cache)).expect("symbols");
        }),
        "debug_link" => vec![b"prog.debug".to_vec(), vec![7; 20]],
        "child" => {
            let both = |binary: &[u8], debug: &[u8]| {
                [&(binary.len() as u32).to_le_bytes()[..], binary, debug].concat()
            };
            vec![both(&PROGRAM, &PROGRAM), both(&own_library(), &PROGRAM), both(&PROGRAM, &TEST_ELF)]
        }
        "perf_map" => {
            vec![b"1000 10 first\n0x2000 8 LazyCompile:~f /a b.js:1\n8000000000000000 f g\n".to_vec()]
        }
        "answers" => vec![said()],
        file => vec![proc(file)],
    }
}

const PRELOADED: &[u8] = b"ld.so\0--argv0\0x\0--preload\0/opt/pre.so\0/bin/x\n/opt/pre.so:libb.so\n\
    /bin/x  liba.so.1 libb.so\n/lib/liba.so.1.2 liba.so.1 libc.so.6\n/lib/libc.so.6 libc.so.6\n/opt/pre.so  libc.so.6";

/// A record of the kernel's: kind, the upper half of `misc` and length, then as `mapped`'s own tests have it.
fn mapping(start: u64, name: &[u8]) -> Vec<u8> {
    let mut body = [0; 8].to_vec();
    body.extend([start, 0x2000, 0x400].map(u64::to_ne_bytes).concat());
    body.resize(64, 0);
    body.extend(name);
    body.resize(64 + (name.len() + 8) / 8 * 8 + 8, 0);
    [&[10, 0, body.len() as u8][..], &body].concat()
}

/// What the cache keeps of a small file, without the header.
fn kept(keep: impl Fn(&Object, &FileCache)) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("folder");
    let (path, directory) = (folder.path().join("libx.so"), folder.path().join("kept"));
    std::fs::write(&path, &*TEST_ELF).expect("written");
    let cache = FileCache::open(&directory, 1 << 30).expect("a cache");
    keep(&Object::read(Opened::at(&path).expect("open")).expect("an object"), &cache);
    let files = std::fs::read_dir(directory).expect("the folder");
    files.map(|file| std::fs::read(file.expect("kept").path()).expect("kept")[HEADER..].to_vec()).collect()
}

/// Answers of each kind.
fn said() -> Vec<u8> {
    let symbol = Symbol { name: "f".into(), file: Some("f.c".into()), line: Some(7), inlined: true };
    let facts = symbolize::Facts {
        build_id: Some(BuildId(vec![7; 20])),
        link: Some((b"prog.debug".to_vec(), 7)),
        has_supplement: false,
    };
    let answers = [
        Answer::Ready,
        Answer::Facts(Some(facts)),
        Answer::Checksum(7),
        Answer::Names { symbols: vec![vec![symbol.clone(), symbol], vec![]], cut: false },
        Answer::Refused("no".into()),
    ];
    let told = |answer: &Answer| {
        let content = postcard::to_stdvec(answer).expect("encoded");
        [&(content.len() as u32).to_le_bytes()[..], &content].concat()
    };
    answers.iter().flat_map(told).collect()
}

pub const LIST: &[u8] = b"\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f00)\n\
    \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n\tlibx.so => not found\n";

pub static TEST_ELF: LazyLock<Vec<u8>> = LazyLock::new(|| {
    TestElf {
        soname: Some("libx.so"),
        needed: vec!["libc.so.6"],
        build_id: Some(b"0123456789abcdef"),
        exported: vec![("malloc", b"\x55\x48\x89\xe5\xc3"), ("free", b"\x48\x85\xff\x74\x01\x55\xc3")],
        hidden: vec![("calloc", b"\x41\x54\xc3"), ("_int_malloc", b"\xc3")],
        aliases: vec!["__libc_malloc"],
        ..TestElf::default()
    }
    .build()
});

/// A small program with debug information.
static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("folder");
    let (source, program) = (folder.path().join("x.c"), folder.path().join("x"));
    let code = "#include <stdlib.h>\nstatic inline void *inner(size_t n) { return malloc(n); }\n\
        int main(int argc, char **argv) { return inner(argc) == (void *)argv; }\n";
    std::fs::write(&source, code).expect("source");
    let status =
        std::process::Command::new("gcc").args(["-O2", "-g", "-o"]).args([&program, &source]).status();
    assert!(status.expect("gcc").success());
    std::fs::read(program).expect("program")
});

pub fn recorded() -> Vec<u8> {
    let chunk = file::content_of(Version::CURRENT, &crate::report::samples::chunk(&full()));
    file::of_contents(Version::CURRENT, &start(), &[&chunk, &chunk])
}

fn own_mapping(chosen: impl Fn(&maps::Mapping) -> bool) -> maps::Mapping {
    let mappings = maps::parse(&std::fs::read("/proc/self/maps").expect("maps"));
    mappings.into_iter().find(|mapping| chosen(mapping)).expect("mapped")
}

fn vdso() -> Vec<u8> {
    let mapping = own_mapping(|mapping| mapping.path.as_deref() == Some(Path::new("[vdso]")));
    let mut bytes = vec![0; (mapping.end - mapping.start) as usize];
    let memory = std::fs::File::open("/proc/self/mem").expect("mem");
    memory.read_exact_at(&mut bytes, mapping.start).expect("vdso");
    bytes
}

/// A library of a distribution, with all its tables: the unwinder, of some 100 KiB.
pub fn own_library() -> Vec<u8> {
    let is_unwinder = |path: &Path| path.file_name().is_some_and(|name| name == "libgcc_s.so.1");
    let mapping = own_mapping(|mapping| mapping.file().is_some_and(is_unwinder));
    std::fs::read(mapping.file().expect("a file")).expect("libgcc_s.so.1")
}
