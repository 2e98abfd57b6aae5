//! `heaptrace top`: on a terminal as a person would use it, and printed.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    caller,
    code::changed_bytes,
    heaptrace,
    live::{list, number},
    programs::Program,
    runner::{self, end_to_end, unprivileged},
    running::{PATIENCE, Running, wait_until},
    steps::{CACHED, LEAKED, Resting, Steps},
    terminal::Terminal,
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

const ESC: &str = "\x1b";
const ENTER: &str = "\r";
const F5: &str = "\x1b[15~";

fn main() -> ExitCode {
    runner::run(vec![
        unprivileged("what makes no sense is a usage error", usage),
        unprivileged("who is not there is told, with code 4", nobody),
        unprivileged("printed: tables of the whole machine", tables),
        unprivileged("printed: JSON agrees with /proc", json),
        unprivileged("an ordinary user sees what /proc shows, and what is missing", ordinary_user),
        unprivileged("a terminal that cannot be drawn on gets tables", dumb_terminal),
        unprivileged("keys sort, filter, reverse, draw trees and choose columns", keys),
        unprivileged("it fits any terminal, and follows when that is resized", resized),
        unprivileged("the terminal is as before: by q, Ctrl-C, SIGTERM", restored),
        unprivileged("suspended, it leaves the terminal to the shell and comes back", suspended),
        end_to_end("t traces a process and T ends it; its sites are what the program holds", traced),
        end_to_end("a flame graph is written to a new file only", flame_graph),
        end_to_end("who cannot be traced is told why", refused),
        end_to_end("a process that is not traced shows who maps its memory", growth),
        end_to_end("printed: what is traced agrees with the program to the byte", traced_json),
        end_to_end("children are shown and traced with their parent, and let go of with it", children),
        end_to_end("killed, it leaves no probe behind", killed),
        end_to_end("a process that ends while it is looked at is said to be gone", ended),
    ])
}

fn usage() -> Result<()> {
    for (options, said) in [
        (&["--sort", "nothing"][..], "columns are pid, user, mem"),
        (&["--filter", "rss>1"], "there is no column rss"),
        (&["--interval", "0s"], "more than no time"),
        (&["--trace"], "--pid"),
        (&["--all", "-p", "1"], "cannot be used with"),
    ] {
        let output = heaptrace::output(&[&["top"], options].concat())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2), "{options:?} ended with {}: {text}", output.status);
        ensure!(text.contains(said), "{options:?} is answered {text}");
    }
    Ok(())
}

fn nobody() -> Result<()> {
    let mut child = Command::new("true").spawn()?;
    child.wait()?;
    let pid = child.id().to_string();
    for options in [["-p", &pid], ["--comm", "no-such-name"], ["--user", "no-such-user"]] {
        let output = heaptrace::output(&[&["top", "--no-growth"], &options[..]].concat())?;
        ensure!(output.status.code() == Some(4), "{options:?} ended with {}", output.status);
    }
    Ok(())
}

