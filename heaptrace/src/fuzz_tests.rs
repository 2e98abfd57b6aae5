//! The entry points under proptest: inputs that are real but for a few damages. Memory is counted.

use super::*;
use crate::{
    process::test_elf::TestElf,
    report::samples::{full, start},
};
use proptest::prelude::*;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    os::unix::fs::FileExt as _,
    sync::LazyLock,
};

/// Counts each thread's own allocations.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: the system's allocator does the work; the counters are constant-initialized and never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What an entry may use at once, beside what is in proportion to its input: the most that is set apart for the
/// pages of one unwind table, and small things.
const FIXED: isize = 32 << 20;

/// A byte of a symbol table or of call frame information becomes that many at most; a compressed one, too.
const TIMES: isize = 300;

fn run(entry: Entry, bytes: &[u8]) -> Result<(), TestCaseError> {
    let before = LIVE.get();
    PEAK.set(before);
    entry(bytes);
    let used = PEAK.get() - before;
    prop_assert!(used <= FIXED + TIMES * bytes.len() as isize, "{} bytes used {used}", bytes.len());
    Ok(())
}

/// One damage: where (as a fraction of the length), how, and with what.
#[derive(Clone, Debug)]
enum Damage {
    Xor(u8),
    Byte(u8),
    Word(u32),
    Long(u64),
    Cut,
    Repeat(u8),
    Remove(u8),
    Insert(Vec<u8>),
}

fn damage() -> impl Strategy<Value = (u16, Damage)> {
    let extreme =
        prop_oneof![Just(0), Just(u64::MAX), Just(1 << 63), Just(u64::MAX >> 1), any::<u64>(), 0..4096u64];
    let how = prop_oneof![
        4 => any::<u8>().prop_map(Damage::Xor),
        2 => any::<u8>().prop_map(Damage::Byte),
        2 => extreme.clone().prop_map(|word| Damage::Word(word as u32)),
        2 => extreme.prop_map(Damage::Long),
        1 => Just(Damage::Cut),
        1 => any::<u8>().prop_map(Damage::Repeat),
        1 => any::<u8>().prop_map(Damage::Remove),
        1 => prop::collection::vec(any::<u8>(), 1..16).prop_map(Damage::Insert),
    ];
    (any::<u16>(), how)
}

fn apply(bytes: &mut Vec<u8>, place: u16, damage: &Damage) {
    let at = bytes.len() * usize::from(place) / (1 << 16);
    let overwrite = |bytes: &mut Vec<u8>, new: &[u8]| {
        for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
            *byte = *new;
        }
    };
    let end = |count: u8| (at + usize::from(count)).min(bytes.len());
    match damage {
        Damage::Xor(with) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with),
        Damage::Byte(new) => overwrite(bytes, &[*new]),
        Damage::Word(new) => overwrite(bytes, &new.to_le_bytes()),
        // Fields of headers and tables lie at multiples of eight.
        Damage::Long(new) => {
            let at = at & !7;
            bytes.iter_mut().skip(at).zip(new.to_le_bytes()).for_each(|(byte, new)| *byte = new);
        }
        Damage::Cut => bytes.truncate(at),
        Damage::Repeat(count) => {
            let part = bytes[at..end(*count)].to_vec();
            bytes.splice(at..at, part);
        }
        Damage::Remove(count) => drop(bytes.drain(at..end(*count))),
        Damage::Insert(new) => drop(bytes.splice(at..at, new.iter().copied())),
    }
}

/// Real inputs of an entry.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let proc = |file: &str| std::fs::read(format!("/proc/self/{file}")).expect("/proc");
    match name {
        "record" => vec![recorded()],
        "chunk" => {
            let chunk = crate::report::samples::chunk(&full());
            vec![postcard::to_stdvec(&chunk).expect("a chunk")]
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
        file => vec![proc(file)],
    }
}

const LIST: &[u8] = b"\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f00)\n\
    \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n\tlibx.so => not found\n";

