//! Samples that allocators choose themselves and tell of, against the programs' own ledgers.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    compare::{self, Find, figures, site_function},
    estimates::{Judged, judged},
    heaptrace,
    ledger::{Figures, Ledger},
    programs::{Program, compile_native},
    runner::{self, end_to_end, unprivileged},
    running::{Running, wait_while_running},
    session::{self, Outcome, Session, Start, Waiting},
};
use std::{
    fs,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

const NATIVE: &[&str] = &["--trace", "native"];
const INTERVAL: &str = "65536";

fn main() -> ExitCode {
    let mut tests = vec![unprivileged("what has no meaning for them is a usage error", refused_options)];
    for start in Start::BOTH {
        let at = start.name();
        tests.push(end_to_end(format!("{at}: estimates are as near as they say"), move || {
            real(start, NATIVE)
        }));
        for (how, flags) in PROBES {
            tests.push(end_to_end(format!("{at}: {how}, to the byte"), move || exact(start, flags)));
        }
    }
    tests.push(end_to_end("they are taken where sampling is asked for", || {
        real(Start::Attach, &["--sample", "32k"])
    }));
    tests.push(end_to_end("a process without such probes is told so", without));
    tests.push(end_to_end("a probe that could harm is refused", red_zone));
    tests.push(end_to_end("without word of frees it is said that live is at most so much", without_frees));
    tests.push(end_to_end("as many as are live are followed", many));
    tests.push(end_to_end("--no-native: the allocation functions are sampled all the same", no_native));
    tests.push(end_to_end("the semaphore is up while tracing, and down after it however it ends", semaphore));
    tests.push(end_to_end("children that tell of samples are followed", children));
    tests.push(end_to_end("estimates: 95 of 100 intervals hold the truth", hundred).slow());
    runner::run(tests)
}

/// Where compilers and users of such probes put them.
const PROBES: [(&str, &[&str]); 5] = [
    ("arguments in registers", &["-O2"]),
    ("arguments in memory", &["-O0"]),
    ("arguments behind the frame pointer", &["-O0", "-fno-omit-frame-pointer"]),
    ("a nop of five bytes at an entry", &["-DAT_ENTRY", "-DNOP=\".byte 0x0f,0x1f,0x44,0x00,0x00\""]),
    ("the provider's name so far", &["-DPROVIDER=\"ddheap\"", "-DAT_ENTRY"]),
];

fn exact(start: Start, flags: &'static [&'static str]) -> Result<()> {
    let session = Session::new(Program::CWith("offering", flags), &["5000"]).options(NATIVE);
    let Outcome { report, ledger, .. } = session.record(start)?;
    compare::nothing_lost(&report)?;
    ensure!(report.mode == "native", "mode {}", report.mode);
    let (pid, of_process) = ledger.0.iter().next().context("no ledger")?;
    for (name, truth) in of_process.sites.iter().filter(|(name, _)| name.starts_with("site_")) {
        let mut found = Figures::default();
        report
            .sites_of(*pid)
            .filter(|site| site_function(site, Find::AnyFrame) == Some(name))
            .for_each(|site| found += figures(site));
        ensure!(
            (found.alloc_bytes, found.alloc_count, found.live_bytes, found.live_count)
                == (truth.alloc_bytes, truth.alloc_count, truth.live_bytes, truth.live_count),
            "{name}\n    ledger {truth}\n    report {found}"
        );
    }
    Ok(())
}