/// `heaptrace top` with these options, run to its end.
fn printed(options: &[&str]) -> Result<String> {
    let output = heaptrace::output(&[&["top"], options].concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{options:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tables() -> Result<()> {
    let text = printed(&["--no-growth", "-n", "2", "-i", "100ms", "--rows", "3"])?;
    let tables = text.split("\n\n").collect::<Vec<_>>();
    ensure!(tables.len() == 2, "not two tables:\n{text}");
    for table in tables {
        let heading = table.lines().position(|line| line.trim_start().starts_with("PID USER"));
        let rows = table.lines().skip(heading.context("no heading")? + 1);
        ensure!(rows.filter(|line| !line.starts_with('#')).count() == 3, "not three rows:\n{table}");
        ensure!(table.contains("more processes not shown"), "what is hidden is not told:\n{table}");
        ensure!(table.contains("brk and mmap are not counted (--no-growth)"), "{table}");
        ensure!(!table.contains('\x1b'), "there are escape sequences");
    }
    Ok(())
}

/// The objects that `heaptrace top --format json` prints.
fn objects(options: &[&str]) -> Result<Vec<Value>> {
    let text = printed(&[&["--format", "json"], options].concat())?;
    text.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
}

fn process(print: &Value, pid: u32) -> Result<&Value> {
    let found = list(print, "processes")?.iter().find(|process| process["pid"] == pid);
    found.with_context(|| format!("{pid} is not among {}", print["processes"]))
}

fn json() -> Result<()> {
    let folder = TempDir::new()?;
    let steps = Steps::start(folder.path())?;
    let pid = steps.pid();
    let prints = objects(&["--no-growth", "-n", "3", "-i", "50ms"])?;
    ensure!(prints.len() == 3, "{} prints", prints.len());
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |field: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
    };
    for print in &prints {
        // It waits: nothing changes.
        let steps = process(print, pid)?;
        ensure!(number(steps, "virt_bytes")? == 1024 * kilobytes("VmSize")?, "{steps}\n{status}");
        // Counted by CPU, and those counters may be off by some pages.
        let about = |bytes: u64, expected: u64| bytes.abs_diff(1024 * expected) <= 1 << 20;
        ensure!(about(number(steps, "res_bytes")?, kilobytes("VmRSS")?), "{steps}\n{status}");
        ensure!(about(number(steps, "heap_bytes")?, kilobytes("RssAnon")?), "{steps}\n{status}");
        ensure!(steps["comm"] == "steps" && steps["parent_pid"] == std::process::id(), "{steps}");
        ensure!(steps["faults_per_s"].as_f64() == Some(0.0), "it waits, and faults: {steps}");
        ensure!(steps["traced"].is_null() && steps["mmap_bytes"].is_null(), "what nobody measured: {steps}");
    }
    Ok(())
}

fn ordinary_user() -> Result<()> {
    // SAFETY: no arguments, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        // Then the other tests are this one.
        return Ok(());
    }
    let folder = caller::open_folder()?;
    let output =
        caller::heaptrace(&[], &["top", "-n", "1", "-i", "50ms", "--rows", "0"], folder.path())?.output()?;
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "ended with {}: {said}", output.status);
    let why = text.lines().find(|line| line.contains("brk and mmap are not counted"));
    ensure!(
        why.is_some_and(|why| why.contains("CAP_BPF") || why.contains("root")),
        "does not say why:\n{text}"
    );
    ensure!(
        text.lines().any(|line| line.contains(" heaptrace top -n 1")),
        "it is not in its own list:\n{text}"
    );
    Ok(())
}

fn dumb_terminal() -> Result<()> {
    let command = heaptrace::command(&["top", "--no-growth", "-n", "1", "-i", "50ms", "--rows", "4"])?;
    // The harness says that its terminal can be drawn on.
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg("TERM=dumb exec \"$@\"")
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    let mut terminal = Terminal::run(shell, (100, 30))?;
    ensure!(terminal.wait()?.success(), "it failed:\n{}", terminal.text());
    let text = terminal.text();
    ensure!(text.contains("more processes not shown"), "no table:\n{text}");
    Ok(())
}

/// The screen of `heaptrace top` with these options.
fn screen(options: &[&str], size: (u16, u16), folder: &Path) -> Result<Terminal> {
    let mut command = heaptrace::command(&[&["top", "-i", "100ms"], options].concat())?;
    command.current_dir(folder);
    Terminal::run(command, size)
}

/// The PIDs in the first column, from the top.
fn pids(screen: &str) -> Vec<u32> {
    let rows = screen.lines().skip_while(|line| !line.trim_start().starts_with("PID"));
    let pid = |line: &str| line.get(..7)?.trim().parse::<u32>().ok();
    rows.filter_map(pid).collect()
}

/// The first two cells of the line with `name`; none if there is no such line.
fn cells<'a>(screen: &'a str, name: &str) -> Vec<&'a str> {
    let line = screen.lines().find(|line| line.contains(name)).unwrap_or_default();
    line.split_whitespace().take(2).collect()
}

