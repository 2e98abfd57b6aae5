//! `heaptrace leaks` against what the programs hold.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    ledger::Ledger,
    live::{self, Live, list, number},
    programs::Program,
    runner::{self, end_to_end, unprivileged},
    session::ledger_file,
    slow_names::{self, Stopped},
    steps::{CACHED, LEAKED, Steps},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::Path,
    process::{ExitCode, Output},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    runner::run(vec![
        unprivileged("an age that is none is a usage error", || usage(&["--older-than", "soon"])),
        unprivileged("an interval of nothing is a usage error", || usage(&["--interval", "0s"])),
        unprivileged("a target is asked for", || {
            ensure!(heaptrace::output(&["leaks"])?.status.code() == Some(2), "no target was no usage error");
            Ok(())
        }),
        end_to_end("rows are what the program holds, and tell growth between prints", rows),
        end_to_end("younger blocks are left out and summed up", ages),
        end_to_end("Ctrl-C ends it with a last print", interrupted),
        end_to_end(
            "Ctrl-C while symbols are looked up: what waits is printed, and then the last",
            interrupted_lookup,
        ),
        end_to_end("what a command never freed is in the last print", at_exit),
        end_to_end(
            "--exact-children: what a forked child holds is there from its first call",
            exact_children,
        ),
        end_to_end("what a command never freed is there even if it is very much", at_exit_many),
        end_to_end(
            "too many bytes are told by the exit code, with their sites, and what is ignored is not among them",
            thresholds,
        ),
        end_to_end("--top leaves the smaller stacks out and sums them up", top),
        end_to_end("text explains itself, marks growth and ends with the coverage", text),
    ])
}

fn usage(options: &[&str]) -> Result<()> {
    let output = heaptrace::output(&[&["leaks"], options, &["--", "true"]].concat())?;
    ensure!(output.status.code() == Some(2), "ended with {}", output.status);
    Ok(())
}

/// The `steps` program, and `leaks` on it.
fn start(options: &[&str], folder: &Path) -> Result<(Steps, Live)> {
    let steps = Steps::start(folder)?;
    let live = Live::attach("leaks", &[steps.pid()], options, folder)?;
    Ok((steps, live))
}

/// The rows of blocks that the function `site` allocated.
fn rows_of<'a>(print: &'a Value, site: &str) -> Result<Vec<&'a Value>> {
    let by_site = |row: &&Value| row["stack"][0]["symbol"] == site;
    Ok(list(print, "rows")?.iter().filter(by_site).collect())
}

/// Bytes and blocks of a site.
fn held(print: &Value, site: &str) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for row in rows_of(print, site)? {
        sum.0 += number(row, "bytes")?;
        sum.1 += number(row, "count")?;
    }
    Ok(sum)
}

fn holds(print: &Value, site: &str, amount: (u64, u64)) -> bool {
    held(print, site).is_ok_and(|held| held == amount)
}

fn times((bytes, count): (u64, u64), factor: u64) -> (u64, u64) {
    (bytes * factor, count * factor)
}

fn rows() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (mut steps, mut live) = start(&["--older-than", "0s", "--interval", "50ms"], folder)?;
    let mut prints = Vec::new();
    for step in 1..=3 {
        steps.step(step, folder)?;
        let cached = if step < 3 { CACHED } else { (0, 0) };
        let leaked = times(LEAKED, step.into());
        prints = live.wait_for_print(&format!("step {step}"), prints.len(), |print| {
            holds(print, "site_leak", leaked) && holds(print, "site_cache", cached)
        })?;
        let print = prints.last().context("no print")?;
        // Nothing else is outstanding: what passes is not, and the ledger knows of nothing more.
        let expected = (leaked.0 + cached.0, leaked.1 + cached.1);
        let old = (number(print, "old.bytes")?, number(print, "old.count")?);
        ensure!(old == expected, "{old:?} are old, {expected:?} were kept in step {step}");
        for row in rows_of(print, "site_leak")? {
            ensure!(row["function"] == "malloc" && row["exited"] == false, "{row}");
        }
    }
    changes(&prints)?;
    steps.end(folder)?;
    let prints = live.finish(0)?;
    let last = prints.last().context("no print")?;
    let pid = number(&rows_of(last, "site_leak")?[0].clone(), "pid")?;
    let ledger = Ledger::read(&ledger_file(folder))?;
    let site = ledger.process(pid as u32)?.sites["site_leak"];
    ensure!(holds(last, "site_leak", (site.live_bytes, site.live_count)), "the ledger has {site}: {last}");
    ensure!(last["last"] == true && rows_of(last, "site_leak")?[0]["exited"] == true, "{last}");
    Ok(())
}

