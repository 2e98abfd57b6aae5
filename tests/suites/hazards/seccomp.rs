//! Processes that forbid themselves system calls: probes make none of their own.

use super::target;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    programs::Program,
    runner::{Test, end_to_end},
    running::{PATIENCE, wait_until},
    session::{Session, Start, Waiting},
};
use std::{fs, os::unix::process::ExitStatusExt as _};
use tempfile::TempDir;

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        end_to_end("the filter of the seccomp tests kills", filter_bites),
        end_to_end("attach: strict seccomp", strict_attached),
        end_to_end("command: strict seccomp", || filtered("strict", Start::Command, &[])),
        end_to_end("attach: a seccomp filter", || filtered("filter", Start::Attach, &[])),
        end_to_end("command: a seccomp filter that is set while tracing", || {
            filtered("filter", Start::Command, &[])
        }),
        end_to_end("attach: a seccomp filter that is set while tracing", || {
            filtered("late", Start::Attach, &[])
        }),
    ];
    for start in Start::BOTH {
        tests.push(end_to_end(format!("{}: a seccomp filter, --exact-children", start.name()), move || {
            filtered("filter", start, &["--exact-children"])
        }));
    }
    tests
}

fn filter_bites() -> Result<()> {
    let status = Session::new(Program::C("filtered"), &["bite"]).untraced()?;
    ensure!(status.signal() == Some(libc::SIGSYS), "a forbidden call ended it with {status}");
    Ok(())
}

fn filtered(mode: &str, start: Start, options: &[&'static str]) -> Result<()> {
    let session = Session::new(Program::C("filtered"), &[mode]).options(options);
    let untraced = session.untraced()?;
    ensure!(untraced.code() == Some(target::PLAIN_ENDS), "untraced, it ends with {untraced}");
    let folder = TempDir::new()?;
    let outcome = session.record_in(start, folder.path())?;
    match outcome.target {
        Some((_, traced)) => {
            ensure!(traced == untraced, "ended with {traced} under the tracer, with {untraced} without")
        }
        None => {
            let said = fs::read_to_string(folder.path().join("heaptrace.stderr"))?;
            ensure!(said.contains("the command exited with code 23"), "it said {said}");
        }
    }
    compare::exactly(&outcome, Find::Caller)
}

/// The program cannot ask for files any more: it waits in a read, and go is a byte.
fn strict_attached() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = target::command(&Program::C("filtered").compile()?, folder);
    command.arg("strict");
    let waiting = Waiting::start(command, folder)?;
    let pid = waiting.target.pid();
    let status = format!("/proc/{pid}/status");
    wait_until(PATIENCE, || Ok(fs::read_to_string(&status)?.contains("\nSeccomp:\t1\n")))
        .context("it never became strict")?;
    target::survives(waiting, pid, pid, folder)?;
    Ok(())
}
