//! t and T: what is traced is what the programs hold, and nothing stays behind.

use crate::{ENTER, ESC, cells, pids, start};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code::{changed_bytes, changed_bytes_in},
    programs::Program,
    running::{PATIENCE, Running, wait_until},
    session::Waiting,
    steps::{CACHED, LEAKED, Resting, Steps},
    terminal::Terminal,
};
use std::{fs, process::Command};
use tempfile::TempDir;

pub fn traced() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = start(&["-p", &pid.to_string()], (100, 30), folder)?;
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
    // Resident memory, by what it is.
    top.press("m")?;
    top.wait_for("its parts", |screen| {
        screen.contains("resident memory") && screen.contains("% ") && screen.contains("measured")
    })?;
    top.press("m")?;
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

/// The name of the flame graph that is said to be written.
fn written(top: &mut Terminal) -> Result<String> {
    fn name(screen: &str) -> Option<&str> {
        let words = screen.split("wrote ").nth(1)?;
        words.split_whitespace().next().filter(|name| name.ends_with(".svg"))
    }
    let said = top.wait_for("a file's name", |screen| name(screen).is_some())?;
    name(&said).map(str::to_owned).context("the name is gone")
}

pub fn flame_graph() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = start(&["-p", &pid.to_string(), "--trace", "--no-growth"], (100, 30), folder)?;
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

pub fn refused() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::Freestanding32("thirty_two").compile()?;
    let process = Running::spawn(Command::new(program), "target", folder)?;
    let pid = process.pid();
    let mut top = start(&["-p", &pid.to_string(), "--no-growth"], (100, 30), folder)?;
    top.wait_for_text("thirty_two")?;
    top.press("t")?;
    let why = top.wait_for_text("cannot be traced")?;
    // It is wrapped to fit its box, by the length of a path.
    let words = why.replace(['│', '\n'], " ");
    let words: Vec<&str> = words.split_whitespace().collect();
    ensure!(words.join(" ").contains("32-bit program; only 64-bit"), "{why}");
    println!(
        "\nnote: {}",
        why.lines().find(|line| line.contains("cannot be traced")).unwrap_or_default().trim()
    );
    top.press(ENTER)?;
    top.wait_for("no question", |screen| !screen.contains("cannot be traced"))?;
    ensure!(changed_bytes(pid)? == 0, "refused, and probed");
    Ok(())
}

pub fn growth() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut resting = Resting::start("map", folder)?;
    let pid = resting.pid();
    let mut top = start(&["-p", &pid.to_string()], (110, 30), folder)?;
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
    // What its memory is made of is measured without tracing, too.
    top.press("m")?;
    let parts = top.wait_for("its parts", |screen| {
        screen.contains("resident memory") && screen.contains("  measured  file-backed")
    })?;
    ensure!(!parts.contains("traced live"), "{parts}");
    top.press("f")?;
    let name = written(&mut top)?;
    let svg = fs::read_to_string(folder.join(name))?;
    ensure!(svg.contains("memory growth") && svg.contains("site_maps"), "no graph of growth");
    ensure!(changed_bytes(pid)? == 0, "growth alone, and probed");
    resting.end()
}

pub fn children() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut resting = Resting::start("fork", folder)?;
    let pid = resting.pid();
    let mut top = start(&["-p", &pid.to_string(), "--no-growth", "--sort", "pid"], (110, 30), folder)?;
    top.wait_for_text("resting")?;
    top.press("t")?;
    top.wait_for_text("Enter: trace")?;
    top.press(ENTER)?;
    top.wait_for_text("is traced; T ends that")?;
    resting.waiting.go()?;
    let both = top.wait_for("the child, traced", |screen| {
        screen.contains("tracing: 2 processes") && pids(screen).len() == 2
    })?;
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

