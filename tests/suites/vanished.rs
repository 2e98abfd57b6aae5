//! Blocks that end without a free: unmapped, or with a newer block over them.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    heaptrace,
    ledger::{Figures, Ledger, ProcessLedger},
    live::{Live, list, number},
    programs::Program,
    report::{Report, Site},
    runner::{self, end_to_end},
    running::wait_for_file,
    session::{Waiting, ledger_file},
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, process::Command, process::ExitCode};
use tempfile::TempDir;

fn main() -> ExitCode {
    let vanishing = Program::C("vanishing");
    let mut tests = Vec::new();
    for how in ["munmap", "mremap", "brk"] {
        tests.push(end_to_end(format!("{how}: what lies in it is gone, and nothing else"), move || {
            exactly(&Vanishing::start(vanishing, &[how])?.recorded()?)
        }));
    }
    tests.push(end_to_end(
        "munmap when the first thread is gone: the others' mappings are looked at",
        move || exactly(&Vanishing::start(vanishing, &["leaderless"])?.recorded()?),
    ));
    tests.push(end_to_end("a program that frees what it has done with loses nothing", move || {
        let seen = Vanishing::start(vanishing, &["ordinary"])?.recorded()?;
        exactly(&seen)?;
        ensure!(gone(seen.report.sites_of(seen.pid)) == (0, 0), "something is gone");
        Ok(())
    }));
    tests.push(end_to_end("parts of a block live with it, and end where others lie over them", || {
        exactly(&Vanishing::start(Program::C("pools"), &[])?.recorded()?)
    }));
    tests.push(end_to_end("mimalloc: what is unmapped with its heap is gone, and nothing else", destroyed));
    tests.push(end_to_end("leaks shows only what is there, while the program runs and after", shown));
    tests.push(end_to_end("an image that is replaced loses nothing before", execs));
    tests.push(end_to_end("a program that ends by itself was looked at before", ended).slow());
    runner::run(tests)
}

/// A program that has done what it does, traced.
struct Vanishing {
    waiting: Waiting,
    folder: TempDir,
}

/// What was seen of one that still ran.
struct Seen {
    pid: u32,
    report: Report,
    ledger: ProcessLedger,
    text: String,
}

impl Vanishing {
    /// Starts it; it waits.
    fn start(program: Program, arguments: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut command = Command::new(program.compile()?);
        command.args(arguments).env("LEDGER_OUT", ledger_file(folder.path()));
        for name in ["VANISHED", "VANISHING_END"] {
            command.env(name, folder.path().join(name));
        }
        Ok(Self { waiting: Waiting::start(command, folder.path())?, folder })
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lets it do what it does.
    fn go(&mut self) -> Result<ProcessLedger> {
        self.waiting.go()?;
        wait_for_file(&self.folder.path().join("VANISHED"), &mut self.waiting.target)?;
        let mut ledger = Ledger::read(&ledger_file(self.folder()))?;
        ledger.0.remove(&self.waiting.target.pid()).context("no ledger")
    }

    fn end(&mut self) -> Result<()> {
        fs::write(self.folder().join("VANISHING_END"), "")?;
        let status = self.waiting.target.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }

    /// Records it until it has done that.
    fn recorded(mut self) -> Result<Seen> {
        let pid = self.waiting.target.pid();
        let mut recorder = heaptrace::attach(&[pid], &[], self.folder())?;
        let ledger = self.go()?;
        recorder.signal(libc::SIGINT)?;
        heaptrace::finish(&mut recorder)?;
        self.end()?;
        let report = heaptrace::report(self.folder())?;
        compare::nothing_lost(&report)?;
        let file = heaptrace::record_file(self.folder());
        let output = heaptrace::command(&["report"])?.arg(file).output()?;
        Ok(Seen { pid, report, ledger, text: String::from_utf8_lossy(&output.stdout).into_owned() })
    }
}

fn gone<'a>(sites: impl Iterator<Item = &'a Site>) -> (u64, u64) {
    sites.fold((0, 0), |sum, site| (sum.0 + site.gone_bytes, sum.1 + site.gone_count))
}

/// What sites allocated, and what is gone of it.
fn by_name(seen: &Seen) -> BTreeMap<String, (Figures, (u64, u64))> {
    let mut found: BTreeMap<String, (Figures, (u64, u64))> = BTreeMap::new();
    for site in seen.report.sites_of(seen.pid) {
        let name = compare::site_function(site, Find::Caller).map(str::to_owned);
        let (figures, of_site) =
            found.entry(name.unwrap_or_else(|| format!("function:{}", site.function))).or_default();
        *figures += compare::figures(site);
        let more = gone([site].into_iter());
        *of_site = (of_site.0 + more.0, of_site.1 + more.1);
    }
    found
}

/// Every site as the ledger has it: of those named so all is gone that was not freed, of the others nothing.
fn exactly(seen: &Seen) -> Result<()> {
    let found = by_name(seen);
    let names: Vec<&String> = found.keys().collect();
    let ledgered: Vec<&String> = seen.ledger.sites.keys().collect();
    ensure!(names == ledgered, "sites {names:?}, in the ledger {ledgered:?}");
    let mut sum = (0, 0);
    for (name, ledger) in &seen.ledger.sites {
        let of_site = is_as_ledgered(name, *ledger, found[name])?;
        sum = (sum.0 + of_site.0, sum.1 + of_site.1);
    }
    let process = seen.report.process(seen.pid).context("the process is not in the report")?;
    ensure!((process.gone_bytes, process.gone_count) == sum, "{sum:?} are gone, of the process {process:?}");
    ensure!(process.missed_frees == 0, "{process:?}");
    let said = format!("{} blocks (", sum.1);
    let line = seen.text.lines().find(|line| line.contains("ended without a free that was seen"));
    match (sum.1, line) {
        (0, None) => Ok(()),
        (1.., Some(line)) if line.contains(&said) => Ok(()),
        _ => anyhow::bail!("{said} is not in {line:?}"),
    }
}

