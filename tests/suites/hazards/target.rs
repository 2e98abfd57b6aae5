//! What every hazard is shown by: a program that waits, is attached to, and ends well; or a refusal that leaves it
//! alone.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    compare::{self, Find},
    heaptrace,
    ledger::Ledger,
    programs::Program,
    running::Running,
    session::{self, Outcome, Waiting},
};
use std::{
    path::Path,
    process::{Command, Output},
};

/// What the program `plain` ends with.
pub const PLAIN_ENDS: i32 = 23;

const CANNOT_TRACE: i32 = 4;

/// A command that runs a test program with its ledger in `folder`.
pub fn command(program: &Path, folder: &Path) -> Command {
    with_ledger(Command::new(program), folder)
}

/// The same by way of another program.
pub fn with_ledger(mut command: Command, folder: &Path) -> Command {
    command.env("LEDGER_OUT", session::ledger_file(folder));
    command
}

/// A `plain` program of this build that waits.
pub fn plain(program: Program, folder: &Path) -> Result<Waiting> {
    Waiting::start(command(&program.compile()?, folder), folder)
}

/// Traces the waiting process `pid` until it ends, which it must do as untraced, and holds the report against its
/// ledger. `known_as` is the PID that it has in its own eyes.
pub fn survives(mut waiting: Waiting, pid: u32, known_as: u32, folder: &Path) -> Result<Outcome> {
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    ensure!(code::changed_bytes(pid)? > 0, "heaptrace says it is tracing, and no code was changed");
    waiting.go()?;
    let outcome = ends_well(&mut waiting.target, &mut recorder, pid, known_as, folder)?;
    compare::exactly(&outcome, Find::Caller)?;
    Ok(outcome)
}

/// Waits for the program's and the recorder's end, and reads what they wrote.
pub fn ends_well(
    target: &mut Running,
    recorder: &mut Running,
    pid: u32,
    known_as: u32,
    folder: &Path,
) -> Result<Outcome> {
    let status = target.wait()?;
    ensure!(status.code() == Some(PLAIN_ENDS), "{}", target.describe(&format!("ended with {status}")));
    heaptrace::finish(recorder)?;
    outcome(pid, known_as, folder)
}

/// What the recording and the ledger in `folder` say of process `pid`.
pub fn outcome(pid: u32, known_as: u32, folder: &Path) -> Result<Outcome> {
    let mut ledger = Ledger::read(&session::ledger_file(folder))?;
    let own = ledger.0.remove(&known_as).context("the program wrote no ledger under its PID")?;
    ledger.0.insert(pid, own);
    Ok(Outcome { report: heaptrace::report(folder)?, ledger, target: None })
}

/// Asks for the waiting process `pid`: it must be refused with each of `words`, and go on unharmed.
pub fn is_refused(mut waiting: Waiting, pid: u32, words: &[&str], folder: &Path) -> Result<()> {
    let file = heaptrace::record_file(folder);
    let output = heaptrace::command(&["record", "-p", &pid.to_string(), "-o"])?.arg(&file).output()?;
    ensure_refused(&output, words)?;
    ensure!(code::changed_bytes(pid)? == 0, "it was refused, and its code is changed");
    ensure!(!file.exists(), "it was refused, and there is a recording");
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(PLAIN_ENDS), "the target ended with {status}");
    Ok(())
}

/// Asks for `program` to be started: it must be refused with each of `words`, and not run.
pub fn is_not_started(program: &Path, words: &[&str], folder: &Path) -> Result<()> {
    let mut command = with_ledger(heaptrace::command(&["record", "-o"])?, folder);
    let output =
        command.arg(heaptrace::record_file(folder)).args(heaptrace::COMMAND).arg(program).output()?;
    ensure_refused(&output, words)?;
    ensure!(!session::ledger_file(folder).exists(), "it was refused, and ran");
    Ok(())
}

/// Exit code 4, and each of `words` said.
pub fn ensure_refused(output: &Output, words: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    ensure!(status.code() == Some(CANNOT_TRACE), "ended with {status}, not {CANNOT_TRACE}; said {said}");
    for word in words {
        ensure!(said.contains(word), "should say {word:?}; said {said}");
    }
    Ok(())
}

/// Records `program` from its first instruction; gives its PID by the ledger, where there is one.
pub fn record_command(mut recorder: Command, program: &[&Path], folder: &Path) -> Result<(u32, Outcome)> {
    recorder
        .arg("--propagate-exit")
        .arg("-o")
        .arg(heaptrace::record_file(folder))
        .args(heaptrace::COMMAND)
        .args(program);
    let mut recorder = Running::spawn(with_ledger(recorder, folder), "heaptrace", folder)?;
    let status = recorder.wait()?;
    ensure!(status.code() == Some(PLAIN_ENDS), "{}", recorder.describe(&format!("ended with {status}")));
    let ledger = Ledger::read(&session::ledger_file(folder))?;
    let pid = *ledger.0.keys().next().context("there is no ledger")?;
    Ok((pid, outcome(pid, pid, folder)?))
}

/// Records `program` from its first instruction, and holds the report against its ledger.
pub fn starts(program: &Path, folder: &Path) -> Result<()> {
    let (_, outcome) = record_command(heaptrace::command(&["record"])?, &[program], folder)?;
    compare::exactly(&outcome, Find::Caller)
}