/// The name of the flame graph that is said to be written.
fn written(top: &mut Terminal) -> Result<String> {
    fn name(screen: &str) -> Option<&str> {
        let words = screen.split("wrote ").nth(1)?;
        words.split_whitespace().next().filter(|name| name.ends_with(".svg"))
    }
    let said = top.wait_for("a file's name", |screen| name(screen).is_some())?;
    name(&said).map(str::to_owned).context("the name is gone")
}

fn keys() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    // A shell with two children, one of which holds memory.
    let script = "sleep 1000 & python3 -c 'import time; b = b\"x\" * 50_000_000; time.sleep(1000)' & wait";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    let shell = Running::spawn(shell, "shell", folder)?;
    let pid = shell.pid().to_string();
    let mut top = screen(&["--no-growth", "-p", &pid], (110, 30), folder)?;
    // More than 50 MB are resident.
    let is_large = |line: &str| line.contains("python3 -c") && line.split_whitespace().nth(4) > Some("50");
    top.wait_for("the shell and its children", |screen| {
        screen.contains("sleep 1000") && pids(screen).len() == 3 && screen.lines().any(is_large)
    })?;
    // By size: Python first, and last when reversed.
    top.press("/")?;
    top.wait_for_text("Filter:")?;
    top.press("res>40M")?;
    let large = top.wait_for("the large one alone", |screen| pids(screen).len() == 1)?;
    let python = pids(&large)[0];
    ensure!(large.contains("python3"), "{large}");
    top.press(ENTER)?;
    top.wait_for_text("1 of 3 found by res>40M")?;
    top.press(ESC)?;
    top.wait_for("all again", |screen| pids(screen).len() == 3)?;
    top.press("/rss>1\r")?;
    top.wait_for_text("there is no column rss")?;
    top.press("\x15\x1b")?;
    top.wait_for_text("F5 tree")?;
    // The columns to the left of growth are heap and res.
    top.press("<<")?;
    top.wait_for("sorted by RES", |screen| screen.contains("RES↓") && pids(screen)[0] == python)?;
    top.press("r")?;
    top.wait_for("reversed", |screen| screen.contains("RES↑") && pids(screen)[2] == python)?;
    top.press("r")?;
    top.press(F5)?;
    let tree = top.wait_for("a tree", |screen| screen.contains("└─ "))?;
    ensure!(pids(&tree)[0] == shell.pid() && pids(&tree)[1] == python, "no parents first:\n{tree}");
    top.press("c")?;
    top.wait_for_text("CGROUP")?;
    top.press("?")?;
    top.wait_for("help", |screen| {
        screen.contains("help: Up and Down scroll") && screen.contains("tree of parents and children")
    })?;
    top.press("\x1b[6~\x1b[6~")?;
    top.wait_for_text("What lives for less than an interval may not be seen")?;
    top.press(ESC)?;
    top.wait_for("no help", |screen| !screen.contains("help: "))?;
    // F6: the first of the menu is the PID.
    top.press("\x1b[17~")?;
    top.wait_for_text("sort by")?;
    top.press("\x1b[H\r")?;
    top.wait_for_text("PID↓")?;
    top.press(" ")?;
    top.wait_for_text("PAUSED")?;
    top.press(" ")?;
    top.wait_for("going on", |screen| !screen.contains("PAUSED"))?;
    top.press("q")?;
    ensure!(top.wait()?.success(), "q is no failure");
    Ok(())
}

