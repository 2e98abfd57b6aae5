//! `heaptrace watch` against the programs' own lists of their calls, and against strace's.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    growth::{Call, GROWN, Listed, PAGE, Printed},
    heaptrace,
    live::{Live, list, number},
    programs::{Program, installed},
    runner::{self, end_to_end, unprivileged},
    running::Running,
    session::Waiting,
    slow_names::{self, Stopped},
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    runner::run(vec![
        unprivileged("bytes that are none are a usage error", usage),
        end_to_end("attach: lines are the program's own list, call for call", attached),
        end_to_end("command: lines are the program's own list, and the total its maps'", command),
        end_to_end("calls are those that strace sees, in order", strace),
        end_to_end("small calls are not shown and count", minimum),
        end_to_end("threads that are given each other's addresses: every call and the total", threads),
        end_to_end("a child has its parent's memory, and its own total", children),
        end_to_end("no code of a watched process is changed", unprobed),
        end_to_end("a heap that begins while it is watched", heapless),
        end_to_end("what an overfull ring loses is counted", losses),
        end_to_end("while symbols are looked up, calls are read on, and come out in order", slow),
        end_to_end("text has a line a call with its caller, and totals", text),
    ])
}

fn usage() -> Result<()> {
    let output = heaptrace::output(&["watch", "--min-bytes", "many", "--", "true"])?;
    ensure!(output.status.code() == Some(2), "ended with {}", output.status);
    Ok(())
}

/// `mappings` with `arguments`, watched from when it waits to its end.
fn watch_attached(options: &[&str], arguments: &[&str], folder: &Path) -> Result<(Printed, Listed)> {
    watch_attached_with(options, arguments, folder, false)
}

/// The same; `stands` still while the program runs, so that nobody reads the ring.
fn watch_attached_with(
    options: &[&str],
    arguments: &[&str],
    folder: &Path,
    stands: bool,
) -> Result<(Printed, Listed)> {
    let out = folder.join("list");
    let mut command = Command::new(Program::C("mappings").compile()?);
    command.arg(&out).args(arguments);
    let mut waiting = Waiting::start(command, folder)?;
    let live = Live::attach("watch", &[waiting.target.pid()], options, folder)?;
    let mut run = || {
        waiting.go()?;
        waiting.target.wait()
    };
    let status = if stands { live.run.while_it_stands(run) } else { run() }?;
    ensure!(status.success(), "{}", waiting.target.describe(&format!("ended with {status}")));
    Ok((Printed::new(live.finish(0)?)?, Listed::read(&out)?))
}

/// The same, started by heaptrace.
fn watch_command(options: &[&str], arguments: &[&str], folder: &Path) -> Result<(Printed, Listed)> {
    let out = folder.join("list");
    let path = out.to_str().context("a path is not UTF-8")?;
    let program = Program::C("mappings").compile()?;
    let live = Live::command("watch", options, folder, &program, &[&[path], arguments].concat(), &[])?;
    Ok((Printed::new(live.finish(0)?)?, Listed::read(&out)?))
}

fn equal(printed: &[Call], listed: &[Call]) -> Result<()> {
    for (n, (printed, listed)) in printed.iter().zip(listed).enumerate() {
        ensure!(printed == listed, "call {n}: heaptrace has {printed:?}, the program {listed:?}");
    }
    ensure!(
        printed.len() == listed.len(),
        "heaptrace has {} calls, the program {}",
        printed.len(),
        listed.len()
    );
    Ok(())
}

fn attached() -> Result<()> {
    let folder = TempDir::new()?;
    let (printed, listed) = watch_attached(&["--min-bytes", "0"], &[], folder.path())?;
    ensure!(listed.calls.len() > 25, "{} calls are no test", listed.calls.len());
    equal(&printed.calls()?, &listed.calls)?;
    printed.check_totals()?;
    check_ends(&printed, &listed)?;
    let sum = mapped_by(&listed.calls);
    let growth = listed.growth() - GROWN;
    ensure!(sum == growth, "the program's list is wrong: {sum} is not {growth}");
    // Kinds, by what the program's sequence begins with.
    let mut expected =
        vec!["heap", "heap", "heap", "heap", "file", "file", "stack", "stack", "stack", "stack"];
    if listed.calls.iter().any(|call| call.delta == 4 << 20) {
        expected.extend(["hugepages", "hugepages"]);
    } else {
        println!("\nnote: this kernel has no huge pages");
    }
    expected.push("anonymous");
    let kinds = printed.lines.iter().filter_map(|line| line["kind"].as_str());
    let kinds: Vec<&str> = kinds.take(expected.len()).collect();
    ensure!(kinds == expected, "the first are {kinds:?}");
    for line in &printed.lines {
        let symbols: Vec<&str> =
            list(line, "stack")?.iter().filter_map(|frame| frame["symbol"].as_str()).collect();
        ensure!(symbols.contains(&"site_sequence") && symbols.contains(&"main"), "{line}");
        ensure!(line["comm"] == "mappings", "{line}");
    }
    Ok(())
}