/// From print to print, changes lead from one amount to the next, and growth is counted as it was.
fn changes(prints: &[Value]) -> Result<()> {
    let mut before: Option<(u64, u64)> = None;
    let mut growing = 0;
    for print in prints {
        let rows = rows_of(print, "site_leak")?;
        let Some(row) = rows.first() else {
            before = Some((0, 0));
            continue;
        };
        let now = held(print, "site_leak")?;
        match before {
            None => ensure!(row["bytes_change"].is_null(), "the first print knows no change: {row}"),
            Some((bytes, count)) => {
                let change = (row["bytes_change"].as_i64(), row["count_change"].as_i64());
                let expected = (now.0 as i64 - bytes as i64, now.1 as i64 - count as i64);
                ensure!(change == (Some(expected.0), Some(expected.1)), "{change:?}, not {expected:?}");
                growing += u64::from(now.0 > bytes);
            }
        }
        ensure!(number(row, "growing_prints")? == growing, "it grew {growing} times: {row}");
        before = Some(now);
    }
    // Three steps: had all fallen between the same two prints, nothing would have been tested.
    ensure!(growing >= 2, "it grew {growing} times");
    Ok(())
}

fn ages() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (mut steps, mut live) = start(&["--older-than", "400ms", "--interval", "50ms"], folder)?;
    let mut prints = Vec::new();
    for step in 1..=2 {
        steps.step(step, folder)?;
        let leaked = times(LEAKED, step.into());
        prints = live.wait_for_print(&format!("step {step}"), prints.len(), |print| {
            holds(print, "site_leak", leaked)
        })?;
    }
    steps.step(3, folder)?;
    steps.end(folder)?;
    let prints = live.finish(0)?;
    for print in &prints {
        ensure!(print["older_than_s"] == 0.4, "{print}");
        for row in list(print, "rows")? {
            let age = |key: &str| row[key].as_f64().with_context(|| format!("no {key}"));
            let (oldest, youngest) = (age("oldest_age_s")?, age("youngest_age_s")?);
            ensure!(oldest >= youngest && youngest >= 0.4, "{row}");
        }
        // A block is old or young, and not both. (How many were young depends on the machine's mood.)
        let (old, young) = (number(print, "old.count")?, number(print, "younger.count")?);
        ensure!(old + young <= 3 * LEAKED.1 + CACHED.1 + 1, "{old} old and {young} young blocks");
    }
    Ok(())
}

fn interrupted() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (mut steps, live) = start(&["--older-than", "1h", "--interval", "1h"], folder)?;
    steps.step(1, folder)?;
    live.run.signal(libc::SIGINT)?;
    let Steps(mut waiting) = steps;
    let prints = live.finish(0)?;
    ensure!(prints.len() == 1, "{} prints", prints.len());
    let print = &prints[0];
    ensure!(print["last"] == true && list(print, "rows")?.is_empty(), "{print}");
    let young = (number(print, "younger.bytes")?, number(print, "younger.count")?);
    ensure!(young == (LEAKED.0 + CACHED.0, LEAKED.1 + CACHED.1), "{young:?} are young");
    ensure!(number(print, "coverage.events")? == 12 * 3 + 5, "{}", print["coverage"]);
    for step in 1..=3 {
        File::create(folder.join(format!("STEP{step}_GO")))?;
    }
    let status = waiting.target.wait()?;
    ensure!(status.success(), "the program ended with {status}");
    Ok(())
}