fn resized() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let steps = Steps::start(folder)?;
    let mut top = screen(&["--no-growth", "-p", &steps.pid().to_string()], (80, 24), folder)?;
    let first = top.wait_for_text("q quit")?;
    ensure!(first.lines().count() == 24 && first.contains("GROW/m"), "{first}");
    top.resize((40, 10))?;
    let small = top.wait_for("a small screen", |screen| screen.contains("no room for TREND"))?;
    ensure!(small.lines().count() == 10, "{small}");
    top.resize((120, 40))?;
    let large =
        top.wait_for("a large screen", |screen| screen.lines().count() == 40 && screen.contains("MAP/m"))?;
    ensure!(large.contains("F5 tree"), "{large}");
    for size in [(1, 1), (3, 2), (20, 4), (10, 50), (200, 3)] {
        // Help, the menu, a process and back: somewhere in between there is a screen of this size.
        for keys in ["?", "j", "q", "/x", "\x15", "\r", "\x1b[17~", "q", "\r", "\r", "s", "q"] {
            top.resize(size)?;
            top.press(keys)?;
        }
    }
    top.resize((80, 24))?;
    top.press("\x0c")?;
    top.wait_for("the list", |screen| screen.contains("q quit") && screen.contains("steps"))?;
    top.press("q")?;
    let status = top.wait()?;
    ensure!(status.success(), "q is no failure: {status}\n{}", top.text());
    Ok(())
}

fn restored() -> Result<()> {
    let folder = TempDir::new()?;
    let drawn = |top: &mut Terminal| -> Result<()> {
        top.wait_for_text("q quit")?;
        ensure!(
            top.with_screen(|screen| screen.alternate_screen() && screen.hide_cursor()),
            "no screen of its own"
        );
        Ok(())
    };
    for (name, end) in [("q", "q"), ("Ctrl-C", "\x03"), ("F10", "\x1b[21~"), ("SIGTERM", ""), ("SIGINT", "")]
    {
        // A shell keeps the terminal for a moment before, and after.
        let mut command = heaptrace::command(&["top", "--no-growth"])?;
        command.current_dir(folder.path());
        let mut top = Terminal::run(command, (80, 24))?;
        drawn(&mut top)?;
        let during = top.modes()?;
        match name {
            "SIGTERM" => top.signal(libc::SIGTERM)?,
            "SIGINT" => top.signal(libc::SIGINT)?,
            _ => top.press(end)?,
        }
        let status = top.wait()?;
        ensure!(status.success(), "{name}: ended with {status}");
        let after = top.modes()?;
        ensure!(during != after, "{name}: the terminal was never in raw mode");
        let fresh = Terminal::run(Command::new("true"), (80, 24))?.modes()?;
        ensure!(after == fresh, "{name}: the modes are {after:?}, were {fresh:?}");
        // What it wrote last may be on its way.
        let back = || Ok(top.with_screen(|screen| !screen.alternate_screen() && !screen.hide_cursor()));
        wait_until(PATIENCE, back).with_context(|| format!("{name}: the screen is not as before"))?;
    }
    Ok(())
}

fn suspended() -> Result<()> {
    let folder = TempDir::new()?;
    let top = heaptrace::command(&["top", "--no-growth", "-i", "100ms"])?;
    let mut shell = Command::new("bash");
    let script = "set -m; \"$@\"; echo STOPPED; read -r word; fg; echo DONE";
    shell.args(["-c", script, "bash"]).arg(top.get_program()).args(top.get_args()).current_dir(folder.path());
    let mut terminal = Terminal::run(shell, (80, 24))?;
    terminal.wait_for_text("q quit")?;
    terminal.press("\x1a")?;
    terminal.wait_for_text("STOPPED")?;
    ensure!(terminal.with_screen(|screen| !screen.alternate_screen()), "not the shell's screen");
    terminal.press("\r")?;
    terminal.wait_for("top again", |screen| screen.contains("q quit") && !screen.contains("STOPPED"))?;
    terminal.press("q")?;
    terminal.wait_for_text("DONE")?;
    ensure!(terminal.wait()?.success(), "q is no failure");
    Ok(())
}

