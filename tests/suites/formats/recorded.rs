//! One recording, which all tests read: of a program that has a peak, which is in the recording before it goes on.

use anyhow::{Context as _, Result, anyhow, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::Program,
    report::{Process, Report},
    running::{PATIENCE, wait_until},
    session::{Session, Start, Waiting, ledger_file},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};
use tempfile::TempDir;

/// What the program `shaped` holds at its peak at least.
pub const PEAK: u64 = 61 * 30_011;

/// See the module.
pub struct Recorded {
    folder: TempDir,
    pub pid: u32,
}

impl Recorded {
    /// The recording, made when it is first asked for.
    pub fn get() -> Result<&'static Self> {
        static RECORDED: OnceLock<Result<Recorded, String>> = OnceLock::new();
        let recorded = RECORDED.get_or_init(|| Self::record().map_err(|error| format!("{error:#}")));
        recorded.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn record() -> Result<Self> {
        let folder = TempDir::new()?;
        let seen = folder.path().join("peak-seen");
        let mut command = Command::new(Program::C("shaped").compile()?);
        command.env("LEDGER_OUT", ledger_file(folder.path())).env("PEAK_SEEN", &seen);
        let mut waiting = Waiting::start(command, folder.path())?;
        let pid = waiting.target.pid();
        let mut recorder = heaptrace::attach(&[pid], &[], folder.path())?;
        // Its first state is from before the peak.
        wait_until(PATIENCE, || {
            let report = heaptrace::view(folder.path(), "live").ok();
            Ok(report.is_some_and(|report| report.process(pid).is_some()))
        })
        .context("the recording has no first state")?;
        waiting.go()?;
        wait_until(PATIENCE, || {
            // Of a file that is written to meanwhile, which has nothing at first.
            let report = heaptrace::view(folder.path(), "live").ok();
            Ok(report.is_some_and(|report| report.process(pid).is_some_and(|of| of.live_bytes > PEAK)))
        })
        .context("the peak came into no recording")?;
        fs::write(&seen, "")?;
        ensure!(waiting.target.wait()?.success(), "{}", waiting.target.describe("did not end well"));
        heaptrace::finish(&mut recorder)?;
        Ok(Self { folder, pid })
    }

    /// A recording of another command, whose PID is not known.
    pub fn of(session: &Session) -> Result<Self> {
        let folder = TempDir::new()?;
        session.record_in(Start::Command, folder.path())?;
        Ok(Self { folder, pid: 0 })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The JSON report, which all others are to agree with.
    pub fn json(&self) -> Result<Report> {
        heaptrace::view(self.folder(), "live")
    }

    /// Has `heaptrace report` write the file `name`, in the format that its name stands for.
    pub fn export(&self, name: &str, options: &[&str]) -> Result<PathBuf> {
        let file = self.folder().join(name);
        let output = heaptrace::command(&["report", "-o"])?
            .arg(&file)
            .args(options)
            .arg(heaptrace::record_file(self.folder()))
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(file)
    }

    /// The program in the JSON report.
    pub fn process<'a>(&self, report: &'a Report) -> Result<&'a Process> {
        let process = report.process(self.pid).context("the program is not in the report")?;
        ensure!(process.live_bytes > 0 && process.free_bytes > PEAK / 2, "nothing to compare: {process:?}");
        Ok(process)
    }
}

/// What is in a file of JSON.
pub fn json(file: &Path) -> Result<Value> {
    serde_json::from_slice(&fs::read(file)?).with_context(|| format!("{} is no JSON", file.display()))
}

/// What all processes come to.
pub fn sum(report: &Report, of: fn(&Process) -> u64) -> u64 {
    report.processes.iter().map(of).sum()
}

/// What a consumer prints.
pub fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
