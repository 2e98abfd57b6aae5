//! What each thread allocated, to the byte: of threads at one time, of such as follow one another, and of one that takes
//! another name.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    ledger::{Figures, Ledger},
    live::{Live, list, number},
    programs::Program,
    report::Site,
    runner::{self, Test, end_to_end},
    session::{Session, Start, ledger_file},
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::ExitCode};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests: Vec<Test> = Vec::new();
    for start in Start::BOTH {
        for (name, options) in
            [("stacks", &["--threads"][..]), ("no stacks", &["--threads", "--stack", "none"])]
        {
            let name = format!("{}: threads have what they allocated, with {name}", start.name());
            tests.push(end_to_end(name, move || exact(start, options)));
        }
    }
    tests.push(end_to_end("stat and leaks tell threads apart where they are asked to", as_it_runs));
    tests.push(end_to_end("a recording without threads says how to make one with them", without));
    runner::run(tests)
}

/// Named threads in the order of their names; the first thread, whose calls are not all in the ledger, left out.
fn by_thread<'s>(sites: impl Iterator<Item = &'s Site>) -> Result<BTreeMap<String, Figures>> {
    let mut threads: BTreeMap<String, Figures> = BTreeMap::new();
    for site in sites {
        let thread = site.thread.as_ref().context("a site is no thread's")?;
        let Site { alloc_bytes, alloc_count, free_bytes, free_count, live_bytes, live_count, .. } = *site;
        let figures = Figures { alloc_bytes, alloc_count, free_bytes, free_count, live_bytes, live_count };
        *threads.entry(format!("{} {}", thread.tid, thread.name)).or_default() += figures;
    }
    threads.retain(|name, _| !name.ends_with(" threaded"));
    Ok(threads)
}

fn exact(start: Start, options: &[&'static str]) -> Result<()> {
    let folder = TempDir::new()?;
    let outcome =
        Session::new(Program::C("threaded"), &[]).options(options).record_in(start, folder.path())?;
    outcome.ensure_success()?;
    let (pid, ledger) = outcome.ledger.0.first_key_value().context("a ledger")?;
    ensure!(ledger.sites.len() == 9, "{:?}", ledger.sites);
    let found = by_thread(outcome.report.sites_of(*pid))?;
    ensure!(found == ledger.sites, "found {found:#?}, expected {:#?}", ledger.sites);

    let text =
        report(folder.path(), &["--view", "alloc", "--by", "thread", "--percent-limit", "0", "--raw"])?;
    for (thread, figures) in &ledger.sites {
        let (tid, name) = thread.split_once(' ').context("a name")?;
        let row = text.lines().find(|line| line.contains(&format!(" {tid}  {name} ")));
        let row = row.with_context(|| format!("no row of {thread} in {text}"))?;
        let cells: Vec<&str> = row.split_whitespace().collect();
        let numbers = [figures.alloc_bytes, figures.alloc_count, figures.free_bytes, figures.free_count];
        ensure!(cells[1..5] == numbers.map(|number| number.to_string()), "{row:?} is not {figures}");
    }
    Ok(())
}

/// What `command` prints last of the program, and its ledger.
fn last_print(command: &str, options: &[&str]) -> Result<(Value, BTreeMap<String, Figures>)> {
    let folder = TempDir::new()?;
    let file = ledger_file(folder.path());
    let environment = [("LEDGER_OUT", file.as_os_str())];
    let options = &[options, &["--threads"]].concat();
    let program = Program::C("threaded").compile()?;
    let prints = Live::command(command, options, folder.path(), &program, &[], &environment)?.finish(0)?;
    let print = prints.last().context("nothing was printed")?.clone();
    let ledger = Ledger::read(&file)?;
    let (_, process) = ledger.0.first_key_value().context("a ledger")?;
    Ok((print, process.sites.clone()))
}

/// Sums by named thread: of `rows` that have a thread but the first one.
fn sums<const N: usize>(rows: &[Value], keys: [&str; N]) -> Result<BTreeMap<String, [u64; N]>> {
    let mut sums: BTreeMap<String, [u64; N]> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["thread"]["name"] != "threaded") {
        let name = row["thread"]["name"].as_str().with_context(|| format!("no thread: {row}"))?;
        let sum = sums.entry(format!("{} {name}", row["thread"]["tid"])).or_insert([0; N]);
        for (sum, key) in sum.iter_mut().zip(keys) {
            *sum += number(row, key)?;
        }
    }
    Ok(sums)
}

fn as_it_runs() -> Result<()> {
    let (print, ledger) = last_print("stat", &[])?;
    let keys = ["alloc_bytes", "alloc_count", "free_bytes", "free_count", "live_bytes", "live_count"];
    let found = sums(list(&print["processes"][0], "threads")?, keys)?;
    let of = |of: &Figures| {
        [of.alloc_bytes, of.alloc_count, of.free_bytes, of.free_count, of.live_bytes, of.live_count]
    };
    let expected: BTreeMap<_, _> = ledger.iter().map(|(name, figures)| (name.clone(), of(figures))).collect();
    ensure!(found == expected, "stat found {found:#?}, expected {expected:#?}");

    let (print, ledger) = last_print("leaks", &["--older-than", "0s", "--top", "1000"])?;
    let found = sums(list(&print, "rows")?, ["bytes", "count"])?;
    let held = ledger.iter().filter(|(_, figures)| figures.live_count > 0);
    let expected = held.map(|(name, of)| (name.clone(), [of.live_bytes, of.live_count])).collect();
    ensure!(found == expected && found.len() > 5, "leaks found {found:#?}, expected {expected:#?}");
    Ok(())
}

fn without() -> Result<()> {
    let folder = TempDir::new()?;
    Session::new(Program::C("threaded"), &[]).record_in(Start::Command, folder.path())?;
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(&["report", file.to_str().context("UTF-8")?, "--by", "thread"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && said.contains("heaptrace record --threads"), "{said}");
    Ok(())
}

fn report(folder: &Path, options: &[&str]) -> Result<String> {
    let file = heaptrace::record_file(folder);
    let mut arguments = vec!["report", file.to_str().context("UTF-8")?];
    arguments.extend(options);
    let output = heaptrace::output(&arguments)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