/// By how much `calls` changed what is mapped.
fn mapped_by(calls: &[Call]) -> i64 {
    calls.iter().filter(|call| call.call != "madvise").map(|call| call.delta).sum()
}

/// Totals are what /proc/self/maps said, and nothing was lost.
fn check_ends(printed: &Printed, listed: &Listed) -> Result<()> {
    ensure!(printed.lost()? == 0, "{} events were lost", printed.lost()?);
    let last = printed.lines.last().context("no line")?;
    ensure!(number(last, "total")? == listed.maps[1], "{last}: the maps hold {}", listed.maps[1]);
    let [process] = list(&printed.summary, "processes")? else {
        bail!("not one process: {}", printed.summary)
    };
    let net = number(process, "grown_bytes")? as i64 - number(process, "given_back_bytes")? as i64;
    let sum = mapped_by(&printed.calls()?);
    ensure!(net == sum, "the summary says {net}, the lines {sum}");
    let other = process["other_bytes"].as_i64().context("no other_bytes")?;
    let expected = if listed.threads.is_empty() { GROWN } else { 0 };
    ensure!(
        printed.left_out() || other == expected,
        "{other} bytes changed without a call, not {expected}: {}",
        printed.summary
    );
    ensure!(number(process, "calls")? == printed.lines.len() as u64, "{}", printed.summary);
    ensure!(number(process, "total")? == listed.maps[1], "{}", printed.summary);
    Ok(())
}

fn command() -> Result<()> {
    let folder = TempDir::new()?;
    let (printed, listed) = watch_command(&["--min-bytes", "0"], &[], folder.path())?;
    let calls = printed.calls()?;
    let loading = calls.len().checked_sub(listed.calls.len()).context("calls are missing")?;
    ensure!(loading > 5, "the dynamic linker made {loading} calls");
    equal(&calls[loading..], &listed.calls)?;
    printed.check_totals()?;
    check_ends(&printed, &listed)
}

/// Names of the successful calls in strace's output; queries of the break are none.
fn traced_by_strace(text: &str) -> Vec<&str> {
    let calls = ["brk", "mmap", "munmap", "mremap", "madvise"];
    let gives_back = |line: &str| line.contains("MADV_DONTNEED") || line.contains("MADV_FREE");
    text.lines()
        .filter(|line| !line.starts_with("brk(NULL)") && !line.contains(" = -1 "))
        .filter(|line| !line.starts_with("madvise(") || gives_back(line))
        .filter_map(|line| line.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| calls.contains(name))
        .collect()
}

fn strace() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (printed, _) = watch_command(&["--min-bytes", "0", "--no-stacks"], &[], folder)?;
    let (log, out) = (folder.join("strace"), folder.join("list of another"));
    let mut command = Command::new(installed("strace", &["/usr/bin", "/usr/local/bin"])?);
    command.args(["-e", "trace=memory", "-o"]).arg(&log);
    command.arg(Program::C("mappings").compile()?).arg(&out);
    let status = Running::spawn(command, "traced", folder)?.wait()?;
    ensure!(status.success(), "strace ended with {status}");
    let text = fs::read_to_string(&log)?;
    // A break that cannot be had is told by the break that is: no error.
    let refused = text.lines().filter(|line| is_refused_break(line)).count();
    ensure!(refused == 1, "{refused} breaks were refused\n{text}");
    let kept: Vec<&str> = text.lines().filter(|line| !is_refused_break(line)).collect();
    let kept = kept.join("\n");
    let expected = traced_by_strace(&kept);
    let calls = printed.calls()?;
    let found: Vec<&str> = calls.iter().map(|call| call.call.as_str()).collect();
    ensure!(found == expected, "heaptrace has {found:?}\nstrace has {expected:?}");
    Ok(())
}