fn interrupted_lookup() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = slow_names::copy(&Program::C("steps").compile()?, folder)?;
    let mut steps = Steps::start_copy(&program, folder)?;
    let options = ["--older-than", "0s", "--interval", "50ms"];
    let mut live = Live::attach("leaks", &[steps.pid()], &options, folder)?;
    steps.step(1, folder)?;
    let lookup = Stopped::child_of(live.run.pid())?;
    let before = live.prints()?.len();
    steps.step(2, folder)?;
    // As a terminal does: to all in the foreground.
    live.run.signal_group(libc::SIGINT)?;
    // The probes are gone by then.
    live.run.wait_for_line("heaptrace: still looking up symbols")?;
    steps.step(3, folder)?;
    steps.end(folder)?;
    ensure!(live.prints()?.len() == before, "something was printed before its symbols were found");
    lookup.go_on()?;
    let prints = live.finish(0)?;
    let [waited, last] = &prints[before..] else {
        anyhow::bail!("{before} prints, and then not two: {prints:?}")
    };
    ensure!(waited["last"] == false && last["last"] == true, "{waited}\n{last}");
    ensure!(held(waited, "site_cache")?.1 > 0, "{waited}");
    // What was done after that is in no print.
    ensure!(holds(last, "site_leak", times(LEAKED, 2)) && holds(last, "site_cache", CACHED), "{last}");
    Ok(())
}

fn at_exit() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("steps").compile()?;
    let live = Live::command("leaks", &["--older-than", "0s"], folder, &program, &[], &[])?;
    let prints = live.finish(0)?;
    let print = prints.last().context("no print")?;
    ensure!(holds(print, "site_leak", times(LEAKED, 3)), "{print}");
    ensure!(holds(print, "site_cache", (0, 0)) && holds(print, "site_passing", (0, 0)), "{print}");
    ensure!(list(print, "rows")?.iter().all(|row| row["exited"] == true), "{print}");
    Ok(())
}

/// More than the share of the table at which room is made for other processes.
fn at_exit_many() -> Result<()> {
    const BLOCKS: u64 = 300_000;
    let folder = TempDir::new()?;
    let program = Program::C("many").compile()?;
    let arguments = ["blocks", &BLOCKS.to_string()];
    let options = ["--older-than", "0s", "--max-live", "400000"];
    let live = Live::command("leaks", &options, folder.path(), &program, &arguments, &[])?;
    let prints = live.finish(0)?;
    let print = prints.last().context("no print")?;
    let old = (number(print, "old.count")?, number(print, "removed.count")?);
    ensure!(old == (BLOCKS, 0), "{old:?} old and removed blocks of {BLOCKS}");
    Ok(())
}

fn exact_children() -> Result<()> {
    let (prints, ledger) = live::exact_children("leaks", &["--older-than", "0s", "--top", "1000"])?;
    let print = prints.last().context("no print")?;
    for (pid, ledger) in &ledger.0 {
        let mut found = (0, 0);
        for row in list(print, "rows")?.iter().filter(|row| row["pid"] == *pid) {
            found.0 += number(row, "bytes")?;
            found.1 += number(row, "count")?;
        }
        let live = ledger
            .sites
            .values()
            .fold((0, 0), |sum, figures| (sum.0 + figures.live_bytes, sum.1 + figures.live_count));
        ensure!(found == live, "process {pid}: {found:?} are outstanding, the ledger has {live:?}");
    }
    Ok(())
}

