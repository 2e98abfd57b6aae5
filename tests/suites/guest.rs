//! What must not run beside other people's programs, or asks about the kernel itself: run by `cargo xtask vmtest`
//! in virtual machines.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find, Slack},
    heaptrace,
    ledger::Ledger,
    live::Live,
    programs::Program,
    report::Report,
    runner::{self, in_guest},
    running::{Running, wait_while_running},
    session::{self, Outcome, Session, Start, Waiting},
    steps::{CACHED, LEAKED, Resting, Steps},
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

const CANNOT_TRACE: i32 = 4;

fn main() -> ExitCode {
    let mut tests = vec![
        in_guest("the attach way fits the kernel and is told", attach_way),
        in_guest("record -a: several programs at once", whole_machine),
        in_guest("record -a, as by default: every allocation is seen, and some are samples", sampled_machine),
        in_guest("record -a within limits: who was there and who begins are targets", limited_machine),
        in_guest("top: the whole machine, and all of it traced", top),
        in_guest("watch without a target: every process, and new ones", watched_machine),
        in_guest("an unsuitable kernel is refused with its reason", refused),
    ];
    for start in Start::BOTH {
        let name = "threads that outlive the first are traced on";
        tests.push(in_guest(format!("{}: {name}", start.name()), move || outlived_leader(start)));
    }
    runner::run(tests)
}

/// Major and minor version of the running kernel.
fn kernel() -> Result<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => anyhow::bail!("strange kernel release {release}"),
    }
}

fn attach_way() -> Result<()> {
    let outcome = Session::new(Program::C("family"), &["1", "5"]).record(Start::Command)?;
    compare::exactly(&outcome, Find::Caller)?;
    let notes = &outcome.report.coverage.notes;
    let says = |words: &str| notes.iter().any(|note| note.contains(words));
    for note in notes {
        println!("\nnote: {note}");
    }
    match kernel()? {
        before if before < (6, 6) => ensure!(says("no uprobe multi links"), "the way is not told: {notes:?}"),
        // Whether a stable release has the fix of the filter is for heaptrace to find out.
        before if before < (6, 10) => println!("\nnote: filter by thread: {}", says("filter by thread")),
        _ => ensure!(!says("perf-event"), "there are good multi links, and they are not used: {notes:?}"),
    }
    if !says("perf-event") {
        println!("\nnote: probes are uprobe multi links");
    }
    Ok(())
}

/// A perf event's probes go with the thread that they were made for: they have to be placed again, and while that
/// takes its time, the program does nothing.
fn outlived_leader(start: Start) -> Result<()> {
    let outcome =
        Session::new(Program::C("ending"), &["leader"]).environment("ENDING_PAUSE", "5").record(start)?;
    let notes = &outcome.report.coverage.notes;
    let says = |words: &str| notes.iter().any(|note| note.contains(words));
    for note in notes.iter().filter(|note| note.contains("first thread")) {
        println!("\nnote: {note}");
    }
    ensure!(
        says("first thread ended") == says("perf-event"),
        "the gap is told where there is one: {notes:?}"
    );
    compare::exactly(&outcome, Find::Caller)
}

