//! `heaptrace stat` against the programs' own ledgers.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code, heaptrace,
    ledger::{Figures, Ledger, ProcessLedger},
    live::{self, Live, list, number},
    programs::Program,
    runner::{self, end_to_end},
    session::{Start, Waiting, ledger_file},
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

/// What `counts` ends with.
const COUNTS_END: i32 = 23;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        tests.push(end_to_end(format!("{}: calls and bytes of every function", start.name()), move || {
            functions(start)
        }));
        tests.push(end_to_end(
            format!("{}: blocks are classed by how long they lived", start.name()),
            move || lifetimes(start),
        ));
    }
    tests.extend([
        end_to_end("each process has its own counters, and all add up", several),
        end_to_end("--exact-children: a forked child is counted from its first call", exact_children),
        end_to_end("the command's end is told and can be passed on", command_end),
        end_to_end("counters at an interval only grow", intervals),
        end_to_end("text names every function and ends with the coverage", text),
        end_to_end("a reader that stops early is no failure", early_reader),
        end_to_end("--trace allocs: calls and bytes of every function, and no frees", allocs),
        end_to_end("--trace growth: no code is changed, and mapped memory is counted", growth_alone),
        end_to_end("brk, mmap and munmap are those that record reports", growth),
    ]);
    runner::run(tests)
}

/// Runs `stat` on `counts COUNT HELD`; gives the last print and the ledger of the process.
fn counts(start: Start, arguments: &[&str], options: &[&str]) -> Result<(Vec<Value>, u32, ProcessLedger)> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("counts").compile()?;
    let ledger = ledger_file(folder);
    let prints = match start {
        Start::Command => {
            let environment = [("LEDGER_OUT", ledger.as_os_str())];
            Live::command("stat", options, folder, &program, arguments, &environment)?.finish(0)?
        }
        Start::Attach => {
            let mut command = Command::new(program);
            command.args(arguments).env("LEDGER_OUT", &ledger);
            let mut waiting = Waiting::start(command, folder)?;
            let live = Live::attach("stat", &[waiting.target.pid()], options, folder)?;
            waiting.go()?;
            let prints = live.finish(0)?;
            let status = waiting.target.wait()?;
            ensure!(status.code() == Some(COUNTS_END), "the program ended with {status}");
            prints
        }
    };
    let (pid, process) = Ledger::read(&ledger)?.0.pop_first().context("no process in the ledger")?;
    Ok((prints, pid, process))
}

fn last(prints: &[Value]) -> Result<&Value> {
    let last = prints.last().context("nothing was printed")?;
    ensure!(last["last"] == true && last["coverage"]["finished"] == true, "it is not the last: {last}");
    let lost = last["coverage"]["lost"].as_object().context("no losses in the coverage")?;
    ensure!(lost.values().all(|count| count == 0), "something was lost: {lost:?}");
    Ok(last)
}

fn process(print: &Value, pid: u32) -> Result<&Value> {
    let found = list(print, "processes")?.iter().find(|process| process["pid"] == pid);
    found.with_context(|| format!("process {pid} is not in {print}"))
}

fn function<'a>(of: &'a Value, name: &str) -> Result<&'a Value> {
    let found = list(of, "functions")?.iter().find(|function| function["function"] == name);
    found.with_context(|| format!("no function {name} in {of}"))
}

