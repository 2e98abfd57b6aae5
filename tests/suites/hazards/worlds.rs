//! Processes that see other files, other PIDs or other users than we do.

use super::target;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    heaptrace,
    programs::{self, Program},
    runner::{Test, end_to_end},
    session::{self, Waiting},
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

pub fn tests() -> Vec<Test> {
    vec![
        end_to_end("attach: other mount and PID namespaces, a C library of its own", namespaces),
        end_to_end("attach: a chroot with a C library of its own", chroot_attached),
        end_to_end("command: a chroot with a C library of its own", chroot_started),
        end_to_end("attach: a setuid program", setuid_attached),
        end_to_end("command: a setuid program", || setuid_started(false)),
        end_to_end("command: a setuid program that ignores LD_LIBRARY_PATH", || setuid_started(true)),
        end_to_end("command: a loader that is told which program to run", loader_by_hand),
        end_to_end("heaptrace in a PID namespace of its own", in_own_namespace),
    ]
}

/// The C library and the dynamic linker that the test programs run with.
pub fn system_libraries() -> Result<(PathBuf, PathBuf)> {
    let maps = fs::read_to_string("/proc/self/maps").context("failed to read maps")?;
    let find = |name: &str| {
        let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
        paths.find(|path| path.rsplit('/').next() == Some(name)).map(PathBuf::from)
    };
    Ok((
        find("libc.so.6").context("no libc.so.6 is mapped")?,
        find("ld-linux-x86-64.so.2").context("no ld-linux-x86-64.so.2 is mapped")?,
    ))
}

fn namespaces() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (libc, _) = system_libraries()?;
    let own = folder.join("own-libc");
    fs::copy(&libc, &own)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"])
        .arg(r#"mount --bind "$0" "$1" && exec "$2""#)
        .args([&own, &libc, &Program::C("plain").compile()?]);
    let waiting = Waiting::start(target::with_ledger(command, folder), folder)?;
    let outer = waiting.target.pid();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
    let pid = children.trim().parse().context("unshare has no child")?;
    target::survives(waiting, pid, 1, folder)?;
    Ok(())
}

/// A root directory with the program `plain` in it, in whose own eyes `folder` is where it is for us.
fn root(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    let (libc, linker) = system_libraries()?;
    fs::create_dir_all(root.join("lib64"))?;
    // The compiler writes this name into programs; where the linker really is depends on the distribution.
    programs::copy(&linker, &root.join("lib64/ld-linux-x86-64.so.2"))?;
    fs::copy(libc, root.join("lib64/libc.so.6"))?;
    programs::copy(&Program::C("plain").compile()?, &root.join("plain"))?;
    let inside = root.join(folder.strip_prefix("/").context("the folder's path is relative")?);
    fs::create_dir_all(&inside)?;
    for name in ["ready", "go", "ledger"] {
        symlink(inside.join(name), folder.join(name))?;
    }
    Ok(root)
}

fn chroot_attached() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new("chroot");
    command.arg(root(folder)?).arg("/plain").env("LD_LIBRARY_PATH", "/lib64");
    let waiting = Waiting::start(target::with_ledger(command, folder), folder)?;
    let pid = waiting.target.pid();
    target::survives(waiting, pid, pid, folder)?;
    Ok(())
}

/// The exec leads to files that nobody could know before: it is told how long they were without probes.
fn chroot_started() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut recorder = heaptrace::command(&["record"])?;
    recorder.env("LD_LIBRARY_PATH", "/lib64");
    let root = root(folder)?;
    let program = [Path::new("chroot"), &root, Path::new("/plain")];
    let (pid, outcome) = target::record_command(recorder, &program, folder)?;
    // Late, or not at all: the program is a brief one.
    let gaps = [
        format!("plain:{pid}: calls of the first "),
        format!("plain:{pid}: it ended before it could be looked at: "),
    ];
    let notes = &outcome.report.coverage.notes;
    let told = |note: &String| {
        note.contains("/lib64/libc.so.6") && gaps.iter().any(|gap| note.starts_with(gap.as_str()))
    };
    ensure!(notes.iter().any(told), "nothing says that the new C library was probed late: {notes:?}");
    // (The kernel names it as the process sees it, /proc as we do.) What was seen is right: nothing is there that was not called.
    for (name, ledger) in &outcome.ledger.process(pid)?.sites {
        let sites = outcome.report.sites_of(pid);
        let seen = compare::total(sites.filter(|s| compare::site_function(s, Find::Caller) == Some(name)));
        ensure!(
            seen.alloc_count <= ledger.alloc_count && seen.free_count <= ledger.free_count,
            "{name}\n    ledger {ledger}\n    report {seen}"
        );
    }
    Ok(())
}

/// A copy of `plain` that runs as another user than who starts it.
fn setuid_program(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("plain-of-nobody");
    programs::copy(&Program::C("plain").compile()?, &program)?;
    chown(&program, Some(NOBODY), Some(NOBODY))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    Ok(program)
}

fn setuid_attached() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let waiting = Waiting::start(target::command(&setuid_program(folder)?, folder), folder)?;
    let pid = waiting.target.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uids = status.lines().find(|line| line.starts_with("Uid:")).context("no Uid in status")?;
    ensure!(uids.contains(&NOBODY.to_string()), "it does not run as nobody: {uids}");
    target::survives(waiting, pid, pid, folder)?;
    Ok(())
}

/// With LD_LIBRARY_PATH leading to another C library, which the kernel's secure mode makes the linker ignore.
fn setuid_started(library_path: bool) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = setuid_program(folder)?;
    let mut recorder = heaptrace::command(&["record"])?;
    if library_path {
        let own = folder.join("lib");
        fs::create_dir(&own)?;
        fs::copy(system_libraries()?.0, own.join("libc.so.6"))?;
        recorder.env("LD_LIBRARY_PATH", own);
    }
    let (_, outcome) = target::record_command(recorder, &[&program], folder)?;
    compare::exactly(&outcome, Find::Caller)
}

/// The kernel's probes know processes by the host's PIDs only.
fn in_own_namespace() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(heaptrace::binary()?)
        .args(["record", "-o"])
        .arg(heaptrace::record_file(folder))
        .args(heaptrace::COMMAND)
        .arg(Program::C("plain").compile()?);
    let output = target::with_ledger(command, folder).output().context("failed to run unshare")?;
    target::ensure_refused(&output, &["PID namespace", "--pid=host"])?;
    ensure!(!session::ledger_file(folder).exists(), "it was refused, and ran");
    Ok(())
}

fn loader_by_hand() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("plain").compile()?;
    let line = [Path::new("/lib64/ld-linux-x86-64.so.2"), Path::new("--inhibit-cache"), &program];
    let (_, outcome) = target::record_command(heaptrace::command(&["record"])?, &line, folder)?;
    compare::exactly(&outcome, Find::Caller)
}
