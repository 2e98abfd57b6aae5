//! Every bounded structure made too small in turn: what is kept is right, what is not is counted, and said.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    ledger::Figures,
    programs::Program,
    report::{Process, Report},
    runner::{self, end_to_end},
    running::Running,
    session::{self, Session, Start, Waiting},
};
use std::{
    collections::BTreeSet,
    fs,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

/// What each process of the program `brief` allocates and frees, by size.
const BRIEF: Figures = Figures {
    alloc_bytes: 1009 + 2003 + 3001,
    alloc_count: 3,
    free_bytes: 2003,
    free_count: 1,
    live_bytes: 1009 + 3001,
    live_count: 2,
};

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("20,000 stacks against a table of 1,000", stacks_against_a_small_table),
        end_to_end("frames of 20,000 stacks against a table of 1,000", frames_against_a_small_table),
        end_to_end("live blocks against a small table, freed and refilled", live_blocks),
        end_to_end("100 threads are exact", threads),
        end_to_end("100 threads against a table of 16", threads_against_a_small_table),
        end_to_end("processes beyond a table of 5", processes_against_a_small_table),
        end_to_end("processes that exec, beyond a table of 40", execs_against_a_small_table),
        end_to_end("10,000 short processes in a table of 1,000, used again", places_used_again),
        end_to_end("100,000 processes fork, exec and exit", very_many_processes).slow(),
        end_to_end("events beyond a small ring", events_against_a_small_ring),
        end_to_end("10,000 short processes are exact", short_processes),
        end_to_end("tables take less than 120 MB, as the kernel counts them, and as is said", memory),
    ])
}

fn lost(report: &Report, reason: &str) -> Result<u64> {
    report.coverage.lost.get(reason).copied().with_context(|| format!("no counter {reason}"))
}

/// Fails if anything but `reasons` was lost.
fn only(report: &Report, reasons: &[&str]) -> Result<()> {
    for (reason, count) in &report.coverage.lost {
        ensure!(*count == 0 || reasons.contains(&reason.as_str()), "lost {count}: {reason}");
    }
    Ok(())
}

/// The text report says that there were losses.
fn footer(folder: &TempDir, reason: &str) -> Result<()> {
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(&["report", file.to_str().context("not UTF-8")?])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains(&format!("({reason}:")), "the footer does not name {reason}\n{text}");
    ensure!(!text.contains("no losses"), "the footer says that there are none\n{text}");
    Ok(())
}

fn many_stacks(option: &'static str) -> Result<(Report, TempDir)> {
    let folder = TempDir::new()?;
    let session = Session::new(Program::C("many"), &["stacks", "20000"]).options(&[option]);
    let outcome = session.record_in(Start::Command, folder.path())?;
    let expected = outcome.ledger.0.values().next().context("no ledger")?.sites["site_deep"];
    // Whatever became of the stacks, the process's totals are whole.
    let process = &outcome.report.processes[0];
    let found = (process.alloc_bytes, process.alloc_count, process.live_bytes, process.live_count);
    let ledger = (expected.alloc_bytes, expected.alloc_count, expected.live_bytes, expected.live_count);
    ensure!(found == ledger, "the ledger has {ledger:?}, the report {found:?}");
    only(&outcome.report, &["stack_map_full", "growth_map_full"])?;
    Ok((outcome.report, folder))
}

fn stacks_against_a_small_table() -> Result<()> {
    let (report, folder) = many_stacks("--max-sites=1000")?;
    let unknown = lost(&report, "stack_map_full")?;
    ensure!(report.sites.len() <= 1000 && report.sites.len() > 900, "{} sites", report.sites.len());
    // Those that found no site are counted under an unknown stack, which is a site too.
    let under_unknown: u64 =
        report.sites.iter().filter(|site| site.stack_end == "not_walked").map(|site| site.alloc_count).sum();
    ensure!(under_unknown == unknown, "{under_unknown} blocks under an unknown stack, {unknown} counted");
    full_table(&report, "sites", unknown)?;
    footer(&folder, "stack_map_full")
}

