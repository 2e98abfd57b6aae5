//! `go tool pprof` on the pprof format.

use crate::recorded::{Recorded, printed};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{heaptrace, programs::installed};
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
    let output = heaptrace::output(&["report", text(&file)?, "--format", "pprof", "--view", "rss"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && said.contains("it is for --format text and json"), "{said}");
    Ok(())
}
