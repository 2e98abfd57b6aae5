//! What a person types, and what is answered where it is not what was meant.

use super::{CANNOT_TRACE, USAGE, ensure_refused, recordings, stderr, text};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::Program,
    report::Report,
    running::{PATIENCE, wait_until},
};
use std::{
    fs,
    process::{Child, Command},
};
use tempfile::TempDir;

/// A process of a name that no program has.
struct Napping {
    _folder: TempDir,
    child: Child,
}

impl Napping {
    const NAME: &str = "heaptrace-naps";

    fn start() -> Result<Self> {
        let folder = TempDir::new()?;
        let program = folder.path().join(Self::NAME);
        fs::copy("/bin/sleep", &program)?;
        let napping = Self { child: Command::new(&program).arg("1000").spawn()?, _folder: folder };
        let comm = format!("/proc/{}/comm", napping.child.id());
        wait_until(PATIENCE, || Ok(fs::read_to_string(&comm)?.trim_end() == Self::NAME))?;
        Ok(napping)
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Napping {
    fn drop(&mut self) {
        // Nothing to be done about errors here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A PID that no process has.
fn nobody() -> Result<String> {
    let mut ended = Command::new("true").spawn()?;
    ended.wait()?;
    Ok(ended.id().to_string())
}

pub fn no_dashes() -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::C("family").compile()?;
    let file = heaptrace::record_file(folder.path());
    for command in [&["record", "-o", text(&file)?][..], &["stat"], &["leaks", "--older-than", "0s"]] {
        let arguments = [command, &["--no-exact-children", text(&program)?, "1", "10"]].concat();
        let output = heaptrace::output(&arguments)?;
        ensure!(output.status.success(), "{arguments:?} ended with {}: {}", output.status, stderr(&output));
        ensure!(stderr(&output).contains("the command exited with code 0"), "{}", stderr(&output));
    }
    let output = recordings::json_report(&file)?;
    let report: Report = serde_json::from_slice(&output.stdout).context("a report that is none")?;
    ensure!(report.coverage.events > 0, "nothing was recorded");
    Ok(())
}

pub fn running_in_place_of_a_command() -> Result<()> {
    let napping = Napping::start()?;
    let (pid, name) = (napping.pid(), Napping::NAME);
    let (by_pid, by_name) = (format!("-p {pid}"), format!("--comm {name}"));
    for (word, option) in [(pid.as_str(), &by_pid), (name, &by_name)] {
        let output = heaptrace::output(&[word])?;
        ensure_refused(&output, &[USAGE], &["is running", &format!("heaptrace record {option}")])?;
        for command in ["record", "stat", "leaks", "watch"] {
            let output = heaptrace::output(&[command, word])?;
            let typed = format!("heaptrace {command} {option}");
            ensure_refused(&output, &[CANNOT_TRACE], &["command not found", &typed])?;
        }
    }
    let output = heaptrace::output(&["record", &nobody()?])?;
    ensure_refused(&output, &[CANNOT_TRACE], &["command not found", "there is no process"])?;
    ensure_refused(&heaptrace::output(&["recrod"])?, &[USAGE], &["'record'"])
}

pub fn one_process() -> Result<()> {
    let napping = Napping::start()?;
    let pid = napping.pid();
    for command in ["inspect", "doctor"] {
        for words in [&[pid.as_str()][..], &["-p", &pid], &["--pid", &pid]] {
            let output = heaptrace::output(&[&[command, "--format", "json"], words].concat())?;
            let found: serde_json::Value =
                serde_json::from_slice(&output.stdout).with_context(|| stderr(&output))?;
            let of = if command == "doctor" { &found["process"] } else { &found };
            ensure!(of["pid"] == napping.child.id(), "{command} {words:?}: {of}");
        }
    }
    Ok(())
}