/// Programs that ran before, and that start, fork, exec and end meanwhile, all counted by one recorder.
fn whole_machine() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let idle_folder = TempDir::new()?;
    let mut waiting = Waiting::start(command(Program::C("idle"), &[], folder)?, idle_folder.path())?;

    let mut record = heaptrace::command(&["record", "-a", "--trace", "exact", "-o"])?;
    record.arg(heaptrace::record_file(folder));
    let mut recorder = Running::spawn(record, "heaptrace", folder)?;
    recorder.wait_for_line("heaptrace: tracing")?;

    let programs: [(&str, Program, &[&str]); 5] = [
        ("threads", Program::C("family"), &["4", "40"]),
        ("bare", Program::COmitFramePointer("family"), &["1", "20"]),
        ("cross", Program::C("cross"), &["1000"]),
        ("fork", Program::C("process"), &["fork"]),
        ("exec", Program::C("process"), &["fork-exec"]),
    ];
    let mut running = Vec::new();
    for (name, program, arguments) in programs {
        running.push(Running::spawn(command(program, arguments, folder)?, name, folder)?);
    }
    waiting.go()?;
    for program in &mut running {
        let status = program.wait()?;
        ensure!(status.success(), "{}", program.describe(&format!("ended with {status}")));
    }
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(21), "the idle program ended with {status}");
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;

    let report = heaptrace::report(folder)?;
    let ledger = Ledger::read(&session::ledger_file(folder))?;
    // Each program, and two children.
    ensure!(ledger.0.len() == 8, "{} processes kept a ledger", ledger.0.len());
    ensure!(report.process(recorder.pid()).is_none(), "heaptrace counts itself");
    let own =
        report.process(std::process::id()).context("this process, which ran before, is not in the report")?;
    ensure!(own.alloc_count > 0, "this process started programs without any allocation: {own:?}");
    for pid in ledger.0.keys().filter(|pid| **pid != waiting.target.pid()) {
        let process = report.process(*pid).context("a process is not in the report")?;
        ensure!(
            process.unknown_frees == 0 && process.missed_frees == 0,
            "probed from its first instruction, it has calls that were not seen: {process:?}"
        );
    }
    println!("\nnote: {} processes in the report, {} events", report.processes.len(), report.coverage.events);
    // This process was at work when the probes came.
    let slack = Slack { attached_late: true, unledgered_site: None };
    compare::with_slack(&Outcome { report, ledger, target: None }, Find::Caller, slack)
}

/// A program that was there before: nothing of it is missed.
fn sampled_machine() -> Result<()> {
    let (report, ledger, pid) = mixed_machine(&[])?;
    ensure!(report.mode == "sampled", "mode {}", report.mode);
    compare::nothing_lost(&report)?;
    let process = report.process(pid).context("the program is not in the report")?;
    let estimate = process.estimate.context("no estimate")?;
    let truth = ledger.process(pid)?.sites.values().map(|site| site.alloc_count).sum::<u64>();
    let seen = estimate.seen_count.context("no count")?;
    ensure!((truth..truth + 200).contains(&seen) && estimate.samples > 0, "{truth} allocations, {seen} seen");
    Ok(())
}

/// Probed one by one; nobody grows so fast.
fn limited_machine() -> Result<()> {
    let (report, _, pid) = mixed_machine(&["--when-growing", "1G/min", "--budget", "5%"])?;
    let own = std::process::id();
    for pid in [pid, own] {
        let process = report.process(pid).context("a process is not in the report")?;
        ensure!(process.paused_s > 0.0 && process.attached_fraction == 0.0, "{process:?}");
    }
    ensure!(report.processes.iter().any(|process| process.comm == "many"), "who began is not in the report");
    Ok(())
}

/// What `record -a` with these options says of the `mixed` program, which runs before; `many` begins meanwhile.
fn mixed_machine(options: &[&str]) -> Result<(Report, Ledger, u32)> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = Waiting::start(command(Program::C("mixed"), &["5000"], folder)?, folder)?;
    let pid = waiting.target.pid();
    let mut record = heaptrace::command(&["record", "-a", "-o"])?;
    record.arg(heaptrace::record_file(folder)).args(options);
    let mut recorder = Running::spawn(record, "heaptrace", folder)?;
    recorder.wait_for_line("heaptrace: tracing")?;
    waiting.go()?;
    let new = command(Program::C("many"), &["blocks", "10"], folder)?;
    ensure!(Running::spawn(new, "new", folder)?.wait()?.success(), "the new program failed");
    let status = waiting.target.wait()?;
    ensure!(status.success(), "the program ended with {status}");
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    Ok((heaptrace::report(folder)?, Ledger::read(&session::ledger_file(folder))?, pid))
}

