use super::*;
use crate::fixtures::test_elf::{CODE_BIAS, TestElf};
use heaptrace_common::function::Function;
use proptest::prelude::*;

/// push rbx; pop rbx; ret
const PUSH: &[u8] = &[0x53, 0x5b, 0xc3, 0x90];
/// test rdi, rdi; je +2; push rbx; pop rbx; ret
const FREE: &[u8] = &[0x48, 0x85, 0xff, 0x74, 0x02, 0x53, 0x5b, 0xc3];

/// The offsets from the entry of a function's sites.
fn sites(function: &FoundFunction) -> Vec<u64> {
    match &function.probing {
        Probing::Sites { cut, .. } => cut.sites.iter().map(|site| site.address - function.address).collect(),
        Probing::Refused(why) => panic!("{}: {why}", function.symbol),
    }
}

fn read(elf: &TestElf<'_>) -> FileSymbols {
    let file = elf.build();
    let facts = ElfFacts::parse(file.as_slice()).expect("an ELF file");
    FileSymbols::read(file.as_slice(), &facts).expect("symbols")
}

fn find<'a>(symbols: &'a FileSymbols, name: &str) -> &'a FoundFunction {
    symbols.functions.iter().find(|function| function.symbol == name).expect("found")
}

#[test]
fn a_function_is_found_where_its_segment_puts_it() {
    let elf = TestElf {
        exported: vec![("unrelated", PUSH), ("malloc", PUSH), ("free", FREE)],
        ..TestElf::default()
    };
    let symbols = read(&elf);
    assert_eq!(symbols.functions.len(), 2);
    let malloc = find(&symbols, "malloc");
    assert_eq!(malloc.offset, elf.offset_of(1));
    assert_eq!(malloc.address, malloc.offset + CODE_BIAS);
    assert!(malloc.exported);
    assert_eq!(malloc.known.function, Function::Malloc);
    // What it returns is in rax from the start.
    assert_eq!(sites(malloc), [0]);
    assert_eq!(sites(find(&symbols, "free")), [5]);
}

#[test]
fn what_both_tables_name_is_exported_and_what_only_symtab_names_is_not() {
    let elf =
        TestElf { exported: vec![("malloc", PUSH)], hidden: vec![("free", FREE)], ..TestElf::default() };
    let symbols = read(&elf);
    let exported: Vec<_> = symbols.functions.iter().map(|f| (f.symbol.as_str(), f.exported)).collect();
    assert_eq!(exported, [("malloc", true), ("free", false)]);
}

#[test]
fn allocators_are_told_by_their_own_symbols() {
    let kind = |names: &[&'static str]| {
        read(&TestElf { exported: names.iter().map(|name| (*name, PUSH)).collect(), ..TestElf::default() })
            .kind
    };
    assert_eq!(kind(&["malloc", "gnu_get_libc_version"]), AllocatorKind::Glibc);
    assert_eq!(kind(&["malloc", "__dls3"]), AllocatorKind::Musl);
    assert_eq!(kind(&["malloc", "mallctl"]), AllocatorKind::Jemalloc);
    assert_eq!(kind(&["gnu_get_libc_version", "_rjem_mallctl"]), AllocatorKind::Jemalloc);
    assert_eq!(kind(&["malloc", "tc_malloc"]), AllocatorKind::Tcmalloc);
    assert_eq!(kind(&["mi_version", "gnu_get_libc_version"]), AllocatorKind::Mimalloc);
    assert_eq!(kind(&["malloc"]), AllocatorKind::Unknown);
}

#[test]
fn a_free_that_only_jumps_to_another_is_known_to() {
    // cfree: jmp free, which lies right behind it
    let thunk: &[u8] = &[0xe9, 0x00, 0x00, 0x00, 0x00];
    let elf = TestElf { exported: vec![("cfree", thunk), ("free", FREE)], ..TestElf::default() };
    let symbols = read(&elf);
    let free = find(&symbols, "free");
    assert_eq!(find(&symbols, "cfree").forwards_to, Some(Forward::Address(free.address)));
    assert_eq!(free.forwards_to, None);
}

fn libstdcxx() -> Option<Vec<u8>> {
    let paths = ["/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib64/libstdc++.so.6"];
    let file = paths.iter().find_map(|path| std::fs::read(path).ok());
    if file.is_none() {
        eprintln!("skipped: no libstdc++ here");
    }
    file
}

#[test]
fn what_a_file_defines_itself_is_no_import_though_it_is_called_through_the_linkage_table() {
    let Some(bytes) = libstdcxx() else { return };
    let facts = ElfFacts::parse(bytes.as_slice()).expect("an ELF file");
    let symbols = FileSymbols::read(bytes.as_slice(), &facts).expect("symbols");
    let file = File::new(bytes.as_slice(), &facts, Emulation::running()).expect("a file");
    // `jmp _Znwm@plt`, and `jmp free@plt`.
    for (name, called, import) in [("_Znam", "_Znwm", None), ("_ZdlPv", "free", Some("free"))] {
        let entry = find(&symbols, name).address;
        let target = file.near_targets(&(entry..entry + 16), true).next().expect("a jump");
        let resolved = file.resolve(Target::Code(target), &HashSet::new());
        assert_eq!(resolved, Some(Forward::Symbol(called.to_owned())), "{name}");
        assert_eq!(file.import(Target::Code(target)).as_deref(), import, "{name}");
    }
}

#[test]
fn an_operator_that_jumps_through_the_linkage_table_forwards_to_a_name() {
    // The C++ library's operator delete is `jmp free@plt`, its sized form a jump to the plain one.
    let Some(file) = libstdcxx() else { return };
    let facts = ElfFacts::parse(file.as_slice()).expect("an ELF file");
    let symbols = FileSymbols::read(file.as_slice(), &facts).expect("symbols");
    assert_eq!(find(&symbols, "_ZdlPv").forwards_to, Some(Forward::Symbol("free".to_owned())));
}

#[test]
fn a_file_that_knows_what_allocators_say_does_not_say_it_itself() {
    let file = std::fs::read("/proc/self/exe").expect("this program");
    let facts = ElfFacts::parse(file.as_slice()).expect("an ELF file");
    assert_eq!(telltale::messages(file.as_slice(), &facts, &MESSAGES), None);
    // But in a program that has one of them.
    let data = facts.loads.iter().find(|load| !load.executable).expect("constants").offset as usize;
    for (message, kind) in &MESSAGES {
        let mut file = file.clone();
        let text = message.text();
        file[data + 0x1000..][..text.len()].copy_from_slice(&text);
        assert_eq!(telltale::messages(file.as_slice(), &facts, &MESSAGES), Some(*kind));
    }
}

proptest! {
    #[test]
    fn a_damaged_file_gives_an_error_or_symbols_and_never_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let elf = TestElf {
            exported: vec![("malloc", PUSH), ("free", FREE), ("cfree", &[0xe9, 0xf3, 0xff, 0xff, 0xff])],
            hidden: vec![("je_malloc", PUSH)], needed: vec!["libc.so.6"], ..TestElf::default()
        };
        let mut file = elf.build();
        for (index, byte) in changes {
            let at = index.index(file.len());
            file[at] = byte;
        }
        if let Ok(facts) = ElfFacts::parse(file.as_slice()) {
            let _ = FileSymbols::read(file.as_slice(), &facts);
        }
    }
}
