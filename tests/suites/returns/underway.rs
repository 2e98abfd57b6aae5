//! Calls that are under way when probes come or go: the program goes on, and at most they themselves are not counted.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    compare::{self, Find},
    heaptrace,
    ledger::Ledger,
    programs::Program,
    report::{Report, Site},
    runner::{Test, end_to_end},
    running::{Running, wait_for_file, wait_while_running},
    session::{Outcome, Waiting, ledger_file},
};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

/// What the program `underway` ends with, and its calls that are under way ask for.
const ENDS: i32 = 22;
const SLOW: u64 = 3001;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for function in ["malloc", "realloc"] {
        tests.push(end_to_end(format!("attach: {function} is under way"), move || at_attach(function)));
        tests.push(end_to_end(format!("detach: {function} is under way"), move || at_detach(function)));
        tests.push(end_to_end(
            format!("detach and attach: {function} is under way all the time"),
            move || all_the_time(function),
        ));
    }
    tests
}

fn waiting(when: &str, function: &str, folder: &Path) -> Result<Waiting> {
    let mut command = Command::new(Program::C("underway").compile()?);
    command
        .args([when, function])
        .env("LEDGER_OUT", ledger_file(folder))
        .env("UNDERWAY_INSIDE", folder.join("inside"))
        .env("UNDERWAY_DETACHED", folder.join("detached"));
    Waiting::start(command, folder)
}

/// How often a call that was under way is in the report: it is there as a whole, or not at all.
fn slow_calls(report: &Report, pid: u32) -> Result<u64> {
    let slow = |site: &&Site| site.stack.iter().any(|frame| frame.symbol.as_deref() == Some("slow_call"));
    let found = compare::total(report.sites_of(pid).filter(slow));
    ensure!(
        found.alloc_count <= 1 && found.alloc_bytes == SLOW * found.alloc_count,
        "one call of {SLOW} bytes was under way: {found}"
    );
    Ok(found.alloc_count)
}

fn at_attach(function: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = waiting("attach", function, folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(ENDS), "{}", waiting.target.describe(&format!("ended with {status}")));
    heaptrace::finish(&mut recorder)?;
    let mut outcome = Outcome {
        report: heaptrace::report(folder)?,
        ledger: Ledger::read(&ledger_file(folder))?,
        target: Some((pid, status)),
    };
    let counted = slow_calls(&outcome.report, pid)?;
    // The block is freed; and realloc's return ends a block from before, which may be told.
    let process = outcome.report.processes.iter().find(|process| process.pid == pid).context("no process")?;
    let unknown = process.unknown_frees;
    let least = 1 - counted;
    let most = least + u64::from(function == "realloc");
    ensure!((least..=most).contains(&unknown), "{unknown} unknown frees, {counted} slow calls");
    let ledger = outcome.ledger.0.get_mut(&pid).context("no ledger of the process")?;
    ledger.pre_attach_frees = unknown;
    // Where size and result are seen apart, the result of a call whose beginning was not seen may be told.
    let told = std::mem::take(&mut outcome.report.coverage.unpaired_returns);
    ensure!(told <= 1 - counted, "{told} returns without a call, and one call was under way");
    compare::exactly(&outcome, Find::Caller)
}

/// Ctrl-C, once it is heard: that is a little after the line which says that it ends tracing.
fn interrupt(recorder: &mut Running) -> Result<()> {
    let status = format!("/proc/{}/status", recorder.pid());
    wait_while_running(recorder, "catch SIGINT", || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask >> (libc::SIGINT - 1) & 1 == 1)
    })?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(recorder)
}

/// The report of the half that was traced is what the ledger, written at its end, has.
fn ensure_half(folder: &Path, pid: u32) -> Result<()> {
    let report = heaptrace::report(folder)?;
    compare::nothing_lost(&report)?;
    slow_calls(&report, pid)?;
    let ledger = Ledger::read(&ledger_file(folder))?;
    compare::every_site(&report, pid, ledger.process(pid)?, Find::Caller)
}

fn at_detach(function: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = waiting("detach", function, folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    wait_for_file(&folder.join("inside"), &mut waiting.target)?;
    interrupt(&mut recorder)?;
    ensure!(code::changed_bytes(pid)? == 0, "probes were left behind");
    fs::write(folder.join("detached"), "")?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(ENDS), "{}", waiting.target.describe(&format!("ended with {status}")));
    ensure_half(folder, pid)
}

/// A tracer comes and goes while the call is under way, then another comes and sees the rest.
fn all_the_time(function: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = waiting("attach", function, folder)?;
    let pid = waiting.target.pid();
    for _ in 0..3 {
        let brief = TempDir::new()?;
        let mut recorder = heaptrace::attach(&[pid], &[], brief.path())?;
        interrupt(&mut recorder)?;
        ensure!(code::changed_bytes(pid)? == 0, "probes were left behind");
    }
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(ENDS), "{}", waiting.target.describe(&format!("ended with {status}")));
    heaptrace::finish(&mut recorder)?;
    ensure_half(folder, pid)
}
