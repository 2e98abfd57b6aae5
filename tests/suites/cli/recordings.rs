//! What `report` makes of recordings, damaged and foreign ones among them.

use super::{ensure_refused, stderr, text};
use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::Program,
    report::Report,
    session::{Session, Start},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};
use tempfile::TempDir;

/// A good record file, in a folder.
pub fn recorded() -> Result<(TempDir, PathBuf)> {
    let folder = TempDir::new()?;
    let file = heaptrace::record_file(folder.path());
    let mut command = heaptrace::command(&[&["record", "-o", text(&file)?], heaptrace::COMMAND].concat())?;
    let output = command.arg(Program::C("family").compile()?).args(["1", "10"]).output()?;
    ensure!(output.status.success(), "recording ended with {}: {}", output.status, stderr(&output));
    Ok((folder, file))
}

pub fn json_report(file: &Path) -> Result<Output> {
    heaptrace::output(&["report", text(file)?, "--view", "alloc", "--format", "json"])
}

pub fn finished(output: &Output) -> Result<bool> {
    let report: Report = serde_json::from_slice(&output.stdout).context("a report that is none")?;
    Ok(report.coverage.finished)
}

pub fn truncated() -> Result<()> {
    let (folder, file) = recorded()?;
    let whole = fs::read(&file)?;
    ensure!(finished(&json_report(&file)?)?, "the whole file does not count as finished");
    let cut = folder.path().join("cut.data");
    let eighths = (0..8).map(|part| whole.len() * part / 8);
    for length in eighths.chain([1, 9, 13, whole.len() - 1]).filter(|&length| length < whole.len()) {
        fs::write(&cut, &whole[..length])?;
        let output = json_report(&cut)?;
        match output.status.code() {
            Some(0) => ensure!(!finished(&output)?, "{length} bytes count as a finished recording"),
            _ => ensure_refused(&output, &[1], &["cut.data"])
                .with_context(|| format!("cut to {length} bytes"))?,
        }
    }
    Ok(())
}

pub fn corrupt() -> Result<()> {
    let (folder, file) = recorded()?;
    let whole = fs::read(&file)?;
    let bad = folder.path().join("bad.data");
    // Every header byte, and places all over the rest.
    let places = (0..whole.len()).filter(|at| *at < 24 || at % (whole.len() / 24 + 1) == 0);
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&bad, &bytes)?;
        let output = json_report(&bad)?;
        match output.status.code() {
            Some(0) => {
                ensure!(!finished(&output)?, "byte {at} is wrong and the recording counts as finished")
            }
            _ => {
                ensure_refused(&output, &[1], &["bad.data"]).with_context(|| format!("byte {at} is wrong"))?
            }
        }
    }
    Ok(())
}

pub fn future() -> Result<()> {
    let (_folder, file) = recorded()?;
    let mut bytes = fs::read(&file)?;
    // Eight bytes of magic, then the version, little-endian.
    let Some(version) = bytes.get_mut(8..12) else { bail!("the file has no header") };
    version.copy_from_slice(&9999_u32.to_le_bytes());
    fs::write(&file, bytes)?;
    ensure_refused(&json_report(&file)?, &[1], &["newer", "9999"])
}

pub fn one_process() -> Result<()> {
    let session = Session::new(Program::C("process"), &["fork"]).options(&["--exact-children"]);
    let folder = TempDir::new()?;
    let outcome = session.record_in(Start::Command, folder.path())?;
    ensure!(
        outcome.report.processes.len() == 2,
        "two processes were recorded: {:?}",
        outcome.report.processes
    );
    let pid = outcome.report.processes[0].pid;
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(&["report", text(&file)?, "--format", "json", "--pid", &pid.to_string()])?;
    let report: Report = serde_json::from_slice(&output.stdout).context("a report that is none")?;
    ensure!(report.processes.iter().all(|process| process.pid == pid), "another process is in the report");
    ensure!(!report.sites.is_empty(), "the process has no sites");
    ensure!(report.sites.iter().all(|site| site.pid == pid), "another process's site is in the report");
    Ok(())
}

pub fn formats() -> Result<()> {
    let (folder, file) = recorded()?;
    for (format, sign) in
        [("text", "site_malloc_a"), ("folded", "site_malloc_a"), ("svg", "</svg>"), ("json", "{")]
    {
        let out = folder.path().join(format);
        let arguments = ["report", text(&file)?, "--view", "alloc", "--format", format];
        let output = heaptrace::output(&arguments)?;
        ensure!(output.status.success(), "{format}: {}", stderr(&output));
        let printed = String::from_utf8(output.stdout)?;
        ensure!(printed.contains(sign), "the {format} report has no {sign:?}");
        let to_file = heaptrace::output(&[&arguments[..], &["-o", text(&out)?]].concat())?;
        ensure!(to_file.status.success(), "{format}: {}", stderr(&to_file));
        ensure!(fs::read_to_string(&out)?.contains(sign), "the {format} file has no {sign:?}");
    }
    Ok(())
}
