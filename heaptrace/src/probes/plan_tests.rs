use super::*;
use crate::fixtures::test_elf::TestElf;
use crate::process::object::Opened;
use crate::process::served::Server;
use heaptrace_common::function::{Function, Shape};
use heaptrace_common::probe::Place;
use std::fs;
use std::path::Path;

/// push rbx; pop rbx; ret
const PUSH: &[u8] = &[0x53, 0x5b, 0xc3];
const ALLOCATOR: [(&str, &[u8]); 2] = [("malloc", PUSH), ("free", PUSH)];

/// A file of a process, without the file.
struct Mapped {
    path: PathBuf,
    elf: ElfFacts,
    symbols: FileSymbols,
    repeated: bool,
}

fn mapped(path: &str, elf: TestElf<'_>) -> Mapped {
    let file = elf.build();
    let elf = ElfFacts::parse(file.as_slice()).expect("an ELF file");
    let mut symbols = FileSymbols::read(file.as_slice(), &elf).expect("symbols");
    if path.ends_with("/libc.so") {
        symbols.kind = AllocatorKind::Glibc;
    }
    Mapped { path: path.into(), elf, symbols, repeated: false }
}

fn exporting(path: &str, names: &[&'static str]) -> Mapped {
    mapped(path, TestElf { exported: names.iter().map(|name| (*name, PUSH)).collect(), ..TestElf::default() })
}

fn hiding(path: &str, names: &[&'static str]) -> Mapped {
    mapped(path, TestElf { hidden: names.iter().map(|name| (*name, PUSH)).collect(), ..TestElf::default() })
}

fn chosen(files: &[Mapped]) -> Choice {
    chosen_for(files, Places::OneProcess)
}

fn chosen_for(files: &[Mapped], places: Places) -> Choice {
    let described: Vec<_> = files
        .iter()
        .map(|Mapped { path, elf, symbols, repeated }| Described { path, elf, symbols, repeated: *repeated })
        .collect();
    choose(&described, places)
}

fn names(files: &[Mapped]) -> Vec<Vec<String>> {
    let probes = chosen(files).probes;
    probes.into_iter().map(|probes| probes.into_iter().map(|probe| probe.symbol).collect()).collect()
}

#[test]
fn the_first_definer_wins_each_name_by_itself() {
    let files = [
        exporting("/bin/x", &["main"]),
        exporting("/lib/preloaded.so", &["malloc", "free"]),
        exporting("/lib/libc.so", &["malloc", "calloc", "free"]),
    ];
    assert_eq!(names(&files), [vec![], vec!["malloc", "free"], vec!["calloc"]]);
}

#[test]
fn an_allocator_of_the_executable_wins() {
    let files = [exporting("/bin/x", &["malloc", "free"]), exporting("/lib/libc.so", &["malloc", "free"])];
    assert_eq!(names(&files), [vec!["malloc", "free"], vec![]]);
}

#[test]
fn hidden_allocators_are_probed_beside_the_exported_one() {
    let files =
        [hiding("/bin/x", &["_rjem_malloc", "_rjem_free"]), exporting("/lib/libc.so", &["malloc", "free"])];
    assert_eq!(names(&files), [vec!["_rjem_malloc", "_rjem_free"], vec!["malloc", "free"]]);
}

#[test]
fn a_private_function_that_happens_to_be_called_free_is_not_probed() {
    let files = [hiding("/lib/libregex.so", &["free"]), hiding("/lib/half.so", &["malloc", "je_free"])];
    assert_eq!(names(&files), [vec![] as Vec<&str>, vec![]]);
}

#[test]
fn the_dynamic_linkers_private_malloc_is_not_probed() {
    let linker =
        TestElf { soname: Some("ld-linux-x86-64.so.2"), hidden: ALLOCATOR.to_vec(), ..TestElf::default() };
    assert_eq!(names(&[mapped("/lib64/ld-linux-x86-64.so.2", linker)]), [vec![] as Vec<&str>]);
    // As that of 2.31; a new image has no libc yet, and its program may export an allocator of its own.
    let linker =
        TestElf { soname: Some("ld-linux-x86-64.so.2"), exported: ALLOCATOR.to_vec(), ..TestElf::default() };
    let program = exporting("/bin/program", &["main"]);
    let files = [program, mapped("/lib64/ld-linux-x86-64.so.2", linker)];
    assert_eq!(names(&files), [vec![] as Vec<&str>, vec![]]);
}

#[test]
fn operators_are_probed_only_beside_a_base_function_of_their_file() {
    let operators = ["_Znwm", "_ZdlPv"];
    let library = exporting("/lib/libstdc++.so", &operators);
    let allocator = exporting("/lib/libjemalloc.so", &["malloc", "free", "_Znwm", "_ZdlPv"]);
    assert_eq!(names(&[library]), [vec![] as Vec<&str>]);
    assert_eq!(names(&[allocator]), [vec!["malloc", "free", "_Znwm", "_ZdlPv"]]);
    // Linked before the allocator, the C++ library's operators are the ones that are called.
    let files =
        [exporting("/lib/libstdc++.so", &operators), exporting("/lib/a.so", &["malloc", "free", "_Znwm"])];
    assert_eq!(names(&files), [vec![], vec!["malloc", "free"]]);
}

#[test]
fn names_of_one_address_are_one_probe_under_the_plainest_name() {
    let elf = TestElf {
        exported: vec![("mi_free", PUSH)],
        aliases: vec!["_ZdlPv", "free", "cfree"],
        hidden: vec![("mi_malloc", PUSH)],
        ..TestElf::default()
    };
    let allocator = exporting("/lib/libc.so", &["malloc"]);
    assert_eq!(names(&[mapped("/lib/x.so", elf), allocator])[0], ["free"]);
}

#[test]
fn a_second_name_of_a_function_that_lost_is_not_probed_but_a_vendors_own_name_is() {
    let preloaded = exporting("/lib/preloaded.so", &["malloc", "free"]);
    let libc = TestElf { exported: vec![("free", PUSH)], aliases: vec!["cfree"], ..TestElf::default() };
    assert_eq!(names(&[preloaded, mapped("/lib/libc.so", libc)])[1], [] as [&str; 0]);
    let libc = exporting("/lib/libc.so", &["malloc", "free"]);
    let mimalloc = TestElf { exported: vec![("free", PUSH)], aliases: vec!["mi_free"], ..TestElf::default() };
    let mut files = [libc, mapped("/lib/libmimalloc.so", mimalloc)];
    // Which may pass its calls on to the next.
    files[0].symbols.may_pass_on = true;
    assert_eq!(names(&files)[1], ["mi_free"]);
}

#[test]
fn a_free_that_only_calls_a_probed_free_is_not_probed() {
    let thunk: &[u8] = &[0xe9, 0x00, 0x00, 0x00, 0x00];
    let elf =
        TestElf { exported: vec![("malloc", PUSH), ("cfree", thunk), ("free", PUSH)], ..TestElf::default() };
    assert_eq!(names(&[mapped("/lib/libc.so", elf)]), [vec!["malloc", "free"]]);
}

#[test]
fn go_code_is_never_probed_and_the_reason_is_said() {
    let go = TestElf { go: true, exported: ALLOCATOR.to_vec(), ..TestElf::default() };
    let Choice { probes, refusals } = chosen(&[mapped("/bin/x", go), exporting("/lib/libc.so", &["calloc"])]);
    assert_eq!(probes.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1]);
    assert!(refusals[0].starts_with("/bin/x is a Go program"), "{refusals:?}");
}

#[test]
fn code_that_cannot_be_probed_is_said_to_be() {
    let elf = TestElf { exported: vec![("malloc", &[0x0f, 0x0b]), ("free", PUSH)], ..TestElf::default() };
    let Choice { probes, refusals } = chosen(&[mapped("/lib/libc.so", elf)]);
    assert_eq!(probes[0].len(), 1);
    assert_eq!(refusals, ["malloc in /lib/libc.so: nothing returns"]);
}

#[test]
fn a_probe_lies_at_its_site_and_tells_the_bpf_side_of_it() {
    // test rdi, rdi; je +10; sub rsp, 8; push rbx; pop rbx; add rsp, 8; ret
    let free: &[u8] =
        &[0x48, 0x85, 0xff, 0x74, 0x0a, 0x48, 0x83, 0xec, 0x08, 0x53, 0x5b, 0x48, 0x83, 0xc4, 0x08, 0xc3];
    let elf = TestElf { exported: vec![("malloc", PUSH), ("free", free)], ..TestElf::default() };
    let entry = elf.offset_of(1);
    let probe = chosen(&[mapped("/lib/libc.so", elf)]).probes.remove(0).remove(1);
    let [site] = probe.sites.as_slice() else { panic!("{probe:?}") };
    // The push costs less than the jump, which free(NULL) hits, too.
    assert_eq!((probe.entry, site.offset), (entry, entry + 9));
    let record = ProbeRecord {
        pushed: 8,
        from_entry: 9,
        size: site.record.size,
        caller_bp: Place::Register(5).to_bits(),
        ..ProbeRecord::new(Function::Free, Shape::Free0, Part::Free)
    };
    assert_eq!(site.record, record);
    assert_eq!(probe.traps(), [1, 1]);
}

#[test]
fn calls_by_a_probed_function_are_told_apart() {
    // push rbx; call malloc, which lies right before it; pop rbx; ret
    let calloc: &[u8] = &[0x53, 0xe8, 0xf7, 0xff, 0xff, 0xff, 0x5b, 0xc3];
    let exported = vec![("malloc", PUSH), ("calloc", calloc), ("free", PUSH)];
    let probes = chosen(&[mapped("/bin/x", TestElf { exported, ..TestElf::default() })]).probes.remove(0);
    let of = |symbol: &str| probes.iter().find(|probe| probe.symbol == symbol).expect("probed");
    let calls = of("calloc").entry as i64;
    for site in &of("malloc").sites {
        let own = site.record.own[0];
        let (start, end) =
            (i64::from(own.start) + site.offset as i64, i64::from(own.end) + site.offset as i64);
        assert_eq!((site.record.own_count, start, end), (1, calls, calls + 8));
    }
    assert!(of("calloc").sites.iter().all(|site| site.record.own_count == 0));
}

#[test]
fn own_calls_come_within_calls_that_have_begun_only_if_every_caller_keeps_its_arguments_first() {
    let within_begun = |caller: &'static str| {
        // push rbx; xor edi, edi; call malloc, which lies right before it; pop rbx; ret
        let code: &[u8] = &[0x53, 0x31, 0xff, 0xe8, 0xf5, 0xff, 0xff, 0xff, 0x5b, 0xc3];
        let exported = vec![("malloc", PUSH), (caller, code), ("free", PUSH)];
        let probes = chosen(&[mapped("/bin/x", TestElf { exported, ..TestElf::default() })]).probes.remove(0);
        let keeps = |probe: &Probe| probe.sites.iter().any(|site| site.record.role == Part::Begin as u8);
        let of = |symbol: &str| probes.iter().find(|probe| probe.symbol == symbol).expect("probed");
        assert!(of("malloc").sites.iter().all(|site| site.record.own_count == 1));
        let flags: HashSet<u8> = of("malloc").sites.iter().map(|site| site.record.within_begun).collect();
        (keeps(of(caller)), flags)
    };
    assert_eq!(within_begun("realloc"), (true, HashSet::from([1])));
    assert_eq!(within_begun("free_sized"), (false, HashSet::from([0])));
}

