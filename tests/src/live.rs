//! Runs of the commands that print while they trace (`stat`, `leaks`), and what they print, as JSON.

use crate::{
    heaptrace,
    ledger::Ledger,
    programs::Program,
    running::{Running, wait_while_running},
    session::{copy_libc, ledger_file, own_libraries},
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};
use tempfile::TempDir;

/// One run. Its prints go to a file.
pub struct Live {
    pub run: Running,
    output: PathBuf,
}

impl Live {
    /// `heaptrace COMMAND OPTIONS` on running processes; returns once it is tracing.
    pub fn attach(command: &str, pids: &[u32], options: &[&str], folder: &Path) -> Result<Self> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let (mut line, output) = line(command, options, folder)?;
        line.args(["-p", &pids.join(",")]);
        Self::start(line, output, folder)
    }

    /// `heaptrace COMMAND OPTIONS -- PROGRAM ARGUMENTS`.
    pub fn command(
        command: &str,
        options: &[&str],
        folder: &Path,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let (mut line, output) = line(command, options, folder)?;
        // watch probes nothing.
        let before = if command == "watch" { &["--"] } else { heaptrace::before_command(options) };
        line.args(before).arg(program).args(arguments).envs(environment.iter().copied());
        Self::start(line, output, folder)
    }

    /// The same with options that name the target in another way; returns once it is tracing.
    pub fn with(command: &str, options: &[&str], folder: &Path) -> Result<Self> {
        let (line, output) = line(command, options, folder)?;
        Self::start(line, output, folder)
    }

    fn start(line: Command, output: PathBuf, folder: &Path) -> Result<Self> {
        let mut run = Running::spawn(line, "heaptrace", folder)?;
        run.wait_for_line("heaptrace: tracing")?;
        Ok(Self { run, output })
    }

    /// The prints so far.
    pub fn prints(&self) -> Result<Vec<Value>> {
        prints_in(&self.output)
    }

    /// Waits for a print, after the first `skip` ones, that `wanted` accepts; gives all up to that one.
    pub fn wait_for_print(
        &mut self,
        what: &str,
        skip: usize,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Vec<Value>> {
        let output = self.output.clone();
        let mut found = Vec::new();
        let mut failure = None;
        wait_while_running(&mut self.run, &format!("print {what}"), || {
            match prints_in(&output) {
                Ok(prints) => found = prints,
                Err(error) => failure = Some(error),
            }
            failure.is_some() || found.iter().skip(skip).any(&mut wanted)
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let end = found.iter().skip(skip).position(&mut wanted).context("the print is gone")?;
        found.truncate(skip + end + 1);
        Ok(found)
    }

    /// Waits for the end, which must be `code`; gives all prints.
    pub fn finish(mut self, code: i32) -> Result<Vec<Value>> {
        let status: ExitStatus = self.run.wait()?;
        ensure!(status.code() == Some(code), "{}", self.run.describe(&format!("ended with {status}")));
        self.prints()
    }
}

/// `heaptrace COMMAND --exact-children OPTIONS` on a program that forks, with a C library that nobody else maps. Gives
/// the prints, and the ledgers of the two processes.
pub fn exact_children(command: &str, options: &[&str]) -> Result<(Vec<Value>, Ledger)> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    copy_libc(folder)?;
    let (name, path) = own_libraries(folder).context("no libraries of its own")?;
    let ledger = ledger_file(folder);
    let environment = [("LEDGER_OUT", ledger.as_os_str()), (name, path.as_os_str())];
    let program = Program::C("process").compile()?;
    let options = [&["--exact-children"], options].concat();
    let prints = Live::command(command, &options, folder, &program, &["fork"], &environment)?.finish(0)?;
    let ledger = Ledger::read(&ledger)?;
    ensure!(ledger.0.len() == 2, "{} processes keep a ledger", ledger.0.len());
    Ok((prints, ledger))
}

fn prints_in(output: &Path) -> Result<Vec<Value>> {
    // The file is there from the first print on.
    let text = match fs::read_to_string(output) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.context("no prints")?,
    };
    // A line that is being written is no line yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).context("a print is no JSON")).collect()
}

fn line(command: &str, options: &[&str], folder: &Path) -> Result<(Command, PathBuf)> {
    let output = folder.join("prints");
    let mut line = heaptrace::command(&[command, "--format", "json", "-o"])?;
    line.arg(&output).args(options);
    Ok((line, output))
}

/// The number at `path` (`a.b`), which must be there.
pub fn number(of: &Value, path: &str) -> Result<u64> {
    let value = path.split('.').fold(of, |value, key| &value[key]);
    value.as_u64().with_context(|| format!("{path} is {value}, no number"))
}

/// The elements of the list at `key`.
pub fn list<'a>(of: &'a Value, key: &str) -> Result<&'a [Value]> {
    of[key].as_array().map(Vec::as_slice).with_context(|| format!("{key} is no list"))
}
