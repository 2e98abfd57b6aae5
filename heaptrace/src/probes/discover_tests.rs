use super::*;
use crate::fixtures::test_elf::TestElf;
use crate::probes::probe::Probe;
use crate::process::{command, ldso};
use heaptrace_common::function::{Function, Shape};
use std::process::{Command, Stdio};

fn probe<'a>(plan: &'a Plan, symbol: &str) -> &'a Probe {
    let found = plan.files.iter().flat_map(|file| &file.probes).find(|probe| probe.symbol == symbol);
    found.unwrap_or_else(|| panic!("no probe on {symbol} in {plan:#?}"))
}

#[test]
fn this_process_has_its_allocator_probed_in_one_file() {
    let (view, plan) = Discoverer::new().discover(std::process::id()).expect("discovered");
    assert_eq!(view.identity.pid, std::process::id());
    assert_eq!(view.objects[0].path, std::env::current_exe().expect("exe"));
    let files: Vec<_> = plan.files.iter().map(|file| &file.allocator).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    for (symbol, function, shape) in [
        ("malloc", Function::Malloc, Shape::Size0),
        ("calloc", Function::Calloc, Shape::Product01),
        ("realloc", Function::Realloc, Shape::Resize),
        ("posix_memalign", Function::PosixMemalign, Shape::OutPointer),
        ("free", Function::Free, Shape::Free0),
    ] {
        let probe = probe(&plan, symbol);
        assert_eq!((probe.function, probe.shape), (function, shape));
        for site in &probe.sites {
            assert_eq!(site.offset, probe.entry.wrapping_add_signed(site.record.from_entry.into()));
        }
    }
}

#[test]
fn a_probe_lies_on_the_code_that_this_process_runs() {
    let (view, plan) = Discoverer::new().discover(std::process::id()).expect("discovered");
    let malloc = libc::malloc as *const () as usize as u64;
    let mapping = view.mappings.iter().find(|m| (m.start..m.end).contains(&malloc)).expect("mapped");
    assert_eq!(probe(&plan, "malloc").entry, malloc - mapping.start + mapping.offset);
}

#[test]
fn free_of_glibc_2_36_gets_an_emulated_site_past_its_null_check() {
    // SAFETY: returns a pointer to a constant string.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    if version != c"2.36" {
        eprintln!("skipped: the C library here is glibc {version:?}");
        return;
    }
    let (_, plan) = Discoverer::new().discover(std::process::id()).expect("discovered");
    let [site] = probe(&plan, "free").sites.as_slice() else { panic!("one site") };
    // Behind five pushes: a jcc, which costs less than the push.
    assert_eq!((site.record.from_entry, site.record.pushed, site.emulated), (0x23, 40, true), "{site:?}");
    assert_eq!(probe(&plan, "malloc").traps(), [1, 2]);
}

#[test]
fn a_program_is_planned_before_it_runs_as_it_is_while_it_runs() {
    let env: Vec<_> = std::env::vars_os().collect();
    let cat = command::resolve(&["cat".into()], None).expect("found");
    let ldso::Program { exe, libraries } = ldso::program(&cat, &env).expect("listed");
    let mut discoverer = Discoverer::new();
    let before = discoverer.plan_for_paths(&exe, &libraries).expect("planned");
    let mut child = Command::new(&exe).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawned");
    wait_for_echo(&mut child);
    let running = discoverer.discover(child.id());
    drop(child.stdin.take());
    child.wait().expect("waited");
    let (_, running) = running.expect("discovered");
    let probes = |plan: &Plan| -> Vec<_> {
        plan.files.iter().map(|file| (file.file.id(), file.probes.clone())).collect()
    };
    assert_eq!(probes(&before), probes(&running));
    assert!(!before.files.is_empty());
}

fn wait_for_echo(child: &mut std::process::Child) {
    use std::io::{Read as _, Write as _};
    child.stdin.as_mut().expect("stdin").write_all(b"x").expect("written");
    child.stdout.as_mut().expect("stdout").read_exact(&mut [0]).expect("an echo");
}