static TEST_ELF: LazyLock<Vec<u8>> = LazyLock::new(|| {
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

fn recorded() -> Vec<u8> {
    let chunk = crate::report::samples::chunk(&full());
    let encode = |value: Result<Vec<u8>, postcard::Error>| value.expect("encoded");
    file::of_contents(
        &encode(postcard::to_stdvec(&start())),
        &[&encode(postcard::to_stdvec(&chunk)), &encode(postcard::to_stdvec(&chunk))],
    )
}

fn mapped(chosen: impl Fn(&maps::Mapping) -> bool) -> maps::Mapping {
    let mappings = maps::parse(&std::fs::read("/proc/self/maps").expect("maps"));
    mappings.into_iter().find(|mapping| chosen(mapping)).expect("mapped")
}

fn vdso() -> Vec<u8> {
    let mapping = mapped(|mapping| mapping.path.as_deref() == Some(Path::new("[vdso]")));
    let mut bytes = vec![0; (mapping.end - mapping.start) as usize];
    let memory = std::fs::File::open("/proc/self/mem").expect("mem");
    memory.read_exact_at(&mut bytes, mapping.start).expect("vdso");
    bytes
}

/// A library of a distribution, with all its tables: the unwinder, of some 100 KiB.
fn own_library() -> Vec<u8> {
    let is_unwinder = |path: &Path| path.file_name().is_some_and(|name| name == "libgcc_s.so.1");
    let mapping = mapped(|mapping| mapping.file().is_some_and(is_unwinder));
    std::fs::read(mapping.file().expect("a file")).expect("libgcc_s.so.1")
}

#[test]
fn the_seeds_are_what_they_should_be() {
    assert!(file::read_from(recorded().as_slice()).is_ok());
    for bytes in seeds("elf") {
        let facts = ElfFacts::parse(bytes.as_slice()).expect("an ELF file");
        assert!(FileSymbols::read(bytes.as_slice(), &facts).is_ok());
    }
    assert!(FileTable::of(&own_library().as_slice(), RowKind::Calls).expect("a table").rows().len() > 100);
    assert_eq!(ldso::parse_list(LIST).len(), 2);
}

/// Writes the seeds to a folder where asked, as libFuzzer takes them: `FOLDER/TARGET/NUMBER`.
#[test]
fn intact_inputs_pass() {
    let folder = std::env::var_os("HEAPTRACE_FUZZ_SEEDS").map(PathBuf::from);
    for (name, entry) in ALL {
        for (number, seed) in seeds(name).into_iter().enumerate() {
            run(entry, &seed).expect(name);
            if let Some(folder) = &folder {
                std::fs::create_dir_all(folder.join(name)).expect("folder");
                std::fs::write(folder.join(name).join(number.to_string()), seed).expect("seed");
            }
        }
    }
}

/// Damages `cases` copies of each seed of an entry.
fn damaged(name: &str, cases: u32) {
    let (_, entry) = ALL.into_iter().find(|(known, _)| *known == name).expect("an entry");
    let seeds = seeds(name);
    let choice = (any::<prop::sample::Index>(), prop::collection::vec(damage(), 1..12));
    proptest!(ProptestConfig::with_cases(cases), |((seed, damages) in choice)| {
        let mut bytes = seed.get(&seeds).clone();
        damages.iter().for_each(|(place, damage)| apply(&mut bytes, *place, damage));
        run(entry, &bytes)?;
    });
    proptest!(ProptestConfig::with_cases(256), |(bytes: Vec<u8>)| run(entry, &bytes)?);
}

#[test]
fn damaged_record_files_are_survived() {
    damaged("record", 1000);
}

#[test]
fn damaged_chunks_are_survived() {
    damaged("chunk", 1000);
}

#[test]
fn damaged_elf_files_are_survived() {
    damaged("elf", 3000);
}

#[test]
fn damaged_files_have_their_functions_analysed() {
    damaged("cuts", 300);
}

#[test]
fn damaged_code_is_survived() {
    damaged("code", 1000);
}

#[test]
fn damaged_unwind_information_is_survived() {
    damaged("unwind", 1000);
}

#[test]
fn damaged_symbols_are_survived() {
    damaged("symbols", 3000);
}

#[test]
fn damaged_proc_files_are_survived() {
    for name in ["maps", "stat", "status", "ldso"] {
        damaged(name, 1000);
    }
}
