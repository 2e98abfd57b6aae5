use super::*;
use crate::{fixtures::test_elf::TestElf, process::command::resolve};
use std::os::unix::fs::PermissionsExt as _;

fn script(directory: &Path, name: &str, contents: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, contents).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permitted");
    path
}

#[test]
fn lists_of_both_loaders_are_read() {
    let glibc = b"\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x y/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
    let expected = ["/lib/x y/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
    assert_eq!(parse_list(glibc), expected);
    let musl = b"\t/lib/ld-musl-x86_64.so.1 (0x7f)\n\tlibz.so.1 => /lib/libz.so.1 (0x7f)\n";
    assert_eq!(parse_list(musl), ["/lib/ld-musl-x86_64.so.1", "/lib/libz.so.1"].map(PathBuf::from));
    assert_eq!(parse_list(b"\tstatically linked\n"), [] as [PathBuf; 0]);
}

fn run(command: &[OsString], env: &[(OsString, OsString)]) -> Result<Program, ProgramError> {
    program(&resolve(command, None)?, env)
}

fn listed(exe: &Path, env: &[(OsString, OsString)]) -> Result<Vec<PathBuf>, ProgramError> {
    run(&[exe.into()], env).map(|program| program.libraries)
}

#[test]
fn a_static_program_loads_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let elf = TestElf { fixed_address: true, ..TestElf::default() }.build();
    let path = script(directory.path(), "static", &elf);
    assert_eq!(listed(&path, &[]).expect("a list"), [] as [PathBuf; 0]);
}

#[test]
fn the_libraries_of_this_program_are_what_it_maps() {
    let exe = std::env::current_exe().expect("exe");
    let env: Vec<_> = std::env::vars_os().collect();
    let listed = listed(&exe, &env).expect("a list");
    let canonical: Vec<_> = listed.iter().map(|path| path.canonicalize().expect("exists")).collect();
    let mapped = crate::process::procfs::read_maps(std::process::id()).expect("maps");
    let mut files: Vec<_> = mapped
        .iter()
        .filter(|m| m.permissions.execute)
        .filter_map(|m| m.file())
        .map(Path::to_owned)
        .collect();
    files.retain(|path| *path != exe);
    for file in files {
        assert!(canonical.contains(&file), "{} is not in {canonical:?}", file.display());
    }
}

#[test]
fn preloaded_libraries_come_first() {
    let exe = Path::new("/bin/true");
    let without = listed(exe, &[]).expect("a list");
    let preload = without.last().cloned().expect("a loader");
    assert_ne!(without.first(), Some(&preload));
    let Some(other) =
        ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6"].iter().find(|p| Path::new(p).exists())
    else {
        eprintln!("skipped: no libm here");
        return;
    };
    let env = [(OsString::from("LD_PRELOAD"), OsString::from(other))];
    assert_eq!(listed(exe, &env).expect("a list").first(), Some(&PathBuf::from(other)));
}

#[test]
fn a_program_whose_library_is_missing_cannot_be_loaded() {
    let directory = tempfile::tempdir().expect("a directory");
    let elf = TestElf { needed: vec!["libc.so.6"], ..TestElf::default() }.build();
    let path = script(directory.path(), "homeless", &elf);
    let refused = listed(&path, &[]).expect_err("refused");
    assert!(
        refused.to_string().ends_with("cannot be loaded: it needs libraries, but names no loader"),
        "{refused}"
    );
}

#[test]
fn the_program_that_a_loader_is_told_to_run_stands_behind_its_options() {
    let parted = |line: &str| {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        by_hand(&arguments).map(|(options, program)| (options.len(), program.to_owned()))
    };
    assert_eq!(parted("/bin/true -x"), Some((0, "/bin/true".into())));
    let line = "--library-path /a:/b --inhibit-cache --argv0 x ./y --preload z";
    assert_eq!(parted(line), Some((5, "./y".into())));
    assert_eq!(
        (parted("--help"), parted("true"), parted("--preload /lib/x.so"), parted("")),
        (None, None, None, None)
    );
}

#[test]
fn a_program_has_the_same_libraries_if_its_loader_is_started_by_hand() {
    let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let cat = run(&["/bin/cat".into()], &env).expect("a program");
    let linker =
        Object::read(Opened::at(Path::new("/bin/cat")).expect("opened")).expect("ELF").elf.interpreter;
    let linker = linker.expect("a loader").into_os_string();
    let by_hand = run(&[linker.clone(), "--inhibit-cache".into(), "/bin/cat".into()], &env);
    assert_eq!(by_hand.expect("a program"), cat);
    assert!(matches!(run(&[linker], &env), Err(ProgramError::Unloadable { .. })));
}