/// The table that was full is named, with what it had no room for.
fn full_table(report: &Report, table: &str, least: u64) -> Result<()> {
    let said = |note: &&String| note.starts_with(&format!("the table of {table} had no room for"));
    let note = report.coverage.notes.iter().find(said);
    let note = note.with_context(|| format!("{table} are not named: {:?}", report.coverage.notes))?;
    let count: String = note.chars().filter(char::is_ascii_digit).collect();
    ensure!(count.parse::<u64>()? >= least && note.ends_with(&format!("--max-{table}")), "{note}");
    let other = if table == "sites" { "frames" } else { "sites" };
    ensure!(!report.coverage.notes.iter().any(|note| note.contains(&format!("table of {other}"))), "{note}");
    Ok(())
}

fn frames_against_a_small_table() -> Result<()> {
    let (report, folder) = many_stacks("--max-frames=1000")?;
    let unknown = lost(&report, "stack_map_full")?;
    ensure!(unknown > 19_000, "{:?}", report.coverage.lost);
    full_table(&report, "frames", unknown)?;
    footer(&folder, "stack_map_full")
}

/// Blocks that found no room are in no total, and neither are their frees; room that is given back is used again.
fn live_blocks() -> Result<()> {
    let folder = TempDir::new()?;
    let session = Session::new(Program::C("family"), &["1", "60"]).options(&["--max-live=150"]);
    let outcome = session.record_in(Start::Command, folder.path())?;
    let report = &outcome.report;
    let process = &report.processes[0];
    let count = lost(report, "live_map_full")?;
    only(report, &["live_map_full"])?;
    ensure!(count > 0 && count == process.lost_count, "{count} lost, {process:?}");
    let mut all = Figures::default();
    outcome.ledger.0.values().flat_map(|ledger| ledger.sites.values()).for_each(|site| all += *site);
    ensure!(
        process.alloc_count + process.lost_count == all.alloc_count
            && process.alloc_bytes + process.lost_bytes == all.alloc_bytes,
        "ledger {all}, report {process:?}"
    );
    // A block is freed in the totals, or was lost: then its free is one of an unknown block.
    ensure!(process.free_count <= all.free_count, "{process:?}");
    ensure!(
        process.free_count + process.unknown_frees + process.missed_frees >= all.free_count,
        "ledger {all}, report {process:?}"
    );
    footer(&folder, "live_map_full")
}

const THREADS: &[&str] = &["100", "40"];

fn threads() -> Result<()> {
    for start in Start::BOTH {
        let outcome = Session::new(Program::C("family"), THREADS).record(start)?;
        heaptrace_tests::compare::exactly(&outcome, heaptrace_tests::compare::Find::Caller)?;
    }
    Ok(())
}

/// A call without a place is in no total; those with one are exact.
fn threads_against_a_small_table() -> Result<()> {
    let folder = TempDir::new()?;
    let session = Session::new(Program::C("family"), THREADS).options(&["--max-threads=16"]);
    let outcome = session.record_in(Start::Command, folder.path())?;
    let report = &outcome.report;
    let process = &report.processes[0];
    let mut all = Figures::default();
    let mut failed = 0;
    for ledger in outcome.ledger.0.values() {
        ledger.sites.values().for_each(|site| all += *site);
        failed += ledger.failed;
    }
    let without_place = lost(report, "pending_full")?;
    only(report, &["pending_full"])?;
    ensure!(without_place > 0, "100 threads found room in 16 places");
    // Calls that an allocation function without a place makes itself have none either, and are counted too.
    let (kept, made) = (process.alloc_count + process.failed_count, all.alloc_count + failed);
    ensure!(
        kept < made && kept + without_place >= made,
        "{without_place} calls without a place, ledger {all} and {failed} failed, report {process:?}"
    );
    ensure!(process.alloc_bytes <= all.alloc_bytes, "ledger {all}, report {process:?}");
    footer(&folder, "pending_full")
}