/// `brk(A) = B` where A is not B.
fn is_refused_break(line: &str) -> bool {
    let asked = line.strip_prefix("brk(0x").and_then(|rest| rest.split_once(')'));
    asked.is_some_and(|(asked, rest)| rest.trim_start().trim_start_matches("= 0x").trim() != asked)
}

fn minimum() -> Result<()> {
    let folder = TempDir::new()?;
    let (printed, listed) = watch_attached(&[], &[], folder.path())?;
    let large: Vec<Call> =
        listed.calls.iter().filter(|call| call.delta.unsigned_abs() >= 1 << 20).cloned().collect();
    ensure!(large.len() > 3 && large.len() < listed.calls.len(), "{} are large", large.len());
    equal(&printed.calls()?, &large)?;
    ensure!(number(&printed.summary, "calls")? == listed.calls.len() as u64, "{}", printed.summary);
    ensure!(number(&printed.summary, "shown")? == large.len() as u64, "{}", printed.summary);
    // The last one is large.
    ensure!(number(&printed.lines[large.len() - 1], "total")? == listed.maps[1], "{}", printed.summary);
    Ok(())
}

fn threads() -> Result<()> {
    const ROUNDS: i64 = 2000;
    let folder = TempDir::new()?;
    let options = ["--min-bytes", "0", "--no-stacks", "--max-events", "200000"];
    let (printed, listed) = watch_attached(&options, &["4"], folder.path())?;
    check_ends(&printed, &listed)?;
    if printed.left_out() {
        // Which calls are missing nobody knows; that some are has been told.
        return Ok(());
    }
    let calls = printed.calls()?;
    ensure!(listed.threads.len() == 4, "{} threads", listed.threads.len());
    for (tid, number) in &listed.threads {
        let mut expected = Vec::new();
        for round in 0..ROUNDS {
            let pages = 1 + (round * 7 + number * 3) % 13;
            let first = round % pages;
            expected.push(pages * PAGE);
            expected.extend((first > 0).then_some(-first * PAGE));
            expected.push((first - pages) * PAGE);
        }
        // At its end the C library gives its stack back.
        let own = calls.iter().filter(|call| call.tid == *tid && call.call != "madvise");
        let found: Vec<i64> = own.map(|call| call.delta).collect();
        ensure!(found == expected, "thread {number} of {tid}: {} calls, not {}", found.len(), expected.len());
    }
    Ok(())
}

fn children() -> Result<()> {
    let folder = TempDir::new()?;
    let out = folder.path().join("list");
    let program = Program::C("mappings").compile()?;
    // The shell forks, and the child execs.
    let script = format!("{} {} && true", program.display(), out.display());
    let options = ["--min-bytes", "0", "--no-stacks"];
    let shell = Path::new("/bin/sh");
    let live = Live::command("watch", &options, folder.path(), shell, &["-c", &script], &[])?;
    let printed = Printed::new(live.finish(0)?)?;
    let listed = Listed::read(&out)?;
    ensure!(printed.lost()? == 0, "{}", printed.summary);
    let tid = listed.calls[0].tid;
    let calls: Vec<Call> = printed.calls()?.into_iter().filter(|call| call.tid == tid).collect();
    let own = calls.len().checked_sub(listed.calls.len()).context("calls are missing")?;
    equal(&calls[own..], &listed.calls)?;
    let processes = list(&printed.summary, "processes")?;
    ensure!(processes.len() == 2, "{} processes", processes.len());
    let child = processes.iter().find(|process| process["pid"] == tid).context("no child")?;
    ensure!(child["comm"] == "mappings" && number(child, "total")? == listed.maps[1], "{child}");
    Ok(())
}

fn unprobed() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new(Program::C("mappings").compile()?);
    command.arg(folder.join("list"));
    let mut waiting = Waiting::start(command, folder)?;
    let pid = waiting.target.pid();
    let live = Live::attach("watch", &[pid], &["--min-bytes", "0"], folder)?;
    ensure!(heaptrace_tests::code::changed_bytes(pid)? == 0, "code was changed");
    waiting.go()?;
    ensure!(waiting.target.wait()?.success(), "the program failed");
    ensure!(!Printed::new(live.finish(0)?)?.lines.is_empty(), "nothing was seen");
    Ok(())
}

