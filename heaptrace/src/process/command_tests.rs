use super::*;

fn written(directory: &Path, name: &str, contents: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, contents).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("permitted");
    path
}

fn script(directory: &Path, name: &str, contents: &[u8]) -> PathBuf {
    written(directory, name, contents, 0o755)
}

/// Of a command of one word.
fn resolved(name: impl AsRef<OsStr>, path: Option<&OsStr>) -> Result<Invocation, CommandError> {
    resolve(&[name.as_ref().to_owned()], path)
}

fn refused(name: impl AsRef<OsStr>) -> String {
    resolved(name, None).expect_err("refused").to_string()
}

#[test]
fn a_command_is_found_on_path_and_past_files_that_are_not_executable() {
    let directory = tempfile::tempdir().expect("a directory");
    let [first, second] = ["1", "2"].map(|name| directory.path().join(name));
    for folder in [&first, &second, &first.join("folder")] {
        std::fs::create_dir(folder).expect("created");
    }
    let plain = written(&first, "tool", b"", 0o644);
    let path = std::env::join_paths([&first, &second]).expect("a path");
    let bad = resolved("tool", Some(&path)).expect_err("not executable");
    assert_eq!(
        bad.to_string(),
        format!("{}: is not an executable file (chmod +x makes it one)", plain.display())
    );
    let tool = script(&second, "tool", b"\x7fELF");
    assert_eq!(resolved("tool", Some(&path)).expect("found").file, tool);
    for (name, said) in
        [("no such tool", "no such tool: command not found on PATH"), ("", ": command not found on PATH")]
    {
        assert_eq!(resolved(name, Some(&path)).expect_err("not found").to_string(), said);
    }
    let folder = resolved("folder", Some(&path)).expect_err("a directory");
    assert_eq!(folder.to_string(), format!("{}: is a directory", first.join("folder").display()));
}

#[test]
fn what_cannot_be_executed_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let said = |path: &Path| refused(path).replace(&format!("{}: ", path.display()), "");
    assert_eq!(said(directory.path()), "is a directory");
    assert_eq!(said(&at("missing")), "no such file");
    let file = written(directory.path(), "file", b"echo\n", 0o644);
    assert_eq!(said(&file), "is not an executable file (chmod +x makes it one)");
    assert_eq!(said(&file.join("below")), "no such file");
    assert_eq!(said(Path::new("/dev/null")), "is not a regular file");
    let binary = script(directory.path(), "binary", b"\xca\xfe\0\xba\xbe\n");
    assert_eq!(said(&binary), "neither a program nor a script");
}

#[test]
fn scripts_are_followed_to_their_interpreter() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = script(directory.path(), "inner", b"#! /bin/sh -e\necho\n");
    let outer = script(directory.path(), "outer", format!("#!{}\n", inner.display()).as_bytes());
    let found = resolve(&[outer.clone().into(), "x".into()], None).expect("found");
    assert_eq!((found.file.as_path(), found.program.as_path()), (outer.as_path(), Path::new("/bin/sh")));
    assert_eq!(found.arguments, [outer.into_os_string(), "x".into()]);
}

#[test]
fn a_script_that_names_no_interpreter_is_run_by_the_shell() {
    let directory = tempfile::tempdir().expect("a directory");
    let plain = script(directory.path(), "plain", b"echo \"$@\"\n");
    let empty = script(directory.path(), "empty", b"");
    let nobody = script(directory.path(), "nobody", b"#! \nexit 3\n");
    // The kernel has no format for what this one names.
    let led = script(directory.path(), "led", format!("#!{}\n", plain.display()).as_bytes());
    for path in [plain, empty, nobody, led] {
        let found = resolve(&[path.clone().into(), "a".into(), "b".into()], None).expect("found");
        assert_eq!((found.file.as_path(), found.program.as_path()), (Path::new(SHELL), Path::new(SHELL)));
        assert_eq!(found.arguments, [SHELL.into(), path.into_os_string(), "a".into(), "b".into()]);
    }
    assert_eq!(not_an_option("-c/x".into()), Path::new("./-c/x"));
    assert_eq!(not_an_option("x".into()), Path::new("x"));
}

#[test]
fn scripts_that_lead_in_a_circle_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("circle");
    script(directory.path(), "circle", format!("#!{}\n", path.display()).as_bytes());
    let refused = resolved(&path, None).expect_err("refused");
    assert!(matches!(refused, CommandError::TooManyInterpreters { .. }), "{refused}");
}

#[test]
fn a_script_without_its_interpreter_names_both() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = script(directory.path(), "broken", b"#!/no/such/interpreter\n");
    let said = format!("the interpreter of {}, /no/such/interpreter: no such file", path.display());
    assert_eq!(refused(&path), said);
}

#[test]
fn interpreter_lines_are_read_as_the_kernel_reads_them() {
    let read = |line: &[u8]| parse_interpreter_line(line);
    assert_eq!(read(b"#!/bin/sh"), Some("/bin/sh".into()));
    assert_eq!(read(b"#! \t/usr/bin/env python3\n"), Some("/usr/bin/env".into()));
    assert_eq!(read(b"#!\n"), None);
    assert_eq!(read(b"\x7fELF"), None);
}