fn functions(start: Start) -> Result<()> {
    const COUNT: u64 = 500;
    let (prints, pid, ledger) = counts(start, &["500", "20"], &[])?;
    let print = last(&prints)?;
    let of_process = process(print, pid)?;
    let mut all = Figures::default();
    let named =
        ledger.sites.iter().filter_map(|(name, figures)| Some((name.strip_prefix("function:")?, figures)));
    for (name, figures) in named {
        let found = function(of_process, name)?;
        let found = (number(found, "alloc_count")?, number(found, "alloc_bytes")?);
        ensure!(
            found == (figures.alloc_count, figures.alloc_bytes),
            "{name}: {found:?}, the ledger has {figures}"
        );
        all += *figures;
    }
    ensure!(all.alloc_count > 5 * COUNT, "the program made too few calls: {all}");
    for (key, expected) in [
        ("alloc_bytes", all.alloc_bytes),
        ("alloc_count", all.alloc_count),
        ("free_bytes", all.free_bytes),
        ("free_count", all.free_count),
        ("live_bytes", all.live_bytes),
        ("live_count", all.live_count),
        ("failed_count", ledger.failed),
        ("unknown_frees", ledger.pre_attach_frees),
        ("missed_frees", 0),
        ("inherited_free_count", 0),
        ("filtered_count", 0),
    ] {
        let found = number(of_process, key)?;
        ensure!(found == expected, "{key} is {found}, the ledger has {expected}");
    }
    if start == Start::Attach {
        ensure!(ledger.pre_attach_frees == 7, "{} blocks from before", ledger.pre_attach_frees);
    }
    // Each realloc that worked frees the block that it was given; free frees the rest, and what was there before.
    let (realloc, free) = (function(of_process, "realloc")?, function(of_process, "free")?);
    ensure!(
        number(realloc, "free_count")? == COUNT && number(realloc, "free_bytes")? == 37 * COUNT,
        "{realloc}"
    );
    let rest = (all.free_count - COUNT + ledger.pre_attach_frees, all.free_bytes - 37 * COUNT);
    ensure!((number(free, "free_count")?, number(free, "free_bytes")?) == rest, "{free}, not {rest:?}");
    let failed: Vec<u64> = ["malloc", "calloc", "realloc"]
        .into_iter()
        .map(|name| number(function(of_process, name)?, "failed_count"))
        .collect::<Result<_>>()?;
    ensure!(failed == [3, 1, 1], "failed calls: {failed:?}");
    sizes(of_process, COUNT)?;
    // At one time the program holds a block of each of two functions, and the largest is of 20,011 bytes.
    let peak = number(of_process, "peak_live_bytes")?;
    ensure!(peak >= all.live_bytes && peak >= 20_011 && peak <= all.alloc_bytes, "peak {peak} of {all}");
    ensure!(number(print, "total.alloc_bytes")? == all.alloc_bytes, "the total is not its only process's");
    Ok(())
}

/// Each function has a size class of its own, but malloc.
fn sizes(of_process: &Value, count: u64) -> Result<()> {
    let classes = list(of_process, "sizes")?;
    let of = |least: u64| classes.iter().find(|class| class[0] == least).and_then(|class| class[2].as_u64());
    for least in [256, 1024, 4096, 16384] {
        ensure!(of(least) == Some(count), "sizes from {least}: {:?} of {count}", of(least));
    }
    let all: u64 = classes.iter().filter_map(|class| class[2].as_u64()).sum();
    ensure!(all == number(of_process, "alloc_count")?, "{all} blocks have a size");
    Ok(())
}

fn lifetimes(start: Start) -> Result<()> {
    const HELD: u64 = 333;
    let (prints, pid, _) = counts(start, &["200", "333"], &[])?;
    let print = last(&prints)?;
    let of_process = process(print, pid)?;
    let classes = list(of_process, "lifetimes")?;
    let count = |long: bool| -> u64 {
        let of = classes.iter().filter(|class| (class[0].as_f64().unwrap_or(0.0) >= 0.0999) == long);
        of.filter_map(|class| class[2].as_u64()).sum()
    };
    let (short, long) = (count(false), count(true));
    let known = number(of_process, "free_count")?;
    ensure!(short + long == known, "{short} and {long} lifetimes of {known} freed blocks");
    // They were held for 150 ms; the others for as long as a call takes, unless the machine was at a standstill.
    ensure!(long >= HELD, "{long} blocks lived for 100 ms, {HELD} were held: {classes:?}");
    ensure!(long < HELD + short / 2, "{long} blocks lived for 100 ms, of {HELD}: {classes:?}");
    Ok(())
}