fn traced() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = screen(&["-p", &pid.to_string()], (100, 30), folder)?;
    top.wait_for_text("steps")?;
    ensure!(changed_bytes(pid)? == 0, "looked at, and probed");
    top.press("t")?;
    let question = top.wait_for_text("Enter: trace")?;
    ensure!(question.contains("ns longer") && question.contains("of memory"), "no costs:\n{question}");
    ensure!(changed_bytes(pid)? == 0, "asked, and probed");
    top.press(ESC)?;
    top.wait_for("no question", |screen| !screen.contains("Enter: trace"))?;
    top.press("t")?;
    top.wait_for_text("Enter: trace")?;
    top.press(ENTER)?;
    top.wait_for_text("is traced; T ends that")?;
    ensure!(changed_bytes(pid)? > 0, "it says that it traces, and no code was changed");
    steps.step(1, folder)?;
    let row = top.wait_for("the process's numbers", |screen| {
        screen.lines().any(|line| line.contains("site_cache") && line.contains("207K"))
    })?;
    ensure!(row.contains("tracing: 1 process") && row.contains("site_cache"), "{row}");
    top.press(ENTER)?;
    // 200,065 and 12,240 bytes.
    let open = top.wait_for("both sites", |screen| {
        cells(screen, "calloc site_cache steps.c:") == ["195K", "5"]
            && cells(screen, "malloc site_leak steps.c:") == ["12.0K", "12"]
    })?;
    ensure!(open.contains(&format!("live 207K in {} blocks", LEAKED.1 + CACHED.1)), "{open}");
    ensure!(open.contains("main steps.c:"), "no callers:\n{open}");
    // The stack, a frame a line, and away again.
    top.press(ENTER)?;
    let stack = top.wait_for_text("▾ calloc")?;
    ensure!(stack.lines().any(|line| line.trim_start().starts_with("main steps.c:")), "{stack}");
    top.press(ENTER)?;
    top.wait_for("the stack gone", |screen| !screen.contains('▾'))?;
    top.press("s")?;
    top.wait_for_text("most growth first")?;
    // Blocks of 55, of 1009 and more, and of 40009 and more bytes.
    let sizes = top.text();
    for size in ["≤     63", "≤   1023", "≤   2047", "≤  64.0K"] {
        ensure!(sizes.contains(size), "no class {size}:\n{sizes}");
    }
    // The third step frees what is cached.
    for step in [2, 3] {
        steps.step(step, folder)?;
    }
    top.wait_for_text(&format!("live 35.9K in {} blocks", 3 * LEAKED.1))?;
    top.press("T")?;
    top.wait_for_text(&format!("the probes of process {pid} are gone"))?;
    ensure!(changed_bytes(pid)? == 0, "it says that the probes are gone, and they are not");
    top.wait_for_text("not traced: t traces its malloc calls")?;
    // Again, and from nothing: what was before is not seen.
    top.press("t")?;
    top.wait_for_text("Enter: trace")?;
    top.press(ENTER)?;
    top.wait_for_text("live 0B in 0 blocks")?;
    ensure!(changed_bytes(pid)? > 0, "traced again, and no code was changed");
    top.press("q")?;
    top.wait_for_text("F5 tree")?;
    top.press("q")?;
    ensure!(top.wait()?.success(), "q is no failure");
    ensure!(changed_bytes(pid)? == 0, "it has ended, and its probes are there");
    steps.end(folder)
}