/// The processes of `brief` in a report that allocated anything.
fn brief(report: &Report) -> impl Iterator<Item = &Process> {
    report.processes.iter().filter(|process| process.alloc_count > 0)
}

/// Each is exact.
fn exact_moments<'a>(processes: impl Iterator<Item = &'a Process>) -> Result<usize> {
    let mut count = 0;
    for process in processes {
        let found = process.figures();
        ensure!(found == BRIEF, "process {}: {found}; expected {BRIEF}", process.pid);
        count += 1;
    }
    Ok(count)
}

fn brief_session(arguments: &[&str], options: &[&'static str]) -> Session {
    Session::new(Program::C("brief"), arguments).options(&["--exact-children"]).options(options)
}

fn processes_against_a_small_table() -> Result<()> {
    const CHILDREN: usize = 30;
    let folder = TempDir::new()?;
    // The program itself is two: before its exec, and after.
    let session = brief_session(&["30", "fork", "together"], &["--max-processes=7"]);
    let report = session.record_in(Start::Command, folder.path())?.report;
    only(&report, &["process_table_full"])?;
    let kept = exact_moments(brief(&report))?;
    let without_record = lost(&report, "process_table_full")? as usize;
    // The one before its exec may be retired by then.
    ensure!(
        (5..=6).contains(&kept) && kept + without_record == CHILDREN,
        "{kept} kept, {without_record} lost"
    );
    footer(&folder, "process_table_full")
}

fn execs_against_a_small_table() -> Result<()> {
    const CHILDREN: usize = 60;
    let folder = TempDir::new()?;
    let session = brief_session(&["60", "exec", "together"], &["--max-processes=42"]);
    let report = session.record_in(Start::Command, folder.path())?.report;
    only(&report, &["process_table_full"])?;
    // An image that found no room is left out: it allocates in no total, and nothing is under a wrong process.
    let kept = exact_moments(brief(&report))?;
    ensure!(kept > 0 && kept < CHILDREN, "{kept} of {CHILDREN} kept");
    ensure!(lost(&report, "process_table_full")? as usize >= CHILDREN - kept, "{:?}", report.coverage.lost);
    footer(&folder, "process_table_full")
}

/// The places of processes that have ended are others'. However fast they come, what finds none is counted.
fn places_used_again() -> Result<()> {
    const CHILDREN: usize = 10_000;
    const ROOM: usize = 1_000;
    let report = brief_session(&["10000", "fork"], &["--max-processes=1000"]).record(Start::Command)?.report;
    only(&report, &["process_table_full"])?;
    let kept = exact_moments(brief(&report))?;
    let without_record = lost(&report, "process_table_full")? as usize;
    println!("{kept} of {CHILDREN} kept in {ROOM} places");
    ensure!(kept > 2 * ROOM && kept + without_record == CHILDREN, "{kept} kept, {without_record} lost");
    Ok(())
}

/// Six times as many as there are places by default.
fn very_many_processes() -> Result<()> {
    const CHILDREN: usize = 100_000;
    let report = brief_session(&["100000", "exec"], &[]).record(Start::Command)?.report;
    // On a machine that is too slow for them some find no place, or no news of them come.
    only(&report, &["process_table_full", "ring_full"])?;
    let kept = exact_moments(brief(&report))?;
    let lost = lost(&report, "process_table_full")? as usize;
    println!("{kept} of {CHILDREN} kept, {lost} found no place");
    ensure!(kept > CHILDREN / 2 && kept + lost >= CHILDREN, "{kept} kept, {lost} lost");
    Ok(())
}

/// Events that are lost cost no block: the kernel's side accounts by itself.
fn events_against_a_small_ring() -> Result<()> {
    const CHILDREN: usize = 400;
    let folder = TempDir::new()?;
    session::copy_libc(folder.path())?;
    let mut command = Command::new(Program::C("brief").compile()?);
    command
        .args(["400", "fork"])
        .env("LD_LIBRARY_PATH", folder.path().join("lib"))
        .env("LEDGER_OUT", session::ledger_file(folder.path()));
    let mut waiting = Waiting::start(command, folder.path())?;
    let options = ["--exact-children", "--max-events", "1"];
    let mut recorder: Running = heaptrace::attach(&[waiting.target.pid()], &options, folder.path())?;
    // While it does not run, nobody reads the ring.
    let status = recorder.while_it_stands(|| {
        waiting.go()?;
        waiting.target.wait()
    })?;
    ensure!(status.success(), "the program failed");
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder.path())?;
    only(&report, &["ring_full"])?;
    ensure!(lost(&report, "ring_full")? > 0, "a ring of one page held 800 events");
    let kept = exact_moments(brief(&report))?;
    ensure!(kept == CHILDREN, "{kept} of {CHILDREN} children; {:?}", report.coverage.notes);
    footer(&folder, "ring_full")
}

