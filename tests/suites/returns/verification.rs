//! Functions whose code says one thing and whose callees do another: their sites are not believed for long, the report
//! says so, and what comes later is exact. One that does as it says is left alone once that was seen.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    compare::{self, Find},
    heaptrace,
    ledger::Ledger,
    programs::Program,
    report::Report,
    runner::{Test, end_to_end},
    running::{Running, wait_while_running},
    session::{Session, Start, Waiting, ledger_file},
};
use std::{collections::BTreeSet, fs::File, path::Path, process::Command, thread, time::Duration};
use tempfile::TempDir;

/// What the programs `unlawful` and `slow` end with.
const ENDS: i32 = 25;
const SLOW_ENDS: i32 = 26;

/// From when the last probe is placed until its process counts again; a few microseconds without other load.
const ARMED: Duration = Duration::from_secs(1);

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (how, doubt) in [
        ("clobbers", "had another size at the probe than at the entry"),
        ("skips", "passed no probe, and frees came of blocks that nothing was known of"),
        ("repeats", "calls reached a probe twice, or without passing the function's entry"),
    ] {
        tests.push(end_to_end(
            format!("attach: malloc is probed otherwise once a callee of its {how}"),
            move || unlawful(how, doubt),
        ));
    }
    tests.push(end_to_end("attach: malloc is believed after its first calls", lawful));
    tests.push(end_to_end(
        "attach: a malloc that passes its probe twice is told of though all is over at once",
        brief,
    ));
    tests.push(end_to_end(
        "command: calls under way when another function is probed anew are no others",
        slow_beside,
    ));
    tests.push(end_to_end("attach: calls under way when a child is looked at, too, are no others", slow));
    tests
}

struct Traced {
    target: Running,
    recorder: Running,
    /// Places in the program that probes are at.
    places: BTreeSet<u64>,
}

/// The program while its first blocks come and go.
fn traced(how: &str, folder: &Path) -> Result<Traced> {
    let mut command = Command::new(Program::C("unlawful").compile()?);
    command.arg(how).env("LEDGER_OUT", ledger_file(folder)).env("UNLAWFUL_NEXT", folder.join("next"));
    let waiting = Waiting::start(command, folder)?;
    let recorder = heaptrace::attach(&[waiting.target.pid()], &[], folder)?;
    let places = places(waiting.target.pid())?;
    ensure!(!places.is_empty(), "the program's own functions are not probed");
    waiting.go()?;
    Ok(Traced { target: waiting.target, recorder, places })
}

fn places(pid: u32) -> Result<BTreeSet<u64>> {
    let changed = code::changed_places(pid)?;
    Ok(changed.into_iter().filter(|(path, _)| path.contains("unlawful")).map(|(_, offset)| offset).collect())
}

impl Traced {
    /// Until the places are others.
    fn wait_until_probed(&mut self, what: &str, is_so: impl Fn(&BTreeSet<u64>) -> bool) -> Result<()> {
        let pid = self.target.pid();
        wait_while_running(&mut self.recorder, what, || places(pid).is_ok_and(|places| is_so(&places)))
    }

    /// Goes on with the later blocks; gives the report.
    fn finish(mut self, folder: &Path) -> Result<(u32, Report)> {
        File::create(folder.join("next")).context("failed to make a file")?;
        let status = self.target.wait()?;
        ensure!(status.code() == Some(ENDS), "{}", self.target.describe(&format!("ended with {status}")));
        heaptrace::finish(&mut self.recorder)?;
        Ok((self.target.pid(), heaptrace::report(folder)?))
    }
}

fn unlawful(how: &str, doubt: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut traced = traced(how, folder)?;
    let before = traced.places.clone();
    traced.wait_until_probed("probe malloc at its returns", |places| !places.is_subset(&before))?;
    thread::sleep(ARMED);
    let (pid, report) = traced.finish(folder)?;
    let coverage = &report.coverage;
    let said = |note: &String| note.contains("malloc in ") && note.contains(doubt);
    ensure!(coverage.notes.iter().any(said), "nothing says \"{doubt}\": {:#?}", coverage.notes);
    let others = coverage.distrusted().into_iter().filter(|note| !said(note));
    ensure!(others.count() == 0, "other functions are distrusted, too: {:#?}", coverage.notes);
    let disagreed = coverage.lost.get("disagreed").copied().unwrap_or(0);
    ensure!((disagreed > 0) == (how == "clobbers"), "{:?}", coverage.lost);
    ensure!(coverage.attached_fraction < 1.0, "the time without probes is not told");
    let ledger = Ledger::read(&ledger_file(folder))?;
    compare::one_site(&report, pid, ledger.process(pid)?, "site_after", Find::Caller)
}

fn lawful() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut traced = traced("lawful", folder)?;
    let before = traced.places.clone();
    traced.wait_until_probed("let go of the entry", |places| places.len() < before.len())?;
    let (pid, report) = traced.finish(folder)?;
    compare::nothing_lost(&report)?;
    ensure!(report.coverage.notes.is_empty(), "{:?}", report.coverage.notes);
    let ledger = Ledger::read(&ledger_file(folder))?;
    compare::every_site(&report, pid, ledger.process(pid)?, Find::Caller)
}

/// The process has ended before anybody looked.
fn brief() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    File::create(folder.join("next"))?;
    let (_, report) = traced("repeats", folder)?.finish(folder)?;
    let doubt = "calls reached a probe twice, or without passing the function's entry";
    let said = |note: &String| note.contains("malloc in ") && note.contains(doubt);
    ensure!(report.coverage.notes.iter().any(said), "nothing says \"{doubt}\": {:#?}", report.coverage.notes);
    Ok(())
}

/// Where probes are for all processes, those of all functions do not count meanwhile.
fn slow_beside() -> Result<()> {
    let folder = TempDir::new()?;
    let session = Session::new(Program::C("slow"), &["clobbers"]).options(&["--exact-children"]);
    let report = session.record_in(Start::Command, folder.path())?.report;
    let distrusted = report.coverage.distrusted();
    ensure!(distrusted.len() == 1 && distrusted[0].contains("valloc in "), "{:#?}", report.coverage.notes);
    Ok(())
}

/// Each child's probes close the checks and open them again.
fn slow() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new(Program::C("slow").compile()?);
    command.arg("children").env("LEDGER_OUT", ledger_file(folder));
    let mut waiting = Waiting::start(command, folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(SLOW_ENDS), "{}", waiting.target.describe(&format!("ended with {status}")));
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder)?;
    compare::nothing_lost(&report)?;
    ensure!(report.coverage.notes.is_empty(), "{:?}", report.coverage.notes);
    let ledger = Ledger::read(&ledger_file(folder))?;
    compare::every_site(&report, pid, ledger.process(pid)?, Find::Caller)
}
