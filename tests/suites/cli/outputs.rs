//! Where output goes, and where it does not.

use super::{USAGE, as_nobody, ensure_refused, stderr, text};
use anyhow::{Result, ensure};
use heaptrace_tests::{heaptrace, running::Running};
use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

pub fn missing_folder() -> Result<()> {
    let folder = TempDir::new()?;
    let (file, ran) = (folder.path().join("missing/heaptrace.data"), folder.path().join("ran"));
    let output = heaptrace::output(
        &[&["record", "-o", text(&file)?], heaptrace::COMMAND, &["touch", text(&ran)?]].concat(),
    )?;
    ensure_refused(&output, &[1, USAGE], &["missing"])?;
    ensure!(!ran.exists(), "the command ran before the output was looked at");
    Ok(())
}

/// A report of a file that is none, into `output`: what is looked at first is the output.
pub fn report_to(output: &Path) -> Result<Output> {
    heaptrace::output(&["report", "-o", text(output)?, "/dev/null"])
}

pub fn unread_pipe() -> Result<()> {
    let folder = TempDir::new()?;
    let pipe = folder.path().join("pipe");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let output = report_to(&pipe)?;
    ensure!(output.status.code() == Some(1) && stderr(&output).contains("nobody reads this pipe"));
    Ok(())
}

/// Who may load nothing is told of the pipe all the same.
pub fn unread_recording() -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = as_nobody(folder.path())?;
    ensure!(Command::new("mkfifo").args(["-m", "666"]).arg(folder.path().join("pipe")).status()?.success());
    chown(folder.path().join("pipe"), Some(fs::metadata(folder.path())?.uid()), None)?;
    let output = command.args(["record", "-o", "pipe", "--", "true"]).output()?;
    ensure_refused(&output, &[1], &["failed to write pipe: nobody reads this pipe"])
}

pub fn dash() -> Result<()> {
    let folder = TempDir::new()?;
    let own = std::process::id().to_string();
    for format in ["text", "json"] {
        let arguments = ["inspect", &own, "--format", format, "-o", "-"];
        let output = heaptrace::command(&arguments)?.current_dir(folder.path()).output()?;
        ensure!(output.status.success() && !output.stdout.is_empty(), "{}", stderr(&output));
    }
    ensure!(fs::read_dir(folder.path())?.next().is_none(), "it wrote a file");
    Ok(())
}

pub fn linked_recording() -> Result<()> {
    let folder = TempDir::new()?;
    let (pipe, link) = (folder.path().join("pipe"), folder.path().join("heaptrace.data"));
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    std::os::unix::fs::symlink(&pipe, &link)?;
    let mut report =
        Running::spawn(heaptrace::command(&["report", text(&link)?])?, "heaptrace", folder.path())?;
    let status = report.wait_at_most(Duration::from_secs(30))?;
    ensure!(
        !status.success() && report.stderr().contains("a link to what is no file"),
        "{}",
        report.stderr()
    );
    Ok(())
}

pub fn linked_output() -> Result<()> {
    let folder = TempDir::new()?;
    let (link, anothers) = (folder.path().join("link"), folder.path().join("another's"));
    fs::write(&anothers, "kept")?;
    std::os::unix::fs::symlink(&anothers, &link)?;
    // Without a recording nothing is replaced at all.
    ensure!(!report_to(&link)?.status.success() && fs::symlink_metadata(&link)?.is_symlink());
    let own = std::process::id().to_string();
    let output = heaptrace::output(&["inspect", &own, "-o", text(&link)?])?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(fs::read_to_string(&anothers)? == "kept", "it was written through the link");
    let written = fs::symlink_metadata(&link)?;
    ensure!(written.is_file() && written.permissions().mode() & 0o777 == 0o600, "{written:?}");
    ensure!(fs::read_dir(folder.path())?.count() == 2, "something was left");
    Ok(())
}

pub fn named_stdout() -> Result<()> {
    let folder = TempDir::new()?;
    let (file, own) = (folder.path().join("file"), std::process::id().to_string());
    let mut command = heaptrace::command(&["inspect", &own, "-o", "/dev/stdout"])?;
    ensure!(command.stdout(File::create(&file)?).status()?.success());
    ensure!(fs::read_to_string(&file)?.starts_with("process"), "nothing in the file");
    ensure!(fs::symlink_metadata("/dev/stdout")?.is_symlink(), "/dev/stdout was replaced");
    Ok(())
}
