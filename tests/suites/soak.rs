//! Threads that allocate without pause and children that come and go, for as long as `HEAPTRACE_SOAK` says (in seconds,
//! else for a few): heaptrace's own memory stays flat, and its totals are exact at the end.

#[path = "returns/same.rs"]
#[expect(dead_code, reason = "the suite `returns` uses the rest")]
mod same;

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    heaptrace,
    programs::Program,
    report::Site,
    runner::{self, end_to_end},
    session::{Start, Waiting},
};
use same::Subject;
use std::{
    env,
    fs::{self, File},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What heaptrace may grow by from the first half's end on: names and records of the children, some 2 KB each.
const GROWTH_PER_CHILD: u64 = 2 << 10;
const GROWTH: u64 = 8 << 20;

fn main() -> ExitCode {
    runner::run(vec![end_to_end("memory stays flat and totals exact", soak)])
}

fn soak() -> Result<()> {
    let seconds: u64 = match env::var("HEAPTRACE_SOAK") {
        Ok(text) => text.parse().context("HEAPTRACE_SOAK is no number of seconds")?,
        Err(_) => 6,
    };
    // Ten a second for nine tenths of the time.
    let children = seconds * 9;
    let folder = TempDir::new()?;
    let end = folder.path().join("end");
    let mut command = Command::new(Program::C("steady").compile()?);
    command.args(["3", &children.to_string()]).env("STEADY_END", &end);
    let mut waiting = Waiting::start(command, folder.path())?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder.path())?;
    waiting.go()?;
    let began = Instant::now();
    let mut resident = Vec::new();
    let mut beside = 0;
    let mut others = others()?.into_iter().cycle();
    while began.elapsed() < Duration::from_secs(seconds) {
        resident.push(resident_bytes(recorder.pid())?);
        let (other, find) = others.next().context("no programs")?;
        for start in Start::BOTH {
            other.exact(start, find)?;
        }
        beside += 1;
    }
    File::create(&end)?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(21), "the target ended with {status}");
    heaptrace::finish(&mut recorder)?;

    let (middle, last) = (resident[resident.len() / 2], resident[resident.len() - 1]);
    println!("heaptrace's memory after {seconds} s: {middle} bytes half-way, {last} at the end");
    let growth = GROWTH + GROWTH_PER_CHILD * children / 2;
    // In a few seconds it is still coming up.
    if seconds >= 60 {
        ensure!(last <= middle + growth, "heaptrace grew from {middle} to {last} bytes");
    }

    let report = heaptrace::report(folder.path())?;
    compare::nothing_lost(&report)?;
    let said = waiting.target.stdout();
    let expected: Vec<u64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let in_work = |site: &&Site| site.caller().iter().any(|frame| frame.symbol.as_deref() == Some("work"));
    let found = compare::total(report.sites_of(pid).filter(in_work));
    ensure!(
        [found.alloc_count, found.alloc_bytes, found.free_count, found.free_bytes] == expected[..],
        "the program says {expected:?}, the report {found}"
    );
    ensure!(found.live_count == 0 && found.live_bytes == 0, "all was freed: {found}");
    let forked = report.processes.len() as u64 - 1;
    ensure!(forked >= children / 2, "{forked} of {children} children were seen");
    println!("{} allocations and {} frees, each exact; {forked} children", expected[0], expected[2]);
    println!("beside it {beside} programs, started and attached to, each as it is untraced and exact");
    Ok(())
}

/// Programs with fibers, exceptions and longjmp out of allocation functions, each run untraced and traced beside the old load:
/// probes come and go on the same files of other processes meanwhile.
fn others() -> Result<Vec<(Subject, Find)>> {
    let of = |program: Program, arguments: &[&str], ends| -> Result<Subject> {
        Ok(Subject::new(program.compile()?, arguments, ends))
    };
    Ok(vec![
        (of(Program::C("fibers"), &["switch", "2"], 19)?, Find::Caller),
        (of(Program::C("control"), &[], 0)?, Find::Caller),
        (of(Program::Cpp("objects"), &[], 0)?, Find::AnyFrame),
        (of(Program::C("fibers"), &["ucontext", "4"], 19)?, Find::Caller),
    ])
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("heaptrace is gone")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("VmRSS has no value")?.parse()?;
    Ok(kilobytes << 10)
}
