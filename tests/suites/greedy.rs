//! Processes of another user that take all they get: what others do stays exact, and is said to be whole.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    caller,
    compare::{self, Find},
    heaptrace,
    ledger::Ledger,
    programs::Program,
    report::Report,
    runner::{self, end_to_end},
    running::{Running, wait_for_file},
    session::{self, Waiting},
};
use std::{
    fs,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};
use tempfile::TempDir;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("live blocks of others", live_blocks),
        end_to_end("stacks of others", stacks),
        end_to_end("processes of others", processes),
        end_to_end("50 of all kinds", all_kinds),
    ])
}

/// Some processes of another user, which wait.
struct Greedy {
    folder: TempDir,
    all: Vec<Running>,
}

impl Greedy {
    /// One for each of `kinds`: what the program is to take, with its arguments.
    fn start(kinds: &[Vec<String>]) -> Result<Self> {
        let folder = caller::open_folder()?;
        let program = folder.path().join("greedy");
        caller::copy(&Program::C("greedy").compile()?, &program)?;
        let mut all = Vec::new();
        for (number, arguments) in kinds.iter().enumerate() {
            let own = folder.path().join(number.to_string());
            fs::create_dir(&own)?;
            let seen = folder.path().join(format!("{number} is ready"));
            let mut command = caller::as_user(caller::CALLER, &program)?;
            command.args(arguments).env("GREEDY_READY", &seen).env("GREEDY_GO", folder.path().join("go"));
            let mut running = Running::spawn(command, "greedy", &own)?;
            wait_for_file(&seen, &mut running)?;
            all.push(running);
        }
        Ok(Self { folder, all })
    }

    fn pids(&self) -> Vec<u32> {
        self.all.iter().map(Running::pid).collect()
    }

    /// Lets them take what they want.
    fn go(&self) -> Result<()> {
        Ok(fs::write(self.folder.path().join("go"), "")?)
    }
}

/// A program of our own that keeps a ledger, traced with `kinds` of greedy ones, which have been at it for `head_start` when
/// it begins. Gives its report, PID and ledger, when it has looked whether `is_well` with the recorder meanwhile.
fn beside(
    kinds: &[Vec<String>],
    victim: (&'static str, &[&str]),
    options: &[&str],
    head_start: Duration,
    is_well: impl Fn(u32) -> Result<()>,
) -> Result<(Report, u32, Ledger, Greedy)> {
    let folder = TempDir::new()?;
    let greedy = Greedy::start(kinds)?;
    let mut command = Command::new(Program::C(victim.0).compile()?);
    command.args(victim.1).env("LEDGER_OUT", session::ledger_file(folder.path()));
    let mut waiting = Waiting::start(command, folder.path())?;
    let pid = waiting.target.pid();
    let mut all = greedy.pids();
    all.push(pid);
    let mut recorder = heaptrace::attach(&all, options, folder.path())?;
    greedy.go()?;
    thread::sleep(head_start);
    is_well(recorder.pid())?;
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.success(), "{}", waiting.target.describe(&format!("ended with {status}")));
    is_well(recorder.pid())?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder.path())?;
    let ledger = Ledger::read(&session::ledger_file(folder.path()))?;
    Ok((report, pid, ledger, greedy))
}

fn kinds(of: &[&[&str]]) -> Vec<Vec<String>> {
    of.iter().map(|one| one.iter().map(|word| (*word).to_owned()).collect()).collect()
}

/// All of the victim's sites are in the report as in its ledger, in whole stacks, and nothing of it was lost.
fn ensure_exact(report: &Report, pid: u32, ledger: &Ledger) -> Result<()> {
    let own = ledger.0.get(&pid).context("no ledger")?;
    compare::every_site(report, pid, own, Find::Caller)?;
    let process = report.process(pid).context("the process is not in the report")?;
    ensure!(process.lost_count == 0, "{} blocks were lost", process.lost_count);
    Ok(())
}

/// What the greedy ones lost of theirs.
fn lost(report: &Report, greedy: &Greedy) -> u64 {
    let pids = greedy.pids();
    report
        .processes
        .iter()
        .filter(|process| pids.contains(&process.pid))
        .map(|process| process.lost_count)
        .sum()
}

fn nothing(_recorder: u32) -> Result<()> {
    Ok(())
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn live_blocks() -> Result<()> {
    let takers = kinds(&[&["blocks"], &["blocks"], &["blocks"]]);
    let victim = ("family", &["4", "60"][..]);
    let (report, pid, ledger, greedy) = beside(&takers, victim, &["--max-live=20000"], SECONDS(3), nothing)?;
    ensure!(lost(&report, &greedy) > 0, "the table was large enough");
    ensure_exact(&report, pid, &ledger)
}

fn stacks() -> Result<()> {
    let takers = kinds(&[&["stacks"], &["stacks"]]);
    let options = ["--max-sites=2000", "--max-frames=40000"];
    let victim = ("family", &["4", "60"][..]);
    let (report, pid, ledger, _greedy) = beside(&takers, victim, &options, SECONDS(3), nothing)?;
    ensure!(report.coverage.lost["stack_map_full"] > 0, "the table was large enough");
    ensure_exact(&report, pid, &ledger)
}

/// Children and programs of the victim are traced when those of others have filled their share.
fn processes() -> Result<()> {
    let takers = kinds(&[&["children"], &["programs"]]);
    // What has ended gives its place back some tenths of a second later.
    let options = ["--max-processes=30"];
    let (report, _, ledger, _greedy) =
        beside(&takers, ("process", &["fork"]), &options, SECONDS(3), nothing)?;
    ensure!(report.coverage.lost["process_table_full"] > 0, "the table was large enough");
    for pid in ledger.0.keys() {
        ensure!(report.process(*pid).is_some(), "{pid}, a process of the victim's, is not in the report");
    }
    Ok(())
}

/// With the tables that there are by default.
fn all_kinds() -> Result<()> {
    /// Bytes resident, by the kernel's count.
    const MOST: u64 = 500_000_000;
    let library = Program::CLibrary("plugin").compile()?;
    let shared = caller::open_folder()?;
    let library = {
        let copy = shared.path().join("plugin.so");
        caller::copy(&library, &copy)?;
        copy
    };
    let library = library.to_str().context("not UTF-8")?;
    let each: [&[&str]; 8] = [
        &["blocks"],
        &["stacks"],
        &["children"],
        &["programs"],
        &["mappings"],
        &["libraries", library],
        &["threads", "10000"],
        &["names"],
    ];
    // One with so many threads is enough for the machine.
    let many = each.iter().filter(|kind| kind[0] != "threads").cycle();
    let takers: Vec<&[&str]> = each.iter().chain(many).take(50).copied().collect();
    let takers = kinds(&takers);
    let is_small = |recorder: u32| {
        let status = fs::read_to_string(format!("/proc/{recorder}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
        let peak = line.trim().trim_end_matches(" kB").parse::<u64>()? << 10;
        println!("{} MB at most", peak / 1_000_000);
        ensure!(peak < MOST, "heaptrace has taken {peak} bytes");
        Ok(())
    };
    let victim = ("family", &["4", "60"][..]);
    let (report, pid, ledger, greedy) = beside(&takers, victim, &[], SECONDS(5), is_small)?;
    let seen =
        greedy.pids().iter().filter(|pid| report.process(**pid).is_some_and(|p| p.alloc_count > 0)).count();
    ensure!(seen >= 20, "only {seen} of the others were traced");
    ensure_exact(&report, pid, &ledger)
}