#[test]
fn a_call_within_one_whose_beginning_is_not_seen_begins_nothing() {
    // push rbx; call malloc, which lies right before it; pop rbx; ret
    let realloc: &[u8] = &[0x53, 0xe8, 0xf7, 0xff, 0xff, 0xff, 0x5b, 0xc3];
    // push rbx; xor edi, edi; call realloc, the one before it; pop rbx; ret
    let calling: &[u8] = &[0x53, 0x31, 0xff, 0xe8, 0xf0, 0xff, 0xff, 0xff, 0x5b, 0xc3];
    let exported = vec![("malloc", PUSH), ("realloc", realloc), ("free_sized", calling), ("free", PUSH)];
    let probes = chosen(&[mapped("/bin/x", TestElf { exported, ..TestElf::default() })]).probes.remove(0);
    let of = |symbol: &str| probes.iter().find(|probe| probe.symbol == symbol).expect("probed");
    for symbol in ["malloc", "realloc"] {
        let sites = &of(symbol).sites;
        assert!(
            sites.iter().all(|site| site.record.own_count == 1 && site.record.within_begun == 0),
            "{sites:?}"
        );
    }
}

#[test]
fn malloc_of_this_machines_glibc_is_called_within_calls_that_have_begun() {
    let maps = std::fs::read("/proc/self/maps").expect("maps");
    let mappings = crate::process::maps::parse(&maps);
    let mut files = mappings.iter().filter_map(|mapping| mapping.file());
    let path = files.find(|path| path.ends_with("libc.so.6")).expect("libc");
    let file = std::fs::read(path).expect("libc");
    let elf = ElfFacts::parse(file.as_slice()).expect("an ELF file");
    let symbols = FileSymbols::read(file.as_slice(), &elf).expect("symbols");
    let probes = chosen(&[Mapped { path: path.into(), elf, symbols, repeated: false }]).probes.remove(0);
    let malloc = probes.iter().find(|probe| probe.symbol == "malloc").expect("probed");
    assert!(
        malloc.sites.iter().all(|site| site.record.own_count > 0 && site.record.within_begun == 1),
        "{malloc:?}"
    );
}