/// What each process's calls map, and then what each holds, all at once.
fn top() -> Result<()> {
    let folder = TempDir::new()?;
    let mut resting = Resting::start("map", folder.path())?;
    let pid = resting.pid();
    let mut top = printing(&[], folder.path())?;
    let waits = |process: &Value| process["mmap_bytes"] == 0 && process["traced"].is_null();
    wait_for_print(&mut top, pid, "of a process that waits", waits)?;
    resting.waiting.go()?;
    resting.wait_done()?;
    // 7 MiB and 3 pages mapped, 2 pages unmapped; 2 MiB and a page of heap.
    wait_for_print(&mut top, pid, "of what it mapped", |process| {
        (process["mmap_bytes"].as_u64(), process["munmap_bytes"].as_u64(), process["brk_bytes"].as_i64())
            == (Some((7 << 20) + 3 * 4096), Some(2 * 4096), Some((2 << 20) + 4096))
    })?;
    top.signal(libc::SIGINT)?;
    heaptrace::finish(&mut top)?;
    resting.end()?;

    let folder = TempDir::new()?;
    let mut steps = Steps::start(folder.path())?;
    let pid = steps.pid();
    let mut top = printing(&["--all", "--trace=exact"], folder.path())?;
    wait_for_print(&mut top, pid, "of a traced process", |process| process["traced"]["live_bytes"] == 0)?;
    steps.step(1, folder.path())?;
    let (bytes, blocks) = (LEAKED.0 + CACHED.0, LEAKED.1 + CACHED.1);
    wait_for_print(&mut top, pid, "of what it holds", |process| {
        process["traced"]["live_bytes"] == bytes && process["traced"]["live_count"] == blocks
    })?;
    top.signal(libc::SIGINT)?;
    heaptrace::finish(&mut top)?;
    for step in [2, 3] {
        steps.step(step, folder.path())?;
    }
    steps.end(folder.path())
}

fn printing(options: &[&str], folder: &Path) -> Result<Running> {
    let top = heaptrace::command(&[&["top", "--format", "json", "-i", "300ms"], options].concat())?;
    Running::spawn(top, "heaptrace", folder)
}

/// Waits for a print in which process `pid` is as `wanted`.
fn wait_for_print(top: &mut Running, pid: u32, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let prints = top.stdout_file();
    wait_while_running(top, &format!("print {what}"), || {
        let text = std::fs::read_to_string(&prints).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let last = whole.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let processes = last.as_ref().and_then(|last| last["processes"].as_array());
        processes.is_some_and(|all| all.iter().any(|process| process["pid"] == pid && wanted(process)))
    })
}

fn command(program: Program, arguments: &[&str], folder: &Path) -> Result<Command> {
    let mut command = Command::new(program.compile()?);
    command.args(arguments).env("LEDGER_OUT", session::ledger_file(folder));
    Ok(command)
}

/// Without a target everything is watched: what runs already, and what starts later.
fn watched_machine() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let list = |name: &str| folder.join(name).display().to_string();
    let mut running = Waiting::start(command(Program::C("mappings"), &[&list("first")], folder)?, folder)?;
    let live = Live::with("watch", &["--min-bytes", "0", "--no-stacks"], folder)?;
    running.go()?;
    ensure!(running.target.wait()?.success(), "the program failed");
    let later = command(Program::C("mappings"), &[&list("second")], folder)?;
    let mut later = Running::spawn(later, "later", folder)?;
    ensure!(later.wait()?.success(), "the program failed");
    live.run.signal(libc::SIGINT)?;
    let prints = live.finish(0)?;
    let (end, calls) = prints.split_last().context("no print")?;
    ensure!(end["summary"]["coverage"]["lost"]["ring_full"] == 0, "{end}");
    for (pid, list) in [(running.target.pid(), list("first")), (later.pid(), list("second"))] {
        let text = std::fs::read_to_string(&list)?;
        let listed: Vec<i64> = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok()).collect();
        let seen: Vec<i64> = calls
            .iter()
            .filter(|call| call["pid"] == pid)
            .filter_map(|call| call["delta"].as_i64())
            .collect();
        ensure!(listed.len() > 25, "{} calls are no test", listed.len());
        ensure!(seen.ends_with(&listed), "heaptrace has {seen:?}, the program {listed:?}");
    }
    Ok(())
}

fn refused() -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::C("family").compile()?;
    let record = heaptrace::record_file(folder.path());
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let output = heaptrace::output(
        &[&["record", "-o", &text(&record)?], heaptrace::COMMAND, &[&text(&program)?, "1", "1"]].concat(),
    )?;
    let said = String::from_utf8_lossy(&output.stderr);
    println!("\nnote: {}", said.trim().replace('\n', " "));
    ensure!(output.status.code() == Some(CANNOT_TRACE), "ended with {}: {said}", output.status);
    ensure!(said.contains("5.15"), "does not say which kernel is needed: {said}");
    ensure!(!record.exists(), "left a record file");
    Ok(())
}