#[test]
fn a_file_is_looked_into_once_until_it_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x");
    let code: &[u8] = &[0x53, 0xc3];
    let mut elf = TestElf { exported: vec![("malloc", code), ("free", code)], ..TestElf::default() };
    std::fs::write(&path, elf.build()).expect("written");
    let mut discoverer = Discoverer::new();
    let first = discoverer.plan_for_paths(&path, &[]).expect("planned");
    let again = discoverer.plan_for_paths(&path, &[]).expect("planned");
    assert!(Arc::ptr_eq(&first.files[0].file, &again.files[0].file));
    assert_eq!(discoverer.remembered(), 1);
    elf.exported.push(("calloc", code));
    std::fs::write(&path, elf.build()).expect("written");
    let changed = discoverer.plan_for_paths(&path, &[]).expect("planned");
    assert_eq!(changed.files[0].probes.len(), 3);
    drop((first, again));
    discoverer.forget_unused();
    assert_eq!(discoverer.remembered(), 1);
}

#[test]
fn a_program_for_another_machine_is_planned_as_that() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x");
    std::fs::write(&path, TestElf { class: Some(1), ..TestElf::default() }.build()).expect("written");
    let plan = Discoverer::new().plan_for_paths(&path, &[]).expect("planned");
    let (refused, what) = plan.wrong_machine.expect("refused");
    assert_eq!(refused, path);
    assert!(what.starts_with("a 32-bit program"), "{what}");
}

#[test]
fn a_process_that_is_gone_is_said_to_be() {
    let mut child = Command::new("true").spawn().expect("spawned");
    child.wait().expect("waited");
    let error = Discoverer::new().discover(child.id()).expect_err("gone");
    assert!(matches!(error, DiscoverError::Process(error) if error.is_gone()));
}

#[test]
fn preloads_are_split_at_colons_and_white_space() {
    let names = split_preload(b"/a.so:b.so  c.so\n/d.so\n");
    assert_eq!(names, ["/a.so", "b.so", "c.so", "/d.so"].map(Path::new));
}

#[test]
fn a_preloaded_file_is_known_by_its_place_where_the_environment_is_silent() {
    let facts = |needed: &[&'static str]| {
        let elf = TestElf { needed: needed.to_vec(), ..TestElf::default() };
        ElfFacts::parse(elf.build().as_slice()).expect("an ELF file")
    };
    let (exe, plain) = (facts(&["libc.so.6", "libm.so.6"]), facts(&[]));
    let loader = ElfFacts { soname: Some("ld-linux-x86-64.so.2".into()), ..plain.clone() };
    let file = |path: &'static str, elf| (Path::new(path), elf);
    let files = [
        file("/bin/x", &exe),
        file("/lib/plugin.so", &plain),
        file("/lib/libm.so.6", &plain),
        file("/lib/libc.so.6", &plain),
        file("/opt/preloaded2.so", &plain),
        file("/opt/preloaded1.so", &plain),
        file("/lib64/ld-linux-x86-64.so.2", &loader),
    ];
    assert_eq!(seems_preloaded(&files, 0, &[0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000]), [5, 4]);
    assert_eq!(seems_preloaded(&files[..1], 0, &[0x1000]), [] as [usize; 0]);
}

#[test]
fn what_the_linker_is_told_to_preload_stands_before_the_program() {
    let option = |arguments: &[u8]| preload_option(arguments).map(<[u8]>::to_vec);
    let told = b"/lib/ld.so\0--library-path\0/a:/b\0--preload\0/x.so /y.so\0/bin/program\0";
    assert_eq!(option(told), Some(b"/x.so /y.so".to_vec()));
    assert_eq!(split_preload(b"/x.so /y.so"), [Path::new("/x.so"), Path::new("/y.so")]);
    for other in [
        &b"/lib/ld.so\0/bin/program\0--preload\0/x.so\0"[..],
        b"/lib/ld.so\0--argv0\0--preload\0/bin/program\0",
        b"/lib/ld.so\0--preload",
        b"",
    ] {
        assert_eq!(option(other), None, "{}", String::from_utf8_lossy(other));
    }
}
