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
use std::{fs, process::Command};
use tempfile::TempDir;

pub fn usage() -> Result<()> {
    for (options, said) in [
        (&["--sort", "nothing"][..], "columns are pid, user, mem"),
        (&["--filter", "rss>1"], "there is no column rss"),
        (&["--interval", "0s"], "expected a time above 0"),
        (&["--trace"], "--pid"),
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

pub fn traced_json() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut command =
        heaptrace::command(&["top", "--trace", "--format", "json", "-i", "50ms", "-p", &pid.to_string()])?;
    command.current_dir(folder);
    let mut top = Running::spawn(command, "heaptrace", folder)?;
    let last = |top: &Running| -> Option<Value> {
        let text = top.stdout();
        let whole = &text[..text.rfind('\n')?];
        serde_json::from_str(whole.lines().last()?).ok()
    };
    let mut wait = |what: &str, amount: (u64, u64)| -> Result<Value> {
        let mut found = Value::Null;
        wait_until(PATIENCE, || {
            let print = last(&top).unwrap_or_default();
            let traced = process(&print, pid).map(|process| process["traced"].clone()).unwrap_or_default();
            if (traced["live_bytes"].as_u64(), traced["live_count"].as_u64())
                == (Some(amount.0), Some(amount.1))
            {
                found = traced;
            }
            ensure!(top.poll()?.is_none(), "{}", top.describe("ended"));
            Ok(!found.is_null())
        })
        .with_context(|| format!("no print {what}; the last: {:?}", last(&top)))?;
        Ok(found)
    };
    wait("before", (0, 0))?;
    steps.step(1, folder)?;
    let first = wait("after a step", (LEAKED.0 + CACHED.0, LEAKED.1 + CACHED.1))?;
    ensure!((number(&first, "alloc_count")?, number(&first, "free_count")?) == (29, 12), "{first}");
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