#[test]
fn a_jump_into_another_function_makes_that_ones_results_the_first_ones_too() {
    // push rbx; pop rbx; jmp malloc
    let calloc: &[u8] = &[0x53, 0x5b, 0xe9, 0xf6, 0xff, 0xff, 0xff];
    let exported = vec![("malloc", PUSH), ("calloc", calloc), ("free", PUSH)];
    let probes = chosen(&[mapped("/bin/x", TestElf { exported, ..TestElf::default() })]).probes.remove(0);
    let malloc = probes.iter().find(|probe| probe.symbol == "malloc").expect("probed");
    assert!(malloc.sites.iter().all(|site| site.record.joined == 1));
}

#[test]
fn what_a_probed_function_calls_may_go_on_in_another_one_by_a_jump() {
    // push rbx; pop rbx; jmp malloc, which lies right before it
    let helper: &[u8] = &[0x53, 0x5b, 0xe9, 0xf6, 0xff, 0xff, 0xff];
    // push rbx; call helper, which lies right before it; pop rbx; ret
    let calloc: &[u8] = &[0x53, 0xe8, 0xf3, 0xff, 0xff, 0xff, 0x5b, 0xc3];
    let exported = vec![("malloc", PUSH), ("helper", helper), ("calloc", calloc), ("free", PUSH)];
    let probes = chosen(&[mapped("/bin/x", TestElf { exported, ..TestElf::default() })]).probes.remove(0);
    let of = |symbol: &str| probes.iter().find(|probe| probe.symbol == symbol).expect("probed");
    let calls = of("calloc").entry as i64;
    for site in &of("malloc").sites {
        let own = site.record.own[..site.record.own_count as usize].iter();
        let starts: Vec<i64> = own.map(|own| i64::from(own.start) + site.offset as i64).collect();
        assert!(starts.contains(&calls), "{starts:x?} {calls:x}");
    }
}

