//! `go tool pprof` on the pprof format.

use crate::recorded::{Recorded, printed, sum};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{Program, installed},
    session::Session,
    terminal::Terminal,
};
use std::{path::Path, process::Command};

fn tool(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(installed("go", &["/usr/bin", "/usr/local/go/bin"])?);
    // What it keeps on disk goes where the test's files are.
    command.env("HOME", folder).env("PPROF_TMPDIR", folder).args(["tool", "pprof"]).args(arguments);
    printed(&mut command)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's name is not UTF-8")
}

pub fn shown() -> Result<()> {
    let recorded = Recorded::get()?;
    let (file, report) = (recorded.export("heap.pb.gz", &[])?, recorded.json()?);
    let process = recorded.process(&report)?;
    let file = text(&file)?;
    for (sample_type, unit, expected) in [
        ("alloc_objects", "", process.alloc_count),
        ("alloc_space", "B", process.alloc_bytes),
        ("inuse_objects", "", process.live_count),
        ("inuse_space", "B", process.live_bytes),
    ] {
        let sample_index = format!("-sample_index={sample_type}");
        let in_unit = if unit.is_empty() { "-unit=count" } else { "-unit=B" };
        let top = tool(recorded.folder(), &["-top", in_unit, "-nodefraction=0", &sample_index, file])?;
        let total = format!("Showing nodes accounting for {expected}{unit}, 100% of {expected}{unit} total");
        ensure!(top.contains(&total), "{total} is not in {top}");
    }
    let top = tool(recorded.folder(), &["-top", "-unit=B", "-nodefraction=0", file])?;
    ensure!(top.contains("Type: inuse_space"), "{top}");
    // All that the recursive function allocated, itself and by what it calls, and nothing twice.
    let recursive: u64 = (0..=7).map(|depth| 1009 + 2 * depth).sum();
    let row = top.lines().find(|line| line.ends_with(" recursive")).context("no recursive function")?;
    ensure!(row.contains(&format!(" {recursive}B ")), "{row:?} has no {recursive}");

    let raw = tool(recorded.folder(), &["-raw", file])?;
    for part in [
        "PeriodType: space bytes\nPeriod: 1\n",
        "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes[dflt]",
        "comm:[shaped]",
        &format!("pid:[{}]", recorded.pid),
        "shaped.c:",
        "Comment: no losses",
    ] {
        ensure!(raw.contains(part), "{part:?} is not in {raw}");
    }
    Ok(())
}

/// The total of a sample type, of what is shown.
fn total(recorded: &Recorded, file: &str, sample_type: &str, options: &[&str]) -> Result<u64> {
    let sample_index = format!("-sample_index={sample_type}");
    let arguments = [&["-top", "-unit=B", "-nodefraction=0", &sample_index], options, &[file]].concat();
    let top = tool(recorded.folder(), &arguments)?;
    let shown = top.split_once("Showing nodes accounting for ").and_then(|(_, shown)| shown.split_once(','));
    let bytes = shown.and_then(|(bytes, _)| bytes.trim_end_matches('B').parse().ok());
    bytes.with_context(|| format!("no total in {top}"))
}

/// Parent and children, which share stacks.
pub fn several(recorded: &Recorded) -> Result<()> {
    let (file, report) = (recorded.export("heap.pb.gz", &[])?, recorded.json()?);
    let file = text(&file)?;
    let all = total(recorded, file, "alloc_space", &[])?;
    ensure!(all == sum(&report, |process| process.alloc_bytes), "{all} bytes in all");
    for process in &report.processes {
        let focus = format!("-tagfocus=pid={}", process.pid);
        let bytes = total(recorded, file, "alloc_space", &[&focus])?;
        ensure!(bytes == process.alloc_bytes, "{bytes} bytes of process {}", process.pid);
    }
    Ok(())
}

/// What samples stand for.
pub fn sampled() -> Result<()> {
    let session = Session::new(Program::C("mixed"), &["5000"]).options(&["--sample", "32k"]);
    let recorded = Recorded::of(&session)?;
    let (file, report) = (recorded.export("heap.pb.gz", &["--view", "alloc"])?, recorded.json()?);
    let file = text(&file)?;
    let raw = tool(recorded.folder(), &["-raw", file])?;
    for part in
        ["Period: 32768\n", "alloc_space/bytes[dflt]", "estimates, made from samples", "live is a bound"]
    {
        ensure!(raw.contains(part), "{part:?} is not in {raw}");
    }
    let all = total(&recorded, file, "alloc_space", &[])?;
    ensure!(all > 0 && all == sum(&report, |process| process.alloc_bytes), "{all} bytes in all");
    Ok(())
}

pub fn compared() -> Result<()> {
    let recorded = Recorded::get()?;
    let file = recorded.export("same.pprof", &[])?;
    let file = text(&file)?;
    let top = tool(recorded.folder(), &["-top", "-unit=B", "-diff_base", file, file])?;
    ensure!(top.contains("Showing nodes accounting for 0, 0% of "), "{top}");
    Ok(())
}

pub fn refused() -> Result<()> {
    let recorded = Recorded::get()?;
    let file = heaptrace::record_file(recorded.folder());
    for view in ["rss", "sizes"] {
        let output = heaptrace::output(&["report", text(&file)?, "--format", "pprof", "--view", view])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && said.contains("it is for --format text and html and json"),
            "{said}"
        );
    }
    Ok(())
}

/// A profile is no text.
pub fn on_terminal() -> Result<()> {
    let recorded = Recorded::get()?;
    let mut command = heaptrace::command(&["report", "--format", "pprof"])?;
    command.arg(heaptrace::record_file(recorded.folder()));
    let mut terminal = Terminal::run(command, (100, 24))?;
    terminal.wait_for_text("--format pprof is no text for a terminal")?;
    Ok(())
}
