//! One program, untraced and traced: how it ends, what it prints and what it allocates must be the same.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    heaptrace,
    ledger::Ledger,
    running::Running,
    session::{Outcome, Start, Waiting, ledger_file, no_core_dump},
};
use std::{
    ffi::OsString,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};
use tempfile::TempDir;

/// A program to be run.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The program and its arguments.
    pub line: Vec<OsString>,
    pub environment: Vec<(&'static str, OsString)>,
    /// What it ends with, as a shell says it: 128 and the signal's number if it is killed.
    pub ends: i32,
    /// Addresses are not random: some runtimes want that, or cannot start.
    pub fixed_addresses: bool,
}

/// How a program ended, and what it printed, without what is another at each run.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Subject {
    pub fn new(program: PathBuf, arguments: &[&str], ends: i32) -> Self {
        let line = std::iter::once(program.into()).chain(arguments.iter().map(OsString::from)).collect();
        Self { line, ends, ..Self::default() }
    }

    #[must_use]
    pub fn environment(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    #[must_use]
    pub fn fixed_addresses(self) -> Self {
        Self { fixed_addresses: true, ..self }
    }

    /// Runs it untraced, with the same handshake as when it is traced in this way. `folder` gets what it leaves.
    pub fn untraced(&self, start: Start, folder: &Path) -> Result<Ending> {
        let command = self.prepare(Command::new(&self.line[0]), &self.line[1..], folder);
        let mut target = match start {
            Start::Command => Running::spawn(command, "target", folder)?,
            Start::Attach => {
                let waiting = Waiting::start(command, folder)?;
                waiting.go()?;
                waiting.target
            }
        };
        let ending = ending(target.wait()?, &target, folder)?;
        ensure!(
            ending.code == self.ends,
            "untraced, it ends with {}, not {}: {ending:?}",
            ending.code,
            self.ends
        );
        Ok(ending)
    }

    /// Records it; gives how it ended, and its PID where the harness was its parent.
    pub fn traced(&self, start: Start, folder: &Path) -> Result<(Ending, Option<(u32, ExitStatus)>)> {
        match start {
            Start::Command => {
                let mut recorder = heaptrace::command(&["record", "--propagate-exit", "-o"])?;
                recorder.arg(heaptrace::record_file(folder)).arg("--");
                let command = self.prepare(recorder, &self.line, folder);
                let mut recorder = Running::spawn(command, "heaptrace", folder)?;
                let status = recorder.wait()?;
                Ok((ending(status, &recorder, folder)?, None))
            }
            Start::Attach => {
                let command = self.prepare(Command::new(&self.line[0]), &self.line[1..], folder);
                let mut waiting = Waiting::start(command, folder)?;
                let pid = waiting.target.pid();
                let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
                waiting.go()?;
                let status = waiting.target.wait()?;
                heaptrace::finish(&mut recorder)?;
                Ok((ending(status, &waiting.target, folder)?, Some((pid, status))))
            }
        }
    }

    /// Runs it untraced and traced in `folder`'s two halves, and fails unless it ends and prints the same.
    pub fn same_in(&self, start: Start, folder: &Path) -> Result<Option<(u32, ExitStatus)>> {
        let (without, with) = halves(folder);
        for half in [&without, &with] {
            std::fs::create_dir(half).context("failed to create a folder")?;
        }
        let expected = self.untraced(start, &without)?;
        let (found, target) = self.traced(start, &with)?;
        if found == expected {
            return Ok(target);
        }
        let differ = |what: &str, expected: &str, found: &str| match expected == found {
            true => String::new(),
            false => format!("\n--- {what} untraced\n{expected}\n--- {what} traced\n{found}"),
        };
        bail!(
            "traced, it ends with {}, untraced with {}{}{}",
            found.code,
            expected.code,
            differ("stdout", &expected.stdout, &found.stdout),
            differ("stderr", &expected.stderr, &found.stderr)
        )
    }

    /// The same; also fails unless it allocated the same, and reads what was recorded.
    pub fn outcome_in(&self, start: Start, folder: &Path) -> Result<Outcome> {
        let target = self.same_in(start, folder)?;
        let (without, with) = halves(folder);
        let ledger = Ledger::read(&ledger_file(&with))?;
        let sites =
            |ledger: &Ledger| ledger.0.values().map(|process| process.sites.clone()).collect::<Vec<_>>();
        let (expected, found) = (sites(&Ledger::read(&ledger_file(&without))?), sites(&ledger));
        ensure!(expected == found, "the program did something else: {found:?}, untraced {expected:?}");
        Ok(Outcome { report: heaptrace::report(&with)?, ledger, target })
    }

    /// The same; also fails unless the report is exact.
    pub fn exact(&self, start: Start, find: Find) -> Result<()> {
        let folder = TempDir::new()?;
        compare::exactly(&self.outcome_in(start, folder.path())?, find)
    }

    fn prepare(&self, mut command: Command, arguments: &[OsString], folder: &Path) -> Command {
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, in_folder(value, folder))))
            .env("LEDGER_OUT", ledger_file(folder));
        no_core_dump(&mut command);
        if self.fixed_addresses {
            // SAFETY: personality is async-signal-safe and touches nothing of this process.
            unsafe {
                command.pre_exec(|| match libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) {
                    -1 => Err(std::io::Error::last_os_error()),
                    _ => Ok(()),
                });
            }
        }
        command
    }
}

/// In the value of a variable: the folder of the run.
pub const FOLDER: &str = "@FOLDER@";

fn in_folder(value: &OsString, folder: &Path) -> OsString {
    value.to_string_lossy().replace(FOLDER, &folder.display().to_string()).into()
}

/// Where the untraced and the traced program leave what they write.
pub fn halves(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("untraced"), folder.join("traced"))
}

fn ending(status: ExitStatus, of: &Running, folder: &Path) -> Result<Ending> {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).context("no exit status")?;
    let own = |text: String| {
        let lines = text.lines().filter(|line| !line.starts_with("heaptrace: "));
        normalised(&lines.collect::<Vec<_>>().join("\n"), folder)
    };
    Ok(Ending { code, stdout: own(of.stdout()), stderr: own(of.stderr()) })
}

/// Without the addresses, the IDs and the folder of this run. Offsets in files (`+0x1234`) stay.
fn normalised(text: &str, folder: &Path) -> String {
    let text = text.replace(&folder.display().to_string(), "FOLDER");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(next) = rest.chars().next() {
        let digits = |rest: &str, radix: u32| rest.chars().take_while(|c| c.is_digit(radix)).count();
        if let Some(hex) = rest.strip_prefix("0x")
            && !out.ends_with('+')
        {
            out.push_str("0x?");
            rest = &hex[digits(hex, 16)..];
        } else if let Some(word) = ["==", "pid=", "tid="].into_iter().find(|word| rest.starts_with(word)) {
            out.push_str(word);
            rest = &rest[word.len()..];
            let length = digits(rest, 10);
            out.push_str(if length > 0 { "?" } else { "" });
            rest = &rest[length..];
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}