fn heapless() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = Waiting::start(Command::new(Program::C("heapless").compile()?), folder)?;
    let pid = waiting.target.pid();
    ensure!(!fs::read_to_string(format!("/proc/{pid}/maps"))?.contains("[heap]"), "it has a heap already");
    let live = Live::attach("watch", &[pid], &["--min-bytes", "0", "--no-stacks"], folder)?;
    waiting.go()?;
    ensure!(waiting.target.wait()?.success(), "the program failed");
    let calls = Printed::new(live.finish(0)?)?.calls()?;
    let deltas: Vec<(&str, i64)> = calls.iter().map(|call| (call.call.as_str(), call.delta)).collect();
    ensure!(deltas == [("brk", 489 * PAGE), ("brk", -122 * PAGE)], "{deltas:?}");
    Ok(())
}

fn losses() -> Result<()> {
    let folder = TempDir::new()?;
    // A ring of one page, and four threads that fill it: what is not read is counted.
    let options = ["--min-bytes", "0", "--no-stacks", "--max-events", "1"];
    let (printed, listed) = watch_attached_with(&options, &["4"], folder.path(), true)?;
    let lost = printed.lost()?;
    ensure!(lost > 0, "nothing was lost");
    let tids: Vec<u64> = listed.threads.keys().copied().collect();
    let seen = printed.calls()?.iter().filter(|call| tids.contains(&call.tid)).count() as u64;
    // Each thread's rounds, and little else: its own stack, and the process's end.
    let made: u64 =
        (0..4).flat_map(|n| (0..2000).map(move |i| 2 + u64::from(i % (1 + (i * 7 + n * 3) % 13) > 0))).sum();
    let sum = seen + lost;
    ensure!((made..made + 40).contains(&sum), "{seen} seen and {lost} lost of {made}");
    Ok(())
}

fn slow() -> Result<()> {
    const ROUNDS: usize = 300;
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = slow_names::copy(&Program::C("pages").compile()?, folder)?;
    let mut waiting = Waiting::start(Command::new(program), folder)?;
    // The ring takes a fifth of the calls.
    let options = ["--min-bytes", "0", "--max-events", "120"];
    let live = Live::attach("watch", &[waiting.target.pid()], &options, folder)?;
    waiting.go()?;
    let lookup = Stopped::child_of(live.run.pid())?;
    ensure!(waiting.target.wait()?.success(), "the program failed");
    ensure!(live.prints()?.is_empty(), "something was printed before its symbols were found");
    lookup.go_on()?;
    let printed = Printed::new(live.finish(0)?)?;
    ensure!(printed.lost()? == 0, "{} calls were lost", printed.lost()?);
    let site = |line: &Value| {
        let frames = line["stack"].as_array()?.iter();
        frames
            .filter_map(|frame| frame["symbol"].as_str())
            .find(|name| name.starts_with("site_"))
            .map(str::to_owned)
    };
    let sites: Vec<String> = printed.lines.iter().filter_map(site).collect();
    let mut expected = vec!["site_pages"; 2 * ROUNDS];
    expected.extend(["site_last"; 2]);
    ensure!(sites == expected, "{} calls with these sites: {sites:?}", printed.lines.len());
    let times: Vec<Option<&str>> = printed.lines.iter().map(|line| line["time"].as_str()).collect();
    ensure!(times.is_sorted(), "{times:?}");
    Ok(())
}

fn text() -> Result<()> {
    let folder = TempDir::new()?;
    let out = folder.path().join("list");
    let program = Program::C("mappings").compile()?;
    let [program, out] = [&program, &out].map(|path| path.to_str().context("a path is not UTF-8"));
    let output = heaptrace::output(&["watch", "--stacks", "--", program?, out?])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "ended with {}: {text}", output.status);
    for part in [
        "time (UTC)",
        "mremap     +3.9 MiB",
        " brk        +1.2 MiB ",
        "# Totals of all calls",
        "#   no losses\n",
    ] {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let line = text.lines().find(|line| line.contains(" mremap     +3.9 MiB")).context("no line")?;
    ensure!(line.contains(" remap < site_sequence < main"), "{line}");
    Ok(())
}
