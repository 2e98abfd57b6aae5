//! A machine full of processes and files: the bounds that the documentation states, and what is said when they are met.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare,
    programs::Program,
    report::{Report, Site},
    runner::{self, end_to_end},
    session::{Session, Start},
};
use std::{fs, path::Path, process::ExitCode};
use tempfile::TempDir;

const LIBRARIES: usize = 2;

/// As in the program.
const FIRST: u64 = 26_000;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("1,000 processes with 2,000 libraries have tables", whole),
        end_to_end("processes beyond the lists of mappings are counted exactly, and told of", lists_are_full),
        end_to_end("code beyond the unwind rows is counted exactly, and told of", rows_are_full),
    ])
}

/// Runs `processes` children for `rounds` rounds.
fn crowd(processes: usize, rounds: usize, options: &[&'static str]) -> Result<Report> {
    let folder = TempDir::new()?;
    let library = Program::CLibraryWith("opened", &["-DWORDS=10"]).compile()?;
    for number in 0..processes * LIBRARIES {
        fs::copy(&library, folder.path().join(format!("{number}.so"))).context("failed to copy a library")?;
    }
    let path = folder.path().to_str().context("the temporary folder's name is not UTF-8")?;
    let numbers = [processes, LIBRARIES, rounds].map(|number| number.to_string());
    let arguments: Vec<&str> = numbers.iter().map(String::as_str).chain([path]).collect();
    let session = Session::new(Program::COmitFramePointer("crowd"), &arguments)
        .options(&["--exact-children"])
        .options(options);
    let outcome = session.record(Start::Attach)?;
    outcome.ensure_success()?;
    Ok(outcome.report)
}

/// Calls by the libraries, which ask for sizes that nobody else does.
fn by_libraries(report: &Report) -> impl Iterator<Item = &Site> {
    report.sites.iter().filter(|site| site.module().ends_with(".so") && site.function == "malloc")
}

/// Everything that the children allocate is there, whatever became of the stacks.
fn exact(report: &Report, processes: usize, rounds: usize) -> Result<()> {
    compare::nothing_lost(report)?;
    let (mut count, mut bytes) = (0, 0);
    for site in by_libraries(report) {
        count += site.alloc_count;
        bytes += site.alloc_bytes;
    }
    let (calls, rounds) = ((processes * LIBRARIES) as u64, rounds as u64);
    let of_one: u64 = (0..rounds).map(|round| FIRST + round).sum();
    ensure!(
        (count, bytes) == (calls * rounds, calls * of_one),
        "{count} calls of {bytes} bytes; expected {} of {}; {:?}",
        calls * rounds,
        calls * of_one,
        report.coverage
    );
    let allocating = report.processes.iter().filter(|process| process.alloc_count > 0).count();
    ensure!(allocating >= processes, "only {allocating} processes allocated");
    Ok(())
}

/// A stack that calls itself complete is the program's. How many calls have one.
fn right_where_whole(report: &Report) -> Result<u64> {
    let mut whole = 0;
    for site in by_libraries(report).filter(|site| site.stack_end == "complete") {
        let names: Vec<&str> = site.stack.iter().filter_map(|frame| frame.symbol.as_deref()).collect();
        ensure!(names.starts_with(&["inner", "allocate", "child"]) && names.contains(&"main"), "{names:?}");
        whole += site.alloc_count;
    }
    Ok(whole)
}

fn whole() -> Result<()> {
    const PROCESSES: usize = 1000;
    const ROUNDS: usize = 40;
    let report = crowd(PROCESSES, ROUNDS, &[])?;
    exact(&report, PROCESSES, ROUNDS)?;
    ensure!(
        report
            .coverage
            .notes
            .iter()
            .all(|note| !note.contains("frame pointers") && !note.contains("no room")),
        "a bound was met: {:?}",
        report.coverage.notes
    );
    // Each library's tables came at some moment; from then on its stacks are whole.
    let whole = right_where_whole(&report)?;
    let all = (PROCESSES * LIBRARIES * ROUNDS) as u64;
    println!("{whole} of {all} stacks were whole");
    ensure!(whole * 2 > all, "{whole} of {all} stacks were whole: {:?}", report.coverage.stacks);
    Ok(())
}

fn lists_are_full() -> Result<()> {
    let report = crowd(60, 8, &["--max-unwind-lists", "20"])?;
    exact(&report, 60, 8)?;
    right_where_whole(&report)?;
    let told = |note: &String| note.contains("all lists of mappings are in use");
    ensure!(report.coverage.notes.iter().any(told), "{:?}", report.coverage.notes);
    Ok(())
}

fn rows_are_full() -> Result<()> {
    let large = llvm()?;
    let program = Program::CWith("dynamic", &[]);
    let plugin = Program::CLibrary("plugin").compile()?;
    let plugin = plugin.to_str().context("the library's name is not UTF-8")?;
    let outcome = Session::new(program, &["plugin", plugin])
        .options(&["--max-unwind-rows", "1"])
        .environment("LD_PRELOAD", large)
        .record(Start::Attach)?;
    outcome.ensure_success()?;
    // The library frees at the end what it allocated before.
    let slack = compare::Slack { attached_late: true, ..compare::Slack::default() };
    compare::with_slack(&outcome, compare::Find::AnyFrame, slack)?;
    let told = |note: &String| note.contains("no room for unwind rows");
    ensure!(outcome.report.coverage.notes.iter().any(told), "{:?}", outcome.report.coverage.notes);
    Ok(())
}

/// LLVM's library, which the BPF linker needs: 67,448 rows in version 14, 89,819 in 22, and more than a shard has.
fn llvm() -> Result<&'static str> {
    const FOLDER: &str = "/usr/lib/x86_64-linux-gnu";
    let files = fs::read_dir(FOLDER).with_context(|| format!("failed to read {FOLDER}"))?;
    let is_llvm = |name: &String| name.starts_with("libLLVM") && name.contains(".so");
    let names = files.flatten().filter_map(|file| file.file_name().into_string().ok()).filter(is_llvm);
    let name = names.max().with_context(|| format!("no libLLVM in {FOLDER}; `./x setup` installs it"))?;
    Ok(Path::new(FOLDER).join(name).into_os_string().into_string().unwrap_or_default().leak())
}