#[test]
fn a_jump_that_another_file_is_reached_by_joins_its_function_to_the_first_one() {
    // push rbx; pop rbx; jmp realloc, which lies right before it
    let array: &[u8] = &[0x53, 0x5b, 0xe9, 0xf6, 0xff, 0xff, 0xff];
    let libc = vec![("realloc", PUSH), ("reallocarray", array), ("malloc", PUSH), ("free", PUSH)];
    let preloaded = |names: &[&'static str]| exporting("/lib/preloaded.so", names);
    let joined = |names: &[&'static str]| {
        let libc = mapped("/lib/libc.so", TestElf { exported: libc.clone(), ..TestElf::default() });
        let files = [exporting("/bin/x", &["main"]), preloaded(names), libc];
        let probes = chosen(&files).probes.swap_remove(1);
        let realloc = probes.into_iter().find(|probe| probe.symbol == "realloc").expect("probed");
        realloc.sites.iter().all(|site| site.record.joined == 1)
    };
    assert!(joined(&["malloc", "free", "realloc"]));
    // Its own is called.
    assert!(!joined(&["malloc", "free", "realloc", "reallocarray"]));
}

#[test]
fn calls_that_end_in_an_unprobed_function_are_said_to_be_unseen() {
    // Behind malloc: push rbx; pop rbx; jmp malloc. Its malloc lost to another file's.
    let calloc: &[u8] = &[0x53, 0x5b, 0xe9, 0xf6, 0xff, 0xff, 0xff];
    let exported = vec![("malloc", PUSH), ("calloc", calloc)];
    let files = [
        exporting("/lib/preloaded.so", &["malloc", "free"]),
        mapped("/lib/libc.so", TestElf { exported, ..TestElf::default() }),
    ];
    let Choice { probes, refusals } = chosen(&files);
    assert_eq!(probes[1].len(), 1);
    assert_eq!(refusals, ["calloc in /lib/libc.so: calls of it that end in malloc are not seen"]);
}

#[test]
fn exits_through_pointers_are_said_to_be_unseen() {
    // mov rax, [rip+0]; test rax, rax; jne +2; push rbx; pop rbx; ret; jmp rax
    let hooked: &[u8] = &[
        0x48, 0x8b, 0x05, 0, 0, 0, 0, 0x48, 0x85, 0xc0, 0x75, 0x05, 0x31, 0xc0, 0x53, 0x5b, 0xc3, 0xff, 0xe0,
    ];
    let elf = TestElf { exported: vec![("malloc", hooked), ("free", PUSH)], ..TestElf::default() };
    let Choice { probes, refusals } = chosen(&[mapped("/lib/libc.so", elf)]);
    assert_eq!(probes[0].len(), 2);
    let said =
        "malloc in /lib/libc.so: calls that end in a jump through a pointer, as a hook's, are not seen";
    assert_eq!(refusals, [said]);
}

#[test]
fn a_plugin_with_an_allocator_of_its_own_is_probed_beside_the_c_library() {
    let of = |first_may_pass_on, plugin_may_pass_on| {
        let mut files = [
            exporting("/bin/x", &["main"]),
            exporting("/lib/libc.so", &["malloc", "free"]),
            exporting("/lib/plugin.so", &["malloc", "free"]),
        ];
        files[1].symbols.may_pass_on = first_may_pass_on;
        files[2].symbols.may_pass_on = plugin_may_pass_on;
        names(&files)
    };
    let first = vec!["malloc", "free"];
    assert_eq!(of(false, false), [vec![], first.clone(), first.clone()]);
    assert_eq!(of(true, false), [vec![], first.clone(), vec![]]);
    assert_eq!(of(false, true), [vec![], first, vec![]]);
}

#[test]
fn a_wrapper_and_the_c_library_that_all_have_are_said_to_count_a_block_twice() {
    let of = |may_pass_on, places| {
        let mut files =
            [exporting("/bin/x", &["malloc", "free"]), exporting("/lib/libc.so", &["malloc", "free"])];
        files[0].symbols.may_pass_on = may_pass_on;
        files[1].symbols.kind = AllocatorKind::Glibc;
        chosen_for(&files, places).refusals
    };
    let said = of(true, Places::AllProcesses);
    assert!(
        said.len() == 1 && said[0].starts_with("malloc in /bin/x may pass its calls on to /lib/libc.so"),
        "{said:?}"
    );
    assert_eq!(of(false, Places::AllProcesses), [""; 0]);
    assert_eq!(of(true, Places::OneProcess), [""; 0]);
}

#[test]
fn a_c_library_of_another_namespace_is_probed_beside_what_comes_before_it() {
    let of = |repeated| {
        let mut files =
            [exporting("/bin/x", &["malloc", "free"]), exporting("/lib/libc.so", &["malloc", "free"])];
        files[1].repeated = repeated;
        names(&files)
    };
    let both = vec!["malloc", "free"];
    assert_eq!(of(false), [both.clone(), vec![]]);
    assert_eq!(of(true), [both.clone(), both]);
}

/// A file with an allocator, whose contents a server may give.
fn served(folder: &Path, name: &str, stranger: Option<Server>) -> Candidate {
    let path = folder.join(name);
    let bytes = TestElf { exported: ALLOCATOR.to_vec(), ..TestElf::default() }.build();
    fs::write(&path, &bytes).expect("written");
    let mut object = Object::read(Opened::at(&path).expect("opened")).expect("an ELF file");
    object.stranger = stranger;
    let symbols = FileSymbols::read(bytes.as_slice(), &object.elf).expect("symbols");
    Candidate { object: Arc::new(object), symbols: Arc::new(symbols), own: Arc::default(), repeated: false }
}

#[test]
fn what_a_strangers_server_gives_gets_no_probe_unless_it_is_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        served(folder.path(), "program", Some(Server::User(7))),
        served(folder.path(), "library", Some(Server::Unknown)),
        served(folder.path(), "other", None),
    ];
    let names = |plan: &Plan| -> Vec<String> {
        plan.files.iter().map(|of| of.file.file_name().to_string_lossy().into_owned()).collect()
    };
    let found = plan(&files, Wanted::default());
    assert_eq!(names(&found), ["other"]);
    let [program, library] = found.served.as_slice() else { panic!("{:?}", found.served) };
    assert!(program.contains("program: not probed, as a FUSE server of user 7 gives"), "{program}");
    assert!(library.contains("a FUSE server of an unknown user gives"), "{library}");
    assert!(found.served.iter().all(|what| found.refusals.contains(what)), "{:?}", found.refusals);

    let all = plan(&files, Wanted { served: true, ..Wanted::default() });
    assert_eq!(names(&all), ["program", "library", "other"]);
    assert!(all.served.is_empty() && all.refusals.is_empty(), "{:?}", all.refusals);
}