fn flame_graph() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = screen(&["-p", &pid.to_string(), "--trace", "--no-growth"], (100, 30), folder)?;
    top.wait_for_text("tracing: 1 process")?;
    steps.step(1, folder)?;
    top.wait_for_text("207K")?;
    top.press("f")?;
    let name = written(&mut top)?;
    let svg = fs::read_to_string(folder.join(name)).context("the file it names is not there")?;
    ensure!(svg.contains("site_cache") && svg.contains("live heap bytes"), "no flame graph: {svg:.500}");
    ensure!(svg.contains("200,065"), "the cache is not there to the byte");
    // A name that is taken, by a link to something that matters, is left alone.
    let precious = folder.join("precious");
    fs::write(&precious, "as it was")?;
    for second in 0..120 {
        let time = std::time::SystemTime::now() + std::time::Duration::from_secs(second);
        let seconds = time.duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let (day, time) = (civil(seconds / 86_400), seconds % 86_400);
        let time = format!("{:02}{:02}{:02}", time / 3600, time / 60 % 60, time % 60);
        let link = folder.join(format!("heaptrace-{pid}-{day}-{time}.svg"));
        // The one that was written has its name.
        let _ = std::os::unix::fs::symlink(&precious, link);
    }
    top.press("j")?;
    top.wait_for("no status", |screen| !screen.contains("wrote "))?;
    top.press("f")?;
    let second = written(&mut top)?;
    ensure!(second.ends_with("-2.svg"), "a name was taken twice: {second}");
    ensure!(fs::read_to_string(&precious)? == "as it was", "a link was followed");
    Ok(())
}

/// `YYYYMMDD` of a day since 1970 (the proleptic Gregorian calendar, days from March on).
fn civil(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}{month:02}{day:02}", year + era * 400 + u64::from(month <= 2))
}

fn refused() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::Freestanding32("thirty_two").compile()?;
    let process = Running::spawn(Command::new(program), "target", folder)?;
    let pid = process.pid();
    let mut top = screen(&["-p", &pid.to_string(), "--no-growth"], (100, 30), folder)?;
    top.wait_for_text("thirty_two")?;
    top.press("t")?;
    let why = top.wait_for_text("cannot be traced")?;
    ensure!(why.contains("32-bit program; only"), "{why}");
    println!(
        "\nnote: {}",
        why.lines().find(|line| line.contains("cannot be traced")).unwrap_or_default().trim()
    );
    top.press(ENTER)?;
    top.wait_for("no question", |screen| !screen.contains("cannot be traced"))?;
    ensure!(changed_bytes(pid)? == 0, "refused, and probed");
    Ok(())
}

fn growth() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut resting = Resting::start("map", folder)?;
    let pid = resting.pid();
    let mut top = screen(&["-p", &pid.to_string()], (110, 30), folder)?;
    top.wait_for("growth being traced", |screen| {
        screen.contains("ns to every system call") || screen.contains("measurably slower")
    })?;
    top.wait_for_text("resting")?;
    top.press(ENTER)?;
    top.wait_for_text("nothing was seen yet")?;
    resting.waiting.go()?;
    resting.wait_done()?;
    // 7 MiB and 3 pages mapped, 2 pages unmapped; 2 MiB and a page of heap.
    let screen = top.wait_for("both sites", |screen| {
        cells(screen, "mmap site_maps resting.c:") == ["7.0M", "1"]
            && cells(screen, "brk site_breaks resting.c:") == ["2.0M", "1"]
    })?;
    ensure!(screen.contains("since top began: brk +2.0M, mmap 7.0M, munmap 8.0K"), "{screen}");
    top.press("f")?;
    let name = written(&mut top)?;
    let svg = fs::read_to_string(folder.join(name))?;
    ensure!(svg.contains("memory growth") && svg.contains("site_maps"), "no graph of growth");
    ensure!(changed_bytes(pid)? == 0, "growth alone, and probed");
    resting.end()
}

