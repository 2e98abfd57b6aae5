//! Tables and JSON, where there is no terminal.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    caller, heaptrace,
    live::{list, number},
    running::{PATIENCE, Running, wait_until},
    steps::{CACHED, LEAKED, Steps},
    terminal::Terminal,
};
use serde_json::Value;
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

pub fn usage() -> Result<()> {
    for (options, said) in [
        (&["--sort", "nothing"][..], "columns are pid, user, mem"),
        (&["--filter", "rss>1"], "there is no column rss"),
        (&["--interval", "0s"], "expected a time above 0"),
        (&["--trace"], "--pid"),
        (&["--trace=growth", "-p", "1"], "would trace nothing"),
        (&["--trace=exact", "--sample", "1MiB", "-p", "1"], "belong to --trace sampled"),
        (&["--all", "-p", "1"], "cannot be used with"),
    ] {
        let output = heaptrace::output(&[&["top"], options].concat())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2), "{options:?} ended with {}: {text}", output.status);
        ensure!(text.contains(said), "{options:?} is answered {text}");
    }
    Ok(())
}

pub fn nobody() -> Result<()> {
    let mut child = Command::new("true").spawn()?;
    child.wait()?;
    let pid = child.id().to_string();
    for options in [["-p", &pid], ["--comm", "no-such-name"], ["--user", "no-such-user"]] {
        let output = heaptrace::output(&[&["top", "--no-growth"], &options[..]].concat())?;
        ensure!(output.status.code() == Some(4), "{options:?} ended with {}", output.status);
    }
    Ok(())
}

/// `heaptrace top` with these options, run to its end.
fn printed(options: &[&str]) -> Result<String> {
    let output = heaptrace::output(&[&["top"], options].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{options:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn tables() -> Result<()> {
    let text = printed(&["--no-growth", "-n", "2", "-i", "100ms", "--rows", "3"])?;
    let tables = text.split("\n\n").collect::<Vec<_>>();
    ensure!(tables.len() == 2, "not two tables:\n{text}");
    for table in tables {
        let heading = table.lines().position(|line| line.trim_start().starts_with("PID USER"));
        let rows = table.lines().skip(heading.context("no heading")? + 1);
        ensure!(rows.filter(|line| !line.starts_with('#')).count() == 3, "not three rows:\n{table}");
        ensure!(table.contains("more processes not shown"), "what is hidden is not told:\n{table}");
        ensure!(table.contains("brk and mmap are not counted (--no-growth)"), "{table}");
        ensure!(!table.contains('\x1b'), "there are escape sequences");
    }
    Ok(())
}

/// The objects that `heaptrace top --format json` prints.
fn objects(options: &[&str]) -> Result<Vec<Value>> {
    let text = printed(&[&["--format", "json"], options].concat())?;
    text.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
}

fn process(print: &Value, pid: u32) -> Result<&Value> {
    let found = list(print, "processes")?.iter().find(|process| process["pid"] == pid);
    found.with_context(|| format!("{pid} is not among {}", print["processes"]))
}

pub fn json() -> Result<()> {
    let folder = TempDir::new()?;
    let steps = Steps::start(folder.path())?;
    let pid = steps.pid();
    let prints = objects(&["--no-growth", "-n", "3", "-i", "50ms"])?;
    ensure!(prints.len() == 3, "{} prints", prints.len());
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |field: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
    };
    for print in &prints {
        // It waits: nothing changes.
        let steps = process(print, pid)?;
        ensure!(number(steps, "virt_bytes")? == 1024 * kilobytes("VmSize")?, "{steps}\n{status}");
        // Counted by CPU, and those counters may be off by some pages.
        let about = |bytes: u64, expected: u64| bytes.abs_diff(1024 * expected) <= 1 << 20;
        ensure!(about(number(steps, "res_bytes")?, kilobytes("VmRSS")?), "{steps}\n{status}");
        ensure!(about(number(steps, "heap_bytes")?, kilobytes("RssAnon")?), "{steps}\n{status}");
        ensure!(steps["comm"] == "steps" && steps["parent_pid"] == std::process::id(), "{steps}");
        ensure!(steps["faults_per_s"].as_f64() == Some(0.0), "it waits, and faults: {steps}");
        ensure!(steps["traced"].is_null() && steps["mmap_bytes"].is_null(), "what nobody measured: {steps}");
    }
    Ok(())
}

pub fn ordinary_user() -> Result<()> {
    // SAFETY: no arguments, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        // Then the other tests are this one.
        return Ok(());
    }
    let folder = caller::open_folder()?;
    let output =
        caller::heaptrace(&[], &["top", "-n", "1", "-i", "50ms", "--rows", "0"], folder.path())?.output()?;
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "ended with {}: {said}", output.status);
    let why = text.lines().find(|line| line.contains("brk and mmap are not counted"));
    ensure!(
        why.is_some_and(|why| why.contains("CAP_BPF") || why.contains("root")),
        "does not say why:\n{text}"
    );
    ensure!(!text.contains(" heaptrace top -n 1"), "it is in its own list:\n{text}");
    Ok(())
}

pub fn dumb_terminal() -> Result<()> {
    let command = heaptrace::command(&["top", "--no-growth", "-n", "1", "-i", "50ms", "--rows", "4"])?;
    // The harness says that its terminal can be drawn on.
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg("TERM=dumb exec \"$@\"")
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    let mut terminal = Terminal::run(shell, (100, 30))?;
    ensure!(terminal.wait()?.success(), "it failed:\n{}", terminal.text());
    terminal.wait_for_text("more processes not shown").map(drop)
}