/// A child of a child that has execed, and whose own parent is gone.
pub fn descendants() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut shell = Command::new("/bin/sh");
    shell.args([
        "-c",
        "while [ ! -e go ]; do sleep 1; done; (sleep 300 & echo $! > pid.new); mv pid.new pid; sleep 300",
    ]);
    let shell = Running::spawn(
        {
            shell.current_dir(folder);
            shell
        },
        "shell",
        folder,
    )?;
    let pid = shell.pid();
    let mut top =
        start(&["-p", &pid.to_string(), "--no-growth", "--sort", "pid", "--trace"], (110, 30), folder)?;
    top.wait_for_text("tracing: ")?;
    fs::write(folder.join("go"), "")?;
    let written = folder.join("pid");
    wait_until(PATIENCE, || Ok(written.exists()))?;
    let orphan: u32 = fs::read_to_string(&written)?.trim().parse()?;
    let outcome = (|| {
        // It execs: until then its memory is the shell's, and goes away while it is read.
        wait_until(PATIENCE, || Ok(fs::read_to_string(format!("/proc/{orphan}/comm"))? == "sleep\n"))?;
        wait_until(PATIENCE, || Ok(changed_bytes(orphan).is_ok_and(|changed| changed > 0)))
            .with_context(|| format!("it is not followed; the screen:\n{}", top.text()))?;
        top.press("T")?;
        top.wait_for_text(&format!("the probes of process {pid} are gone, and of"))?;
        ensure!(changed_bytes(pid)? == 0 && changed_bytes(orphan)? == 0, "probes stay");
        top.wait_for_text("tracing: none").map(drop)
    })();
    // SAFETY: it sleeps for minutes yet, so the id is its own.
    unsafe { libc::kill(orphan as libc::pid_t, libc::SIGKILL) };
    outcome
}

/// Calls that map memory are not traced here, so no event tells of it.
pub fn loaded() -> Result<()> {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    let folder = TempDir::new()?;
    let folder = folder.path();
    let script = format!(
        "import ctypes, os, time\nwhile not os.path.exists('go'): time.sleep(0.05)\n\
         ctypes.CDLL('{LIBRARY}')\ntime.sleep(1000)"
    );
    let mut python = Command::new("python3");
    // jemalloc wants static TLS, of which dlopen has little.
    python
        .args(["-c", &script])
        .env("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=20000")
        .current_dir(folder);
    let python = Running::spawn(python, "python", folder)?;
    let pid = python.pid();
    let mut top = start(&["-p", &pid.to_string(), "--trace", "--no-growth"], (100, 24), folder)?;
    top.wait_for_text("tracing: 1 process")?;
    fs::write(folder.join("go"), "")?;
    let probed = || Ok(changed_bytes_in(pid, |path| path.contains("jemalloc"))? > 0);
    wait_until(PATIENCE, probed).with_context(|| format!("it is not probed; the screen:\n{}", top.text()))
}

pub fn killed() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = start(&["-p", &pid.to_string(), "--trace"], (80, 24), folder)?;
    top.wait_for_text("tracing: 1 process")?;
    ensure!(changed_bytes(pid)? > 0, "no probes");
    top.signal(libc::SIGKILL)?;
    top.wait()?;
    wait_until(PATIENCE, || Ok(changed_bytes(pid)? == 0)).context("probes stay")
}

pub fn ended() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut steps = Steps::start(folder)?;
    let pid = steps.pid();
    let mut top = start(&["-p", &pid.to_string(), "--trace", "--no-growth"], (100, 24), folder)?;
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

/// Threads that allocate all the time and look whether their blocks are what they were: they end with code 21 if so.
pub fn busy() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let end = folder.join("end");
    let mut command = Command::new(Program::C("steady").compile()?);
    command.arg("4").env("STEADY_END", &end);
    let mut waiting = Waiting::start(command, folder)?;
    let pid = waiting.target.pid();
    let mut top = start(&["-p", &pid.to_string(), "--no-growth"], (100, 24), folder)?;
    top.wait_for_text("steady")?;
    waiting.go()?;
    for round in 0..5 {
        top.press("t")?;
        top.wait_for_text("Enter: trace")?;
        top.press(ENTER)?;
        top.wait_for_text("is traced; T ends that")?;
        // It is at work, and its calls are counted: thousands a second, or millions on a fast machine.
        top.wait_for("its calls", |screen| {
            let line = screen.lines().find(|line| line.starts_with("tracing: 1 process"));
            line.is_some_and(|line| line.contains("k calls/s") || line.contains("M calls/s"))
        })
        .with_context(|| format!("in round {round}"))?;
        top.press("T")?;
        top.wait_for_text(&format!("the probes of process {pid} are gone"))?;
        ensure!(changed_bytes(pid)? == 0, "probes stay");
    }
    fs::write(&end, "")?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(21), "{}", waiting.target.describe(&format!("ended with {status}")));
    Ok(())
}