fn real(start: Start, options: &[&'static str]) -> Result<()> {
    for judged in of_real(start, options, &["20000", "3", INTERVAL])? {
        let Judged { what, truth, value, interval, .. } = &judged;
        ensure!(judged.holds(2.6), "{what}: {truth} is far from {value}, between {interval:?}");
    }
    Ok(())
}

/// All figures of a recording of the real allocator.
fn of_real(start: Start, options: &[&'static str], arguments: &[&str]) -> Result<Vec<Judged>> {
    let folder = TempDir::new()?;
    let mut target = Command::new(compile_native()?);
    target.args(arguments).env("LEDGER_OUT", session::ledger_file(folder.path()));
    match start {
        Start::Command => {
            let mut command = heaptrace::command(&["record", "-o"])?;
            command.arg(heaptrace::record_file(folder.path())).args(options);
            command.args(heaptrace::before_command(&[])).arg(target.get_program()).args(arguments);
            command.env("LEDGER_OUT", session::ledger_file(folder.path()));
            let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
            heaptrace::finish(&mut recorder)?;
        }
        Start::Attach => {
            let mut waiting = Waiting::start(target, folder.path())?;
            let mut recorder = heaptrace::attach(&[waiting.target.pid()], options, folder.path())?;
            waiting.go()?;
            waiting.target.wait()?;
            heaptrace::finish(&mut recorder)?;
        }
    }
    let report = heaptrace::report(folder.path())?;
    compare::nothing_lost(&report)?;
    let ledger = Ledger::read(&session::ledger_file(folder.path()))?;
    let (pid, of_process) = ledger.0.iter().next().context("no ledger")?;
    let process = report.process(*pid).context("the process is not in the report")?;
    let estimate = process.estimate.context("no estimate")?;
    let interval = arguments.get(2).map(|text| text.parse::<u64>()).transpose()?;
    ensure!(
        estimate.own_sample_bytes == interval && estimate.seen_bytes.is_none() && estimate.samples > 100,
        "{estimate:?}"
    );
    judged(&report, *pid, of_process, Find::AnyFrame)
}

/// Of all figures of 100 runs.
fn hundred() -> Result<()> {
    let (mut held, mut all) = (0, 0);
    for _ in 0..100 {
        for judged in of_real(Start::Attach, NATIVE, &["20000", "2", INTERVAL])? {
            all += 1;
            held += usize::from(judged.holds(1.0));
        }
    }
    ensure!((930..=995).contains(&(held * 1000 / all)), "{held} of {all} intervals hold the truth");
    Ok(())
}

fn refused_options() -> Result<()> {
    for (arguments, words) in [
        (&["record", "--trace", "native", "--sample", "32k", "-p", "1"][..], "--trace sampled"),
        (&["record", "--trace", "native", "--frees", "-p", "1"], "--trace sampled"),
        (&["record", "--trace", "native", "--min-size", "1k", "-p", "1"], "the allocators do"),
        (&["record", "--trace", "native", "--budget", "5%", "-p", "1"], "frees would be missed"),
    ] {
        let output = heaptrace::output(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
    Ok(())
}

/// What `record --trace native -p PID` says of a program that waits.
fn said_of(program: Program, words: &[&str]) -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = Command::new(program.compile()?);
    command.arg("1000").env("LEDGER_OUT", session::ledger_file(folder.path()));
    let mut waiting = Waiting::start(command, folder.path())?;
    let pid = waiting.target.pid().to_string();
    let file = heaptrace::record_file(folder.path());
    let mut command = heaptrace::command(&[&["record", "-p", &pid][..], NATIVE].concat())?;
    let output = command.arg("-o").arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() != Some(0), "it was traced: {said}");
    for words in words {
        ensure!(said.contains(words), "{words:?} is not in\n{said}");
    }
    waiting.go()?;
    waiting.target.wait()?;
    Ok(())
}

fn without() -> Result<()> {
    said_of(Program::C("mixed"), &["tells of no samples", "otel_memory:alloc", "--trace sampled"])
}

fn red_zone() -> Result<()> {
    let flags: &[&str] = &["-O2", "-DNOP=\".byte 0x0f,0x1f,0x44,0x00,0x00\""];
    said_of(Program::CWith("offering", flags), &["tells of no samples", "below its stack pointer"])
}

fn without_frees() -> Result<()> {
    let folder = TempDir::new()?;
    let session = Session::new(Program::CWith("offering", &["-O2", "-DNO_FREES"]), &["5000"]).options(NATIVE);
    session.record_in(Start::Attach, folder.path())?;
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(&["report", file.to_str().context("not UTF-8")?])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("tells of no frees") && !said.contains("no losses"), "{said}");
    Ok(())
}

/// More than the map beside the table of live blocks has for others.
fn many() -> Result<()> {
    let session = Session::new(Program::CWith("offering", &["-O2"]), &["200000"]).options(NATIVE);
    let Outcome { report, ledger, .. } = session.record(Start::Attach)?;
    compare::nothing_lost(&report)?;
    let (pid, of_process) = ledger.0.iter().next().context("no ledger")?;
    let (process, truth) = (report.process(*pid).context("no process")?, &of_process.sites["site_kept"]);
    ensure!(truth.live_count == 20_000 && process.live_count >= truth.live_count, "{process:?}");
    Ok(())
}

fn no_native() -> Result<()> {
    let session = Session::new(Program::CWith("offering", &["-O2"]), &["20000"]).options(&[
        "--sample",
        "32k",
        "--no-native",
    ]);
    let Outcome { report, ledger, .. } = session.record(Start::Attach)?;
    let (pid, of_process) = ledger.0.iter().next().context("no ledger")?;
    let process = report.process(*pid).context("no process")?;
    let estimate = process.estimate.context("no estimate")?;
    let truth: u64 = of_process.sites.values().map(|site| site.alloc_bytes).sum();
    let seen = estimate.seen_bytes.context("no bytes")?;
    ensure!(
        estimate.own_sample_bytes.is_none()
            && seen >= truth
            && report.sites.iter().all(|site| site.function == "malloc"),
        "{estimate:?}"
    );
    Ok(())
}

fn semaphore() -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = Command::new(Program::CWith("offering", &["-O2"]).compile()?);
    command.args(["0", "show"]);
    let mut target = Running::spawn(command, "target", folder.path())?;
    let pid = target.pid();
    let output = target.stdout_file();
    let is_down = |times: usize| {
        let text = fs::read_to_string(&output).unwrap_or_default();
        text.ends_with("semaphore 0\n") && text.matches("semaphore 0\n").count() > times
    };
    let is_up = || fs::read_to_string(&output).is_ok_and(|text| !text.ends_with("semaphore 0\n"));
    wait_while_running(&mut target, "begin", || is_down(0))?;
    for (times, signal) in [(1, libc::SIGINT), (2, libc::SIGKILL)] {
        let folder = TempDir::new()?;
        let mut recorder = heaptrace::attach(&[pid], NATIVE, folder.path())?;
        wait_while_running(&mut target, "be told that somebody listens", is_up)?;
        recorder.signal(signal)?;
        recorder.wait()?;
        wait_while_running(&mut target, "be told that nobody listens", || is_down(times))?;
    }
    Ok(())
}