fn short_processes() -> Result<()> {
    const CHILDREN: usize = 10_000;
    let report = brief_session(&["10000", "fork"], &[]).record(Start::Command)?.report;
    only(&report, &[])?;
    let kept = exact_moments(brief(&report))?;
    ensure!(kept == CHILDREN, "{kept} of {CHILDREN} children; {:?}", report.coverage.notes);
    let ids: BTreeSet<u32> = brief(&report).map(|process| process.pid).collect();
    println!("{} PIDs for {CHILDREN} processes", ids.len());
    Ok(())
}

/// By default, with all that is traced by default.
fn memory() -> Result<()> {
    const AIM: u64 = 120_000_000;
    let folder = TempDir::new()?;
    let mut command = Command::new(Program::C("brief").compile()?);
    command.args(["1", "fork"]).env("LEDGER_OUT", session::ledger_file(folder.path()));
    let mut waiting = Waiting::start(command, folder.path())?;
    let mut recorder = heaptrace::attach(&[waiting.target.pid()], &[], folder.path())?;
    let kernels = map_bytes(recorder.pid())?;
    let said = recorder.stderr();
    waiting.go()?;
    waiting.target.wait()?;
    heaptrace::finish(&mut recorder)?;
    let said = said.split_once(" MB of kernel memory").and_then(|(said, _)| said.rsplit('(').next());
    let said: u64 = said.context("no size is said")?.parse()?;
    ensure!(kernels < AIM, "{kernels} bytes by the kernel's count");
    let difference = kernels.abs_diff(said * 1_000_000);
    ensure!(difference < 2_000_000, "{said} MB are said, the kernel counts {kernels} bytes");
    Ok(())
}

/// What a process's BPF maps take: of those that it mapped, the mappings, of others that it holds, the kernel's count.
fn map_bytes(pid: u32) -> Result<u64> {
    /// include/uapi/linux/bpf.h
    const BPF_MAP_TYPE_RINGBUF: &str = "27";
    let mut sum = 0;
    let mut rings: Vec<u64> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let Some(kind) = field("map_type") else { continue };
        sum += field("memlock").context("no memlock")?.parse::<u64>()?;
        if kind == BPF_MAP_TYPE_RINGBUF {
            rings.push(field("max_entries").context("no max_entries")?.parse()?);
        }
    }
    for line in
        fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().filter(|line| line.ends_with("bpf-map"))
    {
        let (start, rest) = line.split_once('-').context("no range")?;
        let end = rest.split_whitespace().next().context("no end")?;
        let length = u64::from_str_radix(end, 16)? - u64::from_str_radix(start, 16)?;
        // A ring is mapped in two parts, its data twice.
        if length != 4096 && !rings.iter().any(|ring| length == 2 * ring + 4096) {
            sum += length;
        }
    }
    Ok(sum)
}