fn thresholds() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("steps").compile()?;
    let program = program.to_str().context("a path is not UTF-8")?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = folder.join(name);
        fs::write(&path, text)?;
        Ok(path.to_str().context("a path is not UTF-8")?.to_owned())
    };
    let known = file("known.supp", "# known\n{\n a leak\n Memcheck:Leak\n fun:malloc\n fun:site_l*\n}\n")?;
    let other = file("other.supp", "leak:site_cache\n")?;
    let broken = file("broken.supp", "leak:site_leak\nleaks:site_cache\n")?;
    let leaks = |options: &[&str]| {
        heaptrace::output(
            &[&["leaks", "--older-than", "0s"], options, heaptrace::COMMAND, &[program]].concat(),
        )
    };
    let recording = heaptrace::record_file(folder);
    let recording = recording.to_str().context("a path is not UTF-8")?;
    let recorded =
        heaptrace::output(&[&["record", "-o", recording], heaptrace::COMMAND, &[program]].concat())?;
    ensure!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let report = |options: &[&str]| heaptrace::output(&[&["report", recording], options].concat());

    for (name, run) in [("leaks", &leaks as &dyn Fn(&[&str]) -> Result<Output>), ("report", &report)] {
        let (bytes, _) = times(LEAKED, 3);
        let check = |options: &[&str], code: i32, on_stderr: &str, on_stdout: &str| -> Result<()> {
            let output = run(options)?;
            let [stdout, stderr] = [&output.stdout, &output.stderr].map(|of| String::from_utf8_lossy(of));
            ensure!(
                output.status.code() == Some(code)
                    && stderr.contains(on_stderr)
                    && stdout.contains(on_stdout),
                "{name} {options:?} ended with {}\n{stdout}\n{stderr}",
                output.status
            );
            Ok(())
        };
        check(&["--fail-above", &bytes.to_string()], 0, "", "")?;
        let above = (bytes - 1).to_string();
        check(
            &["--fail-above", &above],
            3,
            "36,720 bytes in 36 blocks, more than 36,719 (--fail-above)",
            "",
        )?;
        check(&["--fail-above", &above], 3, "  site_leak steps.c:", "")?;
        let ignored = "36,720 bytes in 36 blocks of ";
        check(&["--fail-above", "0", "--ignore", &known], 0, "", ignored)?;
        check(&["--fail-above", "0", "--ignore", &other], 3, "site_leak", "0 bytes in 0 blocks of 0 stacks")?;
        check(&["--ignore", &broken], 2, "broken.supp: line 2: neither leak:PATTERN nor {", "")?;
        // Too short for a verdict.
        check(&["--fail-on", "leak-like"], 0, "", "")?;
    }
    let unknown = leaks(&["--trace", "allocs", "--fail-above", "0"])?;
    ensure!(unknown.status.code() == Some(2), "ended with {}", unknown.status);
    Ok(())
}

fn top() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let options = ["--older-than", "0s", "--interval", "50ms", "--top", "1"];
    let (mut steps, mut live) = start(&options, folder)?;
    steps.step(1, folder)?;
    let prints = live.wait_for_print("the cache", 0, |print| {
        number(print, "old.count").is_ok_and(|count| count == LEAKED.1 + CACHED.1)
    })?;
    let print = prints.last().context("no print")?;
    ensure!(list(print, "rows")?.len() == 1 && holds(print, "site_cache", CACHED), "{print}");
    let hidden = ["bytes", "count", "stacks"].map(|key| print["not_shown"][key].as_u64());
    ensure!(hidden == [Some(LEAKED.0), Some(LEAKED.1), Some(1)], "{hidden:?}");
    Ok(())
}

fn text() -> Result<()> {
    let program = Program::C("steps").compile()?;
    let program = program.to_str().context("a path is not UTF-8")?;
    let output =
        heaptrace::output(&[&["leaks", "--older-than", "0s"], heaptrace::COMMAND, &[program]].concat())?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "ended with {}: {text}", output.status);
    let (bytes, count) = times(LEAKED, 3);
    ensure!((bytes, count) == (36_720, 36), "{bytes} {count}");
    for part in [
        "# Blocks that were allocated since tracing began and not freed so far (outstanding), of any age",
        "That is not yet a leak",
        "36,720 bytes (35.9 KiB) in 36 blocks",
        "which has exited, called from\n         site_leak steps.c:",
        "# Coverage:\n#   exact mode (every block), ",
        "#   no losses\n",
    ] {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    ensure!(!text.contains("site_passing") && !text.contains("site_cache"), "{text}");
    Ok(())
}
