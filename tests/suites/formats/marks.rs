//! `heaptrace mark` while a recording runs.

use crate::{page, recorded::PEAK};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::Program,
    running::{PATIENCE, wait_until},
    session::{Waiting, ledger_file},
};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};
use tempfile::TempDir;

/// The first block of the peak is kept, and the others are freed.
const KEPT: u64 = 30_011;

fn json(folder: &Path, options: &[&str]) -> Result<Value> {
    let mut command = heaptrace::command(&[&["report", "--format", "json"], options].concat())?;
    let output = command.arg(heaptrace::record_file(folder)).output()?;
    ensure!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Marks in the recording by this process alone: others of the machine are none of ours.
fn mark(pid: u32, name: &str) -> Result<std::process::Output> {
    heaptrace::output(&["mark", "--pid", &pid.to_string(), name])
}

fn has_mark(folder: &Path, name: &str) -> Result<bool> {
    // Of a file that is written to meanwhile, which has nothing at first.
    let Ok(report) = json(folder, &[]) else { return Ok(false) };
    let notes = report["coverage"]["notes"].as_array().context("no notes")?;
    Ok(notes
        .iter()
        .any(|note| note.as_str().is_some_and(|note| note.starts_with(&format!("mark {name} at ")))))
}

fn sum(report: &Value, function: &str, key: &str) -> Result<u64> {
    let sites = report["sites"].as_array().context("no sites")?;
    let of = sites.iter().filter(|site| site["stack"][0]["symbol"] == function);
    Ok(of.filter_map(|site| site[key].as_u64()).sum())
}

pub fn between() -> Result<()> {
    let folder = TempDir::new()?;
    let seen = folder.path().join("peak-seen");
    let mut command = Command::new(Program::C("shaped").compile()?);
    command.env("LEDGER_OUT", ledger_file(folder.path())).env("PEAK_SEEN", &seen);
    heaptrace::binary()?;
    let mut waiting = Waiting::start(command, folder.path())?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder.path())?;
    let by = recorder.pid();
    let socket = format!("/run/heaptrace/{by}.sock");
    ensure!(
        fs::symlink_metadata("/run/heaptrace")?.permissions().mode() & 0o777 == 0o700,
        "others can look in"
    );
    for (name, wait) in [("begun", false), ("full \u{e9}", true)] {
        if wait {
            waiting.go()?;
            wait_until(PATIENCE, || {
                let report = json(folder.path(), &[]).ok();
                Ok(report.is_some_and(|report| report["processes"][0]["live_bytes"].as_u64() > Some(PEAK)))
            })
            .context("the peak came into no recording")?;
        }
        let output = mark(by, name)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && said.contains("marked in 1 recording"), "{said}");
        wait_until(PATIENCE, || has_mark(folder.path(), name)).context("the mark came into no recording")?;
    }
    fs::write(&seen, "")?;
    ensure!(waiting.target.wait()?.success(), "{}", waiting.target.describe("did not end well"));
    heaptrace::finish(&mut recorder)?;
    ensure!(!Path::new(&socket).exists(), "{socket} was left");

    let peak: u64 = (0..61).map(|n| KEPT + 2 * n).sum();
    let before = json(folder.path(), &["--at", "begun"])?;
    ensure!(sum(&before, "site_peak", "live_bytes")? == 0, "{}", before["part"]);
    let span = json(folder.path(), &["--from", "begun", "--to", "full \u{e9}"])?;
    ensure!(span["part"]["kind"] == "span", "{}", span["part"]);
    ensure!(sum(&span, "site_peak", "live_bytes")? == peak, "{}", span["part"]);
    let after = json(folder.path(), &["--view", "alloc", "--from", "full \u{e9}"])?;
    ensure!(sum(&after, "site_peak", "alloc_bytes")? == 0, "{}", after["part"]);
    ensure!(after["part"]["shrank"]["bytes"].as_u64() >= Some(peak - KEPT), "{}", after["part"]);

    if page::missing().is_none() {
        page::drive("marks", folder.path())?;
    }

    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::command(&["report", "--from", "nowhere"])?.arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(2) && said.contains("has no mark nowhere; it has begun, full"),
        "{said}"
    );
    // Nobody records there any more.
    let output = mark(by, "late")?;
    ensure!(output.status.code() == Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