fn traced_json() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut command =
        heaptrace::command(&["top", "--trace", "--format", "json", "-i", "50ms", "-p", &pid.to_string()])?;
    command.current_dir(folder);
    let mut top = Running::spawn(command, "heaptrace", folder)?;
    let last = |top: &Running| -> Option<Value> {
        let text = top.stdout();
        let whole = &text[..text.rfind('\n')?];
        serde_json::from_str(whole.lines().last()?).ok()
    };
    let mut wait = |what: &str, amount: (u64, u64)| -> Result<Value> {
        let mut found = Value::Null;
        wait_until(PATIENCE, || {
            let print = last(&top).unwrap_or_default();
            let traced = process(&print, pid).map(|process| process["traced"].clone()).unwrap_or_default();
            if (traced["live_bytes"].as_u64(), traced["live_count"].as_u64())
                == (Some(amount.0), Some(amount.1))
            {
                found = traced;
            }
            ensure!(top.poll()?.is_none(), "{}", top.describe("ended"));
            Ok(!found.is_null())
        })
        .with_context(|| format!("no print {what}; the last: {:?}", last(&top)))?;
        Ok(found)
    };
    wait("before", (0, 0))?;
    steps.step(1, folder)?;
    let first = wait("after a step", (LEAKED.0 + CACHED.0, LEAKED.1 + CACHED.1))?;
    ensure!((number(&first, "alloc_count")?, number(&first, "free_count")?) == (29, 12), "{first}");
    steps.step(2, folder)?;
    wait("after two", (2 * LEAKED.0 + CACHED.0, 2 * LEAKED.1 + CACHED.1))?;
    steps.step(3, folder)?;
    wait("after three", (3 * LEAKED.0, 3 * LEAKED.1))?;
    steps.end(folder)?;
    let status = top.wait()?;
    ensure!(status.success(), "{}", top.describe("failed"));
    ensure!(top.stderr().contains("all targets have exited"), "{}", top.stderr());
    Ok(())
}

fn children() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut resting = Resting::start("fork", folder)?;
    let pid = resting.pid();
    let mut top = screen(&["-p", &pid.to_string(), "--no-growth", "--sort", "pid"], (110, 30), folder)?;
    top.wait_for_text("resting")?;
    top.press("t")?;
    top.wait_for_text("Enter: trace")?;
    top.press(ENTER)?;
    top.wait_for_text("is traced; T ends that")?;
    resting.waiting.go()?;
    let both = top.wait_for("the child, traced", |screen| screen.contains("tracing: 2 processes"))?;
    let child = *pids(&both).iter().find(|other| **other != pid).context("no child")?;
    ensure!(changed_bytes(child)? > 0, "traced, and no code was changed");
    fs::write(&resting.child, "")?;
    resting.wait_done()?;
    // Three blocks of 70 kB.
    top.wait_for("the child's blocks", |screen| {
        screen.lines().any(|line| line.contains(&child.to_string()) && line.contains("205K"))
    })?;
    top.press("T")?;
    top.wait_for_text(&format!("the probes of process {pid} are gone, and of 1 followed from it"))?;
    ensure!(changed_bytes(pid)? == 0 && changed_bytes(child)? == 0, "probes stay");
    top.wait_for_text("tracing: none")?;
    // The child alone, which can be traced as any other.
    top.press("jt")?;
    top.wait_for_text(&format!("resting ({child})"))?;
    top.wait_for_text("Enter: trace")?;
    top.press(ENTER)?;
    top.wait_for_text("tracing: 1 process")?;
    ensure!(changed_bytes(pid)? == 0 && changed_bytes(child)? > 0, "the wrong one has probes");
    resting.end()
}

fn killed() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = screen(&["-p", &pid.to_string(), "--trace"], (80, 24), folder)?;
    top.wait_for_text("tracing: 1 process")?;
    ensure!(changed_bytes(pid)? > 0, "no probes");
    top.signal(libc::SIGKILL)?;
    top.wait()?;
    wait_until(PATIENCE, || Ok(changed_bytes(pid)? == 0)).context("probes stay")
}

fn ended() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = screen(&["-p", &pid.to_string(), "--trace", "--no-growth"], (100, 24), folder)?;
    top.wait_for_text("tracing: 1 process")?;
    top.press(ENTER)?;
    top.wait_for_text("CALLED BY")?;
    for step in 1..=3 {
        steps.step(step, folder)?;
    }
    steps.end(folder)?;
    top.wait_for_text(&format!("process {pid} is not there any more"))?;
    top.press("tTfs\r\x1b[A\x1b[B")?;
    top.press("q")?;
    top.wait_for_text("No process that was asked for is there")?;
    top.press("q")?;
    ensure!(top.wait()?.success(), "q is no failure");
    Ok(())
}