fn several() -> Result<()> {
    let folders = [TempDir::new()?, TempDir::new()?];
    let program = Program::C("counts").compile()?;
    let start = |folder: &Path, count: &str| {
        let mut command = Command::new(&program);
        command.args([count, "5"]).env("LEDGER_OUT", ledger_file(folder));
        Waiting::start(command, folder)
    };
    let mut first = start(folders[0].path(), "100")?;
    let mut second = start(folders[1].path(), "300")?;
    let pids = [first.target.pid(), second.target.pid()];
    let output = TempDir::new()?;
    let live = Live::attach("stat", &pids, &[], output.path())?;
    for waiting in [&mut first, &mut second] {
        waiting.go()?;
        waiting.target.wait()?;
    }
    let prints = live.finish(0)?;
    let print = last(&prints)?;
    let mut sum = (0, 0, 0, 0);
    for (pid, folder) in pids.into_iter().zip(&folders) {
        let ledger = Ledger::read(&ledger_file(folder.path()))?;
        let mut all = Figures::default();
        ledger.process(pid)?.sites.values().for_each(|figures| all += *figures);
        let of_process = process(print, pid)?;
        let found = (number(of_process, "alloc_bytes")?, number(of_process, "free_count")?);
        ensure!(found == (all.alloc_bytes, all.free_count), "process {pid}: {found:?}, the ledger has {all}");
        ensure!(of_process["exited"] == true, "process {pid} has exited");
        sum.0 += found.0;
        sum.1 += found.1;
        sum.2 += number(of_process, "peak_live_bytes")?;
        sum.3 += number(function(of_process, "free")?, "free_count")?;
    }
    let total = &print["total"];
    let found = (
        number(total, "alloc_bytes")?,
        number(total, "free_count")?,
        number(total, "peak_live_bytes")?,
        number(function(total, "free")?, "free_count")?,
    );
    ensure!(found == sum, "the total is {found:?}, its processes have {sum:?}");
    Ok(())
}

fn exact_children() -> Result<()> {
    let (prints, ledger) = live::exact_children("stat", &[])?;
    let print = last(&prints)?;
    for (pid, ledger) in &ledger.0 {
        let mut all = Figures::default();
        ledger.sites.values().for_each(|figures| all += *figures);
        let of_process = process(print, *pid)?;
        for (key, expected) in [
            ("alloc_bytes", all.alloc_bytes),
            ("alloc_count", all.alloc_count),
            ("free_bytes", all.free_bytes),
            ("free_count", all.free_count),
            ("inherited_free_count", ledger.inherited_frees),
            ("unknown_frees", 0),
        ] {
            let found = number(of_process, key)?;
            ensure!(found == expected, "process {pid}: {key} is {found}, the ledger has {expected}");
        }
    }
    Ok(())
}

fn command_end() -> Result<()> {
    let program = Program::C("counts").compile()?;
    let run = |program: &Path, arguments: &[&str], options: &[&str], code| -> Result<Value> {
        let folder = TempDir::new()?;
        let prints = Live::command("stat", options, folder.path(), program, arguments, &[])?.finish(code)?;
        Ok(last(&prints)?["command"].clone())
    };
    let exited = run(&program, &["3", "3"], &[], 0)?;
    ensure!(exited["exit_code"] == COUNTS_END && exited["signal"].is_null(), "{exited}");
    run(&program, &["3", "3"], &["--propagate-exit"], COUNTS_END)?;
    let killed = run(Path::new("/bin/sh"), &["-c", "kill -9 $$"], &["--propagate-exit"], 128 + 9)?;
    ensure!(killed["signal"] == 9 && killed["exit_code"].is_null(), "{killed}");
    Ok(())
}

fn intervals() -> Result<()> {
    let (prints, pid, ledger) = counts(Start::Attach, &["5000", "100"], &["--interval", "20ms"])?;
    // The program takes 150 ms at least.
    ensure!(prints.len() >= 2, "{} prints", prints.len());
    let (last, before) = prints.split_last().context("nothing was printed")?;
    ensure!(
        last["last"] == true && before.iter().all(|print| print["last"] == false),
        "only one is the last"
    );
    let mut counted = 0;
    for print in &prints {
        let now = number(print, "total.alloc_count")?;
        ensure!(now >= counted, "{counted} allocations became {now}");
        counted = now;
    }
    let mut all = Figures::default();
    ledger.sites.values().for_each(|figures| all += *figures);
    ensure!(counted == all.alloc_count, "{counted} allocations of {pid}, the ledger has {all}");
    Ok(())
}

