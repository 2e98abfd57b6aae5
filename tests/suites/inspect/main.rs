//! `heaptrace inspect`: what it says of a resting heap is what the allocator itself says.

mod glibc;
mod jemalloc;
mod releases;

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    caller, heaptrace,
    live::{list, number},
    programs::Program,
    runner::{self, Test, end_to_end, unprivileged},
    running::{Running, wait_for_file, wait_while_running},
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

const CANNOT: i32 = 4;

fn main() -> ExitCode {
    let tests: Vec<Test> =
        [glibc::tests(), releases::tests(), jemalloc::tests(), tests()].into_iter().flatten().collect();
    runner::run(tests)
}

fn tests() -> Vec<Test> {
    vec![
        unprivileged("of another allocator only the mappings are told", another_allocator),
        unprivileged("the sums of the mappings are the kernel's", sums),
        unprivileged("a PID that is gone, and a kernel thread, are refused", refused),
        end_to_end("another user's process is refused with what is missing", another_user),
    ]
}

/// `heaptrace inspect PID --format json`.
fn inspect(pid: u32) -> Result<Value> {
    parse(heaptrace::command(&["inspect", &pid.to_string(), "--format", "json"])?)
}

fn parse(mut command: Command) -> Result<Value> {
    let output = command.output().context("failed to run heaptrace")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}: {said}", output.status);
    let found: Value = serde_json::from_slice(&output.stdout).context("the JSON cannot be read")?;
    ensure!(number(&found, "schema")? == 1);
    Ok(found)
}

/// Starts a program, and returns once it has printed a line `until`.
fn wait(command: Command, folder: &Path, until: &str) -> Result<Running> {
    let mut program = Running::spawn(command, "heap", folder)?;
    let printed = folder.join("heap.stdout");
    wait_while_running(&mut program, "rest", || {
        std::fs::read_to_string(&printed).is_ok_and(|text| text.lines().any(|line| line == until))
    })?;
    Ok(program)
}

/// What has no heap to draw makes no file.
fn not_drawn(pid: u32, allocator: &str, folder: &Path) -> Result<()> {
    let file = folder.join("heap.svg");
    let mut command = heaptrace::command(&["inspect", &pid.to_string(), "--format", "svg", "-o"])?;
    let output = command.arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(CANNOT), "ended with {}: {said}", output.status);
    ensure!(said.contains("no heap to draw") && said.contains(allocator) && !file.exists(), "{said}");
    Ok(())
}

fn another_allocator() -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = Command::new(Program::MuslShared("idle").compile()?);
    let file = |name: &str| folder.path().join(name);
    command.env("LEDGER_OUT", file("ledger")).env("IDLE_DONE", file("done")).env("IDLE_END", file("end"));
    let mut program = Running::spawn(command, "idle", folder.path())?;
    wait_for_file(&file("done"), &mut program)?;
    let found = inspect(program.pid())?;
    ensure!(found["glibc"].is_null() && found["jemalloc"].is_null(), "{found}");
    let called = list(&found, "allocators")?.iter().find(|allocator| allocator["called"] == true);
    ensure!(called.is_some_and(|allocator| allocator["kind"] == "musl"), "{found}");
    let told = list(&found, "notes")?.iter().filter_map(Value::as_str);
    ensure!(
        told.into_iter().any(|note| note.contains("musl") && note.contains("only the mappings")),
        "{found}"
    );
    not_drawn(program.pid(), "musl", folder.path())
}

fn sums() -> Result<()> {
    let folder = TempDir::new()?;
    let program = glibc::start(folder.path(), &[], "", "resting")?;
    let found = inspect(program.pid())?;
    let kinds = list(&found["memory"], "kinds")?;
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", program.pid()))?;
    for (key, name) in [("resident_bytes", "Rss:"), ("swap_bytes", "Swap:")] {
        let sum: u64 = kinds.iter().map(|kind| number(kind, key)).sum::<Result<u64>>()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        let total = number(&found, &format!("memory.total.{key}"))?;
        ensure!((sum, total) == (kib << 10, kib << 10), "{key}: {sum} and {total}, not {kib} KiB");
    }
    let of = |name: &str| kinds.iter().find(|kind| kind["kind"] == name).context("no such kind");
    // [heap] and the second arena; [stack] and the thread's.
    ensure!(number(of("heap")?, "mappings")? == 2 && number(of("stack")?, "mappings")? == 2, "{kinds:?}");
    ensure!(list(&found["memory"], "largest")?.len() == 10);
    Ok(())
}

fn refused() -> Result<()> {
    let mut ended = Command::new("true").spawn()?;
    let gone = ended.id();
    ended.wait()?;
    for (pid, word) in [(gone, "no process"), (2, "kernel thread")] {
        // In a container, PID 2 may be anything.
        if pid == 2 && std::fs::read_link("/proc/2/exe").is_ok() {
            continue;
        }
        let output = heaptrace::output(&["inspect", &pid.to_string()])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(CANNOT), "ended with {}: {said}", output.status);
        ensure!(said.contains(word) || pid == 2 && said.contains("no process"), "{said}");
    }
    Ok(())
}

fn another_user() -> Result<()> {
    let folder = caller::open_folder()?;
    let program = glibc::start(folder.path(), &[], "", "resting")?;
    let pid = program.pid().to_string();
    let output = caller::heaptrace(&[], &["inspect", &pid], folder.path())?.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(CANNOT), "ended with {}: {said}", output.status);
    ensure!(said.contains("not permitted") && said.contains("CAP_SYS_PTRACE"), "{said}");
    Ok(())
}