/// A shell that nobody probes starts two that tell.
fn children() -> Result<()> {
    const ROUNDS: u64 = 100_000;
    let folder = TempDir::new()?;
    let at = |name: &str, n: u32| folder.path().join(format!("{name}{n}"));
    let program = Program::CWith("offering", &["-O2"]).compile()?;
    let mut command = heaptrace::command(&["record", "-o"])?;
    command.arg(heaptrace::record_file(folder.path())).args(NATIVE);
    let script =
        "cd $1; for i in 1 2; do LEDGER_READY=ready$i LEDGER_GO=go$i \"$0\" $2 & echo $! > pid$i; done; wait";
    command.args(heaptrace::before_command(&[])).args(["sh", "-c", script]).arg(&program).arg(folder.path());
    command.arg(ROUNDS.to_string());
    let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
    for n in [1, 2] {
        // The shell may not have written which it is when that is ready.
        let is_known = || fs::read_to_string(at("pid", n)).is_ok_and(|pid| pid.ends_with('\n'));
        wait_while_running(&mut recorder, "start both", || at("ready", n).exists() && is_known())?;
        let pid = fs::read_to_string(at("pid", n))?.trim().parse()?;
        let is_probed = || code::changed_bytes(pid).is_ok_and(|bytes| bytes > 0);
        wait_while_running(&mut recorder, "probe both", is_probed)?;
    }
    for n in [1, 2] {
        fs::write(at("go", n), "go")?;
    }
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder.path())?;
    let of: Vec<_> = report.processes.iter().filter(|process| process.comm == "offering").collect();
    // Every tenth is followed by one that is kept. A breakpoint can be seen before its hits count.
    let most = ROUNDS + ROUNDS / 10;
    ensure!(
        of.len() == 2 && of.iter().all(|of| (ROUNDS..=most).contains(&of.alloc_count)),
        "of {most}: {of:?}"
    );
    Ok(())
}
