//! git: many short runs, libraries, and much that it never frees.

use crate::sanity;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{heaptrace, programs::installed, running::Running, session::Start};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

const COMMITS: usize = 40;

fn git(repository: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new(installed("git", &["/usr/bin", "/usr/local/bin"])?)
        .args(settings(repository))
        .args(arguments)
        .output()
        .context("failed to run git")?;
    ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// Whatever this user's own configuration says.
fn settings(repository: &Path) -> Vec<String> {
    let repository = repository.display();
    let set = ["user.name=test", "user.email=test@example.invalid", "commit.gpgsign=false", "core.pager=cat"];
    let set = set.into_iter().flat_map(|setting| ["-c".to_owned(), setting.to_owned()]);
    ["-C".to_owned(), repository.to_string()].into_iter().chain(set).collect()
}

pub fn log_of_changes() -> Result<()> {
    let folder = TempDir::new()?;
    let repository = folder.path().join("repository");
    fs::create_dir(&repository)?;
    git(&repository, &["init", "--quiet"])?;
    let mut text = String::new();
    for commit in 0..COMMITS {
        text.push_str(&format!("line {commit}\n").repeat(25));
        fs::write(repository.join(format!("file{}", commit % 7)), &text)?;
        git(&repository, &["add", "."])?;
        git(&repository, &["commit", "--quiet", "-m", &format!("commit {commit}")])?;
    }
    let log = ["log", "--stat", "--patch"];
    let untraced = git(&repository, &log)?.stdout;
    let mut command = heaptrace::command(&["record", "-o"])?;
    command
        .arg(heaptrace::record_file(folder.path()))
        .args(heaptrace::COMMAND)
        .arg(installed("git", &["/usr/bin", "/usr/local/bin"])?)
        .args(settings(&repository))
        .args(log);
    let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
    heaptrace::finish(&mut recorder)?;
    let traced = recorder.stdout();
    ensure!(traced.as_bytes() == untraced, "git said something else while traced");
    let report = heaptrace::report(folder.path())?;
    sanity::check(&report, &sanity::Resident::new(), Start::Command)?;
    ensure!(report.coverage.events > 1000, "{} events", report.coverage.events);
    Ok(())
}