fn text() -> Result<()> {
    let program = Program::C("counts").compile()?;
    let program = program.to_str().context("a path is not UTF-8")?;
    let run = |options: &[&str]| -> Result<String> {
        let arguments = [&["stat"], options, heaptrace::COMMAND, &[program, "300", "10"]].concat();
        let output = heaptrace::output(&arguments)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "ended with {}: {text}", output.status);
        Ok(text)
    };
    let raw = run(&["--raw"])?;
    for part in ["  aligned_alloc           300  1804800     6016", "0.1 s - 1 s"] {
        ensure!(raw.contains(part), "{part:?} is not in\n{raw}");
    }
    let text = run(&[])?;
    for part in [
        "# The command exited with code 23",
        "  aligned_alloc           300  1,804,800    6,016",
        "  posix_memalign          300  6,003,300   20,011",
        "Sizes of allocated blocks: ",
        "Lifetimes of freed blocks: ",
        "100 ms - 1 s",
        "# Coverage:\n#   exact mode (every block), ",
        "#   no losses\n#   stacks were not walked\n",
    ] {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    Ok(())
}

fn early_reader() -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::C("counts").compile()?;
    let script = format!(
        "{} stat --interval 10ms --format json -- {} 10000 10 | head -n 1",
        heaptrace::binary()?.display(),
        program.display()
    );
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &format!("set -o pipefail; {script}")]);
    let mut shell = heaptrace_tests::running::Running::spawn(command, "shell", folder.path())?;
    let status = shell.wait()?;
    ensure!(status.success(), "{}", shell.describe(&format!("ended with {status}")));
    ensure!(shell.stdout().lines().count() == 1, "{}", shell.stdout());
    Ok(())
}

fn allocs() -> Result<()> {
    let (prints, pid, ledger) = counts(Start::Attach, &["500", "20"], &["--trace", "allocs"])?;
    let print = last(&prints)?;
    ensure!(print["mode"] == "allocs" && print["live_is_bound"] == true, "{print}");
    let of_process = process(print, pid)?;
    for (name, figures) in &ledger.sites {
        let Some(name) = name.strip_prefix("function:") else { continue };
        let found = function(of_process, name)?;
        let found =
            (number(found, "alloc_count")?, number(found, "alloc_bytes")?, number(found, "free_count")?);
        // A realloc is seen to take the block that it was given.
        let freed = if name == "realloc" { found.2 } else { 0 };
        let expected = (figures.alloc_count, figures.alloc_bytes, freed);
        ensure!(found == expected, "{name}: {found:?}, the ledger has {figures}");
    }
    ensure!(number(of_process, "unknown_frees")? == 0, "{of_process}");
    Ok(())
}

fn growth_alone() -> Result<()> {
    let (traced, alone) = (mapped(&["grow"], &[])?, mapped(&["grow"], &["--trace", "growth"])?);
    ensure!(traced == alone, "{traced:?} beside blocks, {alone:?} alone");
    Ok(())
}

/// What `growth ARGUMENTS` does to brk, maps and unmaps.
fn mapped(arguments: &[&str], options: &[&str]) -> Result<[i64; 3]> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new(Program::C("growth").compile()?);
    command.args(arguments).env("LEDGER_OUT", ledger_file(folder));
    let mut waiting = Waiting::start(command, folder)?;
    let live = Live::attach("stat", &[waiting.target.pid()], options, folder)?;
    let changed = code::changed_bytes(waiting.target.pid())?;
    ensure!((changed == 0) == options.contains(&"growth"), "{changed} bytes of code were changed");
    waiting.go()?;
    waiting.target.wait()?;
    let prints = live.finish(0)?;
    let total = &last(&prints)?["total"];
    let of = |key: &str| total[key].as_i64().with_context(|| format!("no {key}"));
    Ok([of("brk_bytes")?, of("mmap_bytes")?, of("munmap_bytes")?])
}

fn growth() -> Result<()> {
    let (idle, busy) = (mapped(&[], &[])?, mapped(&["grow"], &[])?);
    let difference: Vec<i64> = busy.iter().zip(idle).map(|(busy, idle)| busy - idle).collect();
    // As in the accuracy suite: 1,000,001 bytes mapped, two pages cut off, grown to 3,000,001, shrunk to 5,003.
    let pages = |bytes: i64| (bytes + 4095) / 4096 * 4096;
    let (mapped, grown, shrunk) = (pages(1_000_001), pages(3_000_001), pages(5_003));
    let expected = [(1 << 20) - 3 * 4096, mapped + (grown - (mapped - 8192)), 8192 + (grown - shrunk)];
    ensure!(difference == expected, "brk, mmap, munmap: {difference:?}, not {expected:?}");
    Ok(())
}