/// What a process is traced for in the last whole print, and the print.
fn last_traced(top: &Running, pid: u32) -> Option<(Value, Value)> {
    let text = top.stdout();
    let whole = &text[..text.rfind('\n')?];
    let print: Value = serde_json::from_str(whole.lines().last()?).ok()?;
    let traced = process(&print, pid).ok()?["traced"].clone();
    Some((traced, print))
}

/// Waits until a print satisfies `is`.
fn wait_traced(
    top: &mut Running,
    pid: u32,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Result<(Value, Value)> {
    let mut found = None;
    wait_until(PATIENCE, || {
        found = last_traced(top, pid).filter(|(traced, _)| is(traced));
        ensure!(top.poll()?.is_none(), "{}", top.describe("ended"));
        Ok(found.is_some())
    })
    .with_context(|| format!("no print {what}; the last: {:?}", last_traced(top, pid)))?;
    found.context("none")
}

fn is_live(traced: &Value, amount: (u64, u64)) -> bool {
    (traced["live_bytes"].as_u64(), traced["live_count"].as_u64()) == (Some(amount.0), Some(amount.1))
}

/// The program in steps, and `top` that prints JSON about it.
fn steps_and_top(options: &[&str], folder: &Path) -> Result<(Steps, u32, Running)> {
    let steps = Steps::start(folder)?;
    let pid = steps.pid();
    let fixed = ["top", "--format", "json", "-i", "50ms", "-p", &pid.to_string()];
    let mut command = heaptrace::command(&[&fixed[..], options].concat())?;
    command.current_dir(folder);
    Ok((steps, pid, Running::spawn(command, "heaptrace", folder)?))
}

pub fn traced_json() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (mut steps, pid, mut top) = steps_and_top(&["--trace"], folder)?;
    let mut wait =
        |what: &str, amount: (u64, u64)| wait_traced(&mut top, pid, what, |traced| is_live(traced, amount));
    wait("before", (0, 0))?;
    steps.step(1, folder)?;
    let (first, print) = wait("after a step", (LEAKED.0 + CACHED.0, LEAKED.1 + CACHED.1))?;
    ensure!((number(&first, "alloc_count")?, number(&first, "free_count")?) == (29, 12), "{first}");
    ensure!(print["sources"]["mode"] == "exact" && print["sources"]["live_is_bound"] == false, "{print}");
    steps.step(2, folder)?;
    wait("after two", (2 * LEAKED.0 + CACHED.0, 2 * LEAKED.1 + CACHED.1))?;
    steps.step(3, folder)?;
    wait("after three", (3 * LEAKED.0, 3 * LEAKED.1))?;
    steps.end(folder)?;
    let status = top.wait()?;
    ensure!(status.success(), "{}", top.describe("failed"));
    ensure!(top.stderr().contains("all targets have exited"), "{}", top.stderr());
    Ok(())
}

/// No free is seen; the program's heap is looked at, and it rests.
pub fn traced_allocs() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (mut steps, pid, mut top) = steps_and_top(&["--trace=allocs"], folder)?;
    wait_traced(&mut top, pid, "before", |traced| is_live(traced, (0, 0)))?;
    steps.step(1, folder)?;
    let now = (LEAKED.0 + CACHED.0, LEAKED.1 + CACHED.1);
    let (first, print) = wait_traced(&mut top, pid, "after a step", |traced| is_live(traced, now))?;
    ensure!(number(&first, "alloc_count")? == 29 && first["free_count"].is_null(), "{first}");
    ensure!(first["frees_per_s"].is_null(), "{first}");
    ensure!(print["sources"]["mode"] == "allocs" && print["sources"]["live_is_bound"] == true, "{print}");
    steps.step(2, folder)?;
    steps.step(3, folder)?;
    wait_traced(&mut top, pid, "after three", |traced| is_live(traced, (3 * LEAKED.0, 3 * LEAKED.1)))?;
    steps.end(folder)?;
    ensure!(top.wait()?.success(), "{}", top.describe("failed"));
    Ok(())
}

/// Blocks of so many means are always taken.
pub fn traced_samples() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (mut steps, pid, mut top) = steps_and_top(&["--trace=sampled", "--sample", "1KiB"], folder)?;
    wait_traced(&mut top, pid, "before", |traced| is_live(traced, (0, 0)))?;
    steps.step(1, folder)?;
    let has_cache = |traced: &Value| traced["live_bytes"].as_u64() >= Some(CACHED.0);
    let (first, print) = wait_traced(&mut top, pid, "after a step", has_cache)?;
    let interval = first["live_bytes_interval"].as_array().context("no interval")?;
    let ends = interval.iter().map(Value::as_u64).collect::<Vec<_>>();
    ensure!(ends[0] == Some(0) && ends[1] >= first["live_bytes"].as_u64(), "{first}");
    ensure!(print["sources"]["mode"] == "sampled" && print["sources"]["live_is_bound"] == true, "{print}");
    steps.step(2, folder)?;
    steps.step(3, folder)?;
    let has_none = |traced: &Value| traced["live_bytes"].as_u64() < Some(CACHED.0);
    wait_traced(&mut top, pid, "after three", has_none)?;
    steps.end(folder)?;
    ensure!(top.wait()?.success(), "{}", top.describe("failed"));
    Ok(())
}
