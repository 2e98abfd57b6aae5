//! Filters: blocks by size, and processes by user and by cgroup.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    heaptrace,
    ledger::Ledger,
    live::{Live, list, number},
    programs::Program,
    report::Report,
    runner::{self, Test, end_to_end, unprivileged},
    session::{Session, Start, ledger_file},
};
use std::process::ExitCode;
use tempfile::TempDir;

/// The sizes that `bounds` is about.
const BOUNDS: [&str; 2] = ["--min-size=500", "--max-size=1500"];
const ROUNDS: u64 = 100;
const SIZES: [u64; 5] = [499, 500, 777, 1500, 1501];

fn main() -> ExitCode {
    let mut tests: Vec<Test> = vec![
        unprivileged("sizes that contradict each other are a usage error", || {
            usage(&["--min-size", "2k", "--max-size", "1k"], "--min-size is above --max-size")
        }),
        unprivileged("a size that is none is a usage error", || usage(&["--min-size", "big"], "--min-size")),
    ];
    for start in Start::BOTH {
        tests.push(end_to_end(format!("{}: blocks within the sizes are exact", start.name()), move || {
            bounds(start)
        }));
    }
    tests.push(end_to_end("stat and leaks leave out what is filtered, too", live_commands));
    tests.push(end_to_end("one bound alone, with a suffix", one_bound));
    runner::run(tests)
}

fn usage(options: &[&str], word: &str) -> Result<()> {
    for command in ["record", "leaks", "stat"] {
        let output = heaptrace::output(&[&[command], options, &["--", "true"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{command} ended with {}: {said}", output.status);
        ensure!(said.contains(word), "{command} should say {word:?}, said {said}");
    }
    Ok(())
}

fn within(size: u64) -> bool {
    (500..=1500).contains(&size)
}

/// What `bounds` does that a filter leaves out: blocks with their bytes, and frees of blocks that were left out.
fn left_out() -> (u64, u64, u64) {
    let (mut count, mut bytes, mut frees) = (0, 0, 0);
    let mut block = |size: u64| {
        if !within(size) {
            count += ROUNDS;
            bytes += ROUNDS * size;
        }
    };
    let mut freed = |size: u64| frees += if within(size) { 0 } else { ROUNDS };
    for (from, before) in SIZES.into_iter().enumerate() {
        for (to, after) in SIZES.into_iter().enumerate() {
            block(before);
            block(after);
            // By the realloc.
            freed(before);
            if (from + to) % 3 != 0 {
                freed(after);
            }
        }
        block(before);
        if from % 2 != 0 {
            freed(before);
        }
    }
    (count, bytes, frees)
}

fn bounds(start: Start) -> Result<()> {
    let session = Session::new(Program::C("bounds"), &["100"]).options(&BOUNDS);
    let mut outcome = session.record(start)?;
    outcome.ensure_success()?;
    let (count, bytes, frees) = left_out();
    let (&pid, ledger) = outcome.ledger.0.iter_mut().next().context("no ledger")?;
    // The program's ledger has no frees from before: it knows nothing of filters.
    ensure!(ledger.pre_attach_frees == 0, "{} frees from before", ledger.pre_attach_frees);
    ledger.pre_attach_frees = frees;
    compare::exactly(&outcome, Find::Caller)?;
    filtered(&outcome.report, pid, (count, bytes))?;
    ensure!(outcome.report.coverage.unknown_frees == frees, "{:?}", outcome.report.coverage);
    Ok(())
}

fn filtered(report: &Report, pid: u32, expected: (u64, u64)) -> Result<()> {
    let process = report.process(pid).context("the program is not in the report")?;
    let found = (process.filtered_count, process.filtered_bytes);
    ensure!(found == expected, "{found:?} were filtered, {expected:?} had other sizes");
    Ok(())
}

fn live_commands() -> Result<()> {
    let program = Program::C("bounds").compile()?;
    let (count, bytes, frees) = left_out();
    let folder = TempDir::new()?;
    let folder = folder.path();
    let ledger_out = ledger_file(folder);
    let environment = [("LEDGER_OUT", ledger_out.as_os_str())];
    let prints = Live::command("stat", &BOUNDS, folder, &program, &["100"], &environment)?.finish(0)?;
    let stat = prints.last().context("no print")?;
    let ledger = Ledger::read(&ledger_out)?.0.pop_first().context("no ledger")?.1;
    let expected = ledger.sites["site_malloc"].alloc_count + ledger.sites["site_realloc"].alloc_count;
    for (key, expected) in [
        ("total.alloc_count", expected),
        ("total.filtered_count", count),
        ("total.filtered_bytes", bytes),
        ("total.unknown_frees", frees),
        ("coverage.unknown_frees", frees),
        ("coverage.size_filter.min", 500),
        ("coverage.size_filter.max", 1500),
    ] {
        let found = number(stat, key)?;
        ensure!(found == expected, "{key} is {found}, not {expected}");
    }
    let options = [&BOUNDS[..], &["--older-than", "0s", "--top", "100"]].concat();
    let prints = Live::command("leaks", &options, folder, &program, &["100"], &[])?.finish(0)?;
    let leaks = prints.last().context("no print")?;
    let live = ["site_malloc", "site_realloc"].map(|site| ledger.sites[site].live_bytes);
    let mut found = [0, 0];
    for row in list(leaks, "rows")? {
        let at = usize::from(row["function"] == "realloc");
        found[at] += number(row, "bytes")?;
    }
    ensure!(found == live, "{found:?} are outstanding, the ledger has {live:?}");
    Ok(())
}

fn one_bound() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("counts").compile()?;
    let prints = Live::command("stat", &["--min-size=6k"], folder, &program, &["50", "0"], &[])?.finish(0)?;
    let stat = prints.last().context("no print")?;
    // Only posix_memalign's 20,011 bytes are 6 KiB or more: aligned_alloc's are 6,016.
    ensure!(number(stat, "total.alloc_bytes")? == 50 * 20_011, "{}", stat["total"]);
    ensure!(number(stat, "coverage.size_filter.max")? == u64::MAX, "{}", stat["coverage"]);
    let text =
        heaptrace::output(&["stat", "--min-size=6k", "--", program.to_str().context("UTF-8")?, "50", "0"])?;
    let text = String::from_utf8_lossy(&text.stdout);
    ensure!(text.contains("only blocks of 6,144 bytes and more were traced: "), "{text}");
    ensure!(
        text.contains("allocated before tracing began, or filtered by size, which cannot be told apart"),
        "{text}"
    );
    Ok(())
}