/// Gives what is gone.
fn is_as_ledgered(name: &str, ledger: Figures, (report, gone): (Figures, (u64, u64))) -> Result<(u64, u64)> {
    let live = (ledger.live_bytes, ledger.live_count);
    let (gone_expected, live_expected) =
        if name.starts_with("site_lost") { (live, (0, 0)) } else { ((0, 0), live) };
    let expected = Figures { live_bytes: live_expected.0, live_count: live_expected.1, ..ledger };
    ensure!(report == expected, "{name}\n    expected {expected}\n    report   {report}");
    ensure!(gone == gone_expected, "{name}: {gone:?} are gone, not {gone_expected:?}");
    Ok(gone)
}

/// What a heap has small blocks in is not unmapped at once, but used again: of those the report may still count some as
/// live, and says of others that they were handed out again.
fn destroyed() -> Result<()> {
    let seen = Vanishing::start(Program::CLinked("heaps", &[], &["-lmimalloc"]), &[])?.recorded()?;
    let found = by_name(&seen);
    let mut lost = 0;
    for (name, ledger) in &seen.ledger.sites {
        if name == "site_destroyed" {
            lost = ledger.live_count;
        } else {
            is_as_ledgered(name, *ledger, found[name])?;
        }
    }
    let (figures, gone) = found["site_destroyed"];
    let process = seen.report.process(seen.pid).context("the process is not in the report")?;
    ensure!(figures.free_count == process.missed_frees, "{figures}: nobody freed, and {process:?}");
    ensure!(figures.live_count + gone.1 + figures.free_count == lost, "{figures}, {gone:?} gone");
    // The memory was filled again: by blocks of twice the size, so that every second one begins where an old one did.
    ensure!(gone.1 > lost / 4, "{figures}, {gone:?} gone of {lost}");
    Ok(())
}

fn held(print: &Value, site: &str) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for row in list(print, "rows")?.iter().filter(|row| row["stack"][0]["symbol"] == site) {
        sum = (sum.0 + number(row, "bytes")?, sum.1 + number(row, "count")?);
    }
    Ok(sum)
}

fn shown() -> Result<()> {
    let mut program = Vanishing::start(Program::C("vanishing"), &["munmap"])?;
    let pid = program.waiting.target.pid();
    let options = ["--older-than", "0s", "--interval", "50ms"];
    let mut live = Live::attach("leaks", &[pid], &options, program.folder())?;
    let ledger = program.go()?;
    let kept = ledger.sites["site_kept"];
    let kept = (kept.live_bytes, kept.live_count);
    let is_right = |print: &Value| {
        held(print, "site_lost").is_ok_and(|held| held == (0, 0))
            && held(print, "site_kept").is_ok_and(|held| held == kept)
    };
    let prints = live.wait_for_print("without what is gone", 0, is_right)?;
    ensure!(prints.last().is_some_and(|print| print["last"] == false), "{prints:?}");
    program.end()?;
    let prints = live.finish(0)?;
    let print = prints.last().context("no print")?;
    // It cannot be looked at any more, but it was.
    ensure!(print["last"] == true && is_right(print), "{print}");
    Ok(())
}

/// Looked at all the time, while four programs exec. Between the moment when the old image's memory is gone and that when the
/// exec is told, its blocks lie in no mapping.
fn execs() -> Result<()> {
    const EXECS: usize = 15;
    let program = Program::C("vanishing");
    let times = EXECS.to_string();
    let mut programs =
        (0..4).map(|_| Vanishing::start(program, &["execs", &times])).collect::<Result<Vec<_>>>()?;
    let pids: Vec<u32> = programs.iter().map(|program| program.waiting.target.pid()).collect();
    let folder = TempDir::new()?;
    let options = ["--older-than", "0s", "--interval", "1ms"];
    let live = Live::attach("leaks", &pids, &options, folder.path())?;
    for program in &programs {
        program.waiting.go()?;
    }
    for program in &mut programs {
        wait_for_file(&program.folder.path().join("VANISHED"), &mut program.waiting.target)?;
        program.end()?;
    }
    let prints = live.finish(0)?;
    ensure!(prints.len() > 2, "{} prints", prints.len());
    for print in &prints {
        ensure!(number(print, "gone.count")? == 0, "{print}");
    }
    let last = prints.last().context("no print")?;
    ensure!(number(last, "old.count")? == 4 * 12, "{last}");
    Ok(())
}

fn ended() -> Result<()> {
    let mut program = Vanishing::start(Program::C("vanishing"), &["munmap"])?;
    let pid = program.waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], program.folder())?;
    let ledger = program.go()?;
    // A look rests fifty times as long as it took.
    std::thread::sleep(std::time::Duration::from_secs(15));
    program.end()?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(program.folder())?;
    let process = report.process(pid).context("the process is not in the report")?;
    ensure!(process.exited, "{process:?}");
    let lost = ledger.sites["site_lost"];
    ensure!((process.gone_bytes, process.gone_count) == (lost.live_bytes, lost.live_count), "{process:?}");
    Ok(())
}
