//! How a recording ends: by signals, by time, with its target.

use super::{stderr, text};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code, compare, heaptrace,
    programs::Program,
    report::Report,
    running::{PATIENCE, Running, wait_for_file, wait_until},
    session::{self, Waiting},
};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// A traced program that has allocated its 100 blocks and lives on.
struct Idle {
    folder: TempDir,
    waiting: Waiting,
    recorder: Running,
}

impl Idle {
    fn traced(options: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut command = Command::new(Program::C("idle").compile()?);
        command
            .env("LEDGER_OUT", session::ledger_file(folder.path()))
            .env("IDLE_DONE", folder.path().join("done"))
            .env("IDLE_END", folder.path().join("end"));
        let mut waiting = Waiting::start(command, folder.path())?;
        let recorder = heaptrace::attach(&[waiting.target.pid()], options, folder.path())?;
        waiting.go()?;
        wait_for_file(&folder.path().join("done"), &mut waiting.target)?;
        Ok(Self { folder, waiting, recorder })
    }

    fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    /// The record file, read, with the 75 blocks that the program holds.
    fn report(&self) -> Result<Report> {
        let report = heaptrace::report(self.folder.path())?;
        let sites = report.sites_of(self.pid());
        let idle =
            sites.filter(|site| compare::site_function(site, compare::Find::Caller) == Some("site_idle"));
        let found = compare::total(idle);
        ensure!((found.alloc_count, found.live_count) == (100, 75), "the recording has {found}");
        Ok(report)
    }

    /// Lets the program end, which it must do as if nothing had been.
    fn end(mut self) -> Result<()> {
        ensure!(code::changed_bytes(self.pid())? == 0, "probes were left behind");
        File::create(self.folder.path().join("end"))?;
        let status = self.waiting.target.wait()?;
        ensure!(status.code() == Some(21), "the target ended with {status}");
        Ok(())
    }
}

pub fn killed_target() -> Result<()> {
    let mut idle = Idle::traced(&[])?;
    idle.waiting.target.signal(libc::SIGKILL)?;
    idle.waiting.target.wait()?;
    heaptrace::finish(&mut idle.recorder)?;
    let report = idle.report()?;
    let process = report.process(idle.pid()).context("the target is not in the report")?;
    ensure!(process.exited, "the report does not say that the target has ended");
    Ok(())
}

pub fn time_limit() -> Result<()> {
    let mut idle = Idle::traced(&["-d", "3s"])?;
    heaptrace::finish(&mut idle.recorder)?;
    // Read without regard to the program's blocks: how far it got in the time is not known.
    let report = heaptrace::report(idle.folder.path())?;
    ensure!(report.duration_s >= 2.9, "it recorded for {} s of 3", report.duration_s);
    ensure!(report.coverage.finished, "the recording is not finished");
    idle.end()
}

pub fn ended_by(signal: libc::c_int) -> Result<()> {
    let mut idle = Idle::traced(&[])?;
    idle.recorder.signal(signal)?;
    heaptrace::finish(&mut idle.recorder)?;
    let report = idle.report()?;
    ensure!(report.coverage.finished, "the recording is not finished");
    idle.end()
}

pub fn hung_up() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut sleeping = Command::new("sleep").arg("100").spawn()?;
    let mut command = Command::new("nohup");
    command.arg(heaptrace::binary()?).args(["record", "-p", &sleeping.id().to_string(), "-o"]);
    command.arg(heaptrace::record_file(folder));
    let told = (|| {
        let mut recorder = Running::spawn(command, "heaptrace", folder)?;
        recorder.wait_for_line("heaptrace: tracing")?;
        recorder.signal(libc::SIGHUP)?;
        std::thread::sleep(Duration::from_millis(500));
        ensure!(recorder.poll()?.is_none(), "{}", recorder.describe("has ended"));
        recorder.signal(libc::SIGINT)?;
        heaptrace::finish(&mut recorder)?;
        ensure!(heaptrace::report(folder)?.duration_s >= 0.4, "it ended by the first signal");
        Ok(())
    })();
    sleeping.kill()?;
    sleeping.wait()?;
    told
}

/// Nobody reads what it says, so it is held there.
pub fn interrupted_at_once() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new(Program::C("idle").compile()?);
    command.env("LEDGER_OUT", session::ledger_file(folder)).env("IDLE_END", folder.join("end"));
    let mut waiting = Waiting::start(command, folder)?;
    let (mut reader, mut writer) = std::io::pipe()?;
    let filler = fill(&mut writer)?;
    let mut command = heaptrace::command(&["record", "-p", &waiting.target.pid().to_string(), "-o"])?;
    let mut recorder = command.arg(heaptrace::record_file(folder)).stderr(writer).spawn()?;
    drop(command);
    let pid = recorder.id();
    // write(2, ...
    let says = || Ok(fs::read_to_string(format!("/proc/{pid}/syscall"))?.starts_with("1 0x2 "));
    wait_until(PATIENCE, says).context("it says nothing")?;
    // SAFETY: a child of ours that was not waited for.
    ensure!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGINT) } == 0, "it is gone");
    let mut said = Vec::new();
    reader.read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said[filler..]).into_owned();
    let status = recorder.wait()?;
    ensure!(status.success() && said.contains("stopped"), "ended with {status}, and said {said}");
    ensure!(heaptrace::report(folder)?.coverage.finished, "the recording is not finished");
    File::create(folder.join("end"))?;
    waiting.go()?;
    waiting.target.wait().map(|_| ())
}

/// Fills a pipe; gives the bytes that are in it.
pub fn fill(writer: &mut std::io::PipeWriter) -> Result<usize> {
    let fd = writer.as_raw_fd();
    // SAFETY: changes a flag of a descriptor that is open.
    let nonblocking =
        |on: bool| unsafe { libc::fcntl(fd, libc::F_SETFL, if on { libc::O_NONBLOCK } else { 0 }) };
    ensure!(nonblocking(true) == 0, "fcntl failed");
    let mut filled = 0;
    for size in [4096, 1] {
        while let Ok(count) = writer.write(&[b' '; 4096][..size]) {
            filled += count;
        }
    }
    ensure!(nonblocking(false) == 0, "fcntl failed");
    Ok(filled)
}

pub fn interrupted_twice() -> Result<()> {
    let mut idle = Idle::traced(&[])?;
    idle.recorder.signal(libc::SIGINT)?;
    idle.recorder.signal(libc::SIGINT)?;
    idle.recorder.wait_at_most(Duration::from_secs(20)).context("it stays")?;
    ensure!(!idle.recorder.stderr().contains("panicked"), "{}", idle.recorder.describe("panicked"));
    // Detaching is the kernel's then, and may come after the exit.
    wait_until(PATIENCE, || Ok(code::changed_bytes(idle.pid())? == 0)).context("probes were left behind")?;
    idle.end()
}

/// Once the probes are gone, it writes the rest.
pub fn interrupted_at_the_end() -> Result<()> {
    let mut idle = Idle::traced(&["-d", "1s"])?;
    wait_until(PATIENCE, || Ok(code::changed_bytes(idle.pid())? == 0)).context("the probes stay")?;
    idle.recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut idle.recorder)?;
    ensure!(idle.report()?.coverage.finished, "the recording is not finished");
    idle.end()
}

/// A shell that starts another process, tells of both, and waits; with `options` of `heaptrace stat`.
struct Outlived {
    _folder: TempDir,
    recorder: Running,
    shell: i32,
    child: i32,
}

impl Outlived {
    fn start(options: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let pids = folder.path().join("pids");
        let script = "sleep 1000 & echo $$ $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait";
        let mut command = heaptrace::command(&["stat"])?;
        command.args(options).args(heaptrace::COMMAND).args(["sh", "-c", script]).arg(&pids);
        let recorder = Running::spawn(command, "heaptrace", folder.path())?;
        // It writes them whether it is still traced or not.
        wait_until(PATIENCE, || Ok(pids.exists())).with_context(|| recorder.describe("started no shell"))?;
        let pids = fs::read_to_string(pids)?;
        let mut pids = pids.split_whitespace().map(str::parse);
        let (shell, child) = (pids.next().context("no PID")??, pids.next().context("no second PID")??);
        Ok(Self { _folder: folder, recorder, shell, child })
    }

    fn ended(pid: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }
}

impl Drop for Outlived {
    fn drop(&mut self) {
        for pid in [self.shell, self.child].into_iter().filter(|pid| !Self::ended(*pid)) {
            // SAFETY: no pointers; the process was started for this test.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

pub fn outlived() -> Result<()> {
    for end in ["-d", "SIGINT"] {
        let options: &[&str] = if end == "-d" { &["-d", "2s"] } else { &[] };
        let mut outlived = Outlived::start(options)?;
        if end == "SIGINT" {
            outlived.recorder.signal(libc::SIGINT)?;
        }
        heaptrace::finish(&mut outlived.recorder)?;
        let said = outlived.recorder.stderr();
        ensure!(said.contains(&format!("still runs as process {}", outlived.shell)), "{end}: {said}");
        ensure!(!Outlived::ended(outlived.shell) && !Outlived::ended(outlived.child), "{end}: it has ended");
    }
    Ok(())
}

/// It ignores SIGTERM: that is said, and what was counted is printed all the same.
pub fn unheeding_command() -> Result<()> {
    let arguments = ["stat", "--kill", "-d", "1s"];
    let mut command = heaptrace::command(&arguments)?;
    command.args(heaptrace::COMMAND).args([
        "sh",
        "-c",
        "trap '' TERM; echo $$; exec >/dev/null 2>&1; while :; do sleep 0.1; done",
    ]);
    let output = command.output()?;
    let (said, printed) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    let pid: libc::pid_t = printed.lines().next().context("no PID")?.parse()?;
    // SAFETY: a child of heaptrace's, which is over: ours to end.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    ensure!(
        output.status.success() && said.contains("did not end on SIGTERM") && printed.contains("# Coverage:"),
        "{said}\n{printed}"
    );
    Ok(())
}

pub fn killed_command() -> Result<()> {
    let mut outlived = Outlived::start(&["--kill"])?;
    outlived.recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut outlived.recorder)?;
    let said = outlived.recorder.stderr();
    ensure!(said.contains(&format!("the command was killed by signal {}", libc::SIGTERM)), "{said}");
    ensure!(Outlived::ended(outlived.shell), "it runs on");
    ensure!(!Outlived::ended(outlived.child), "what it started has ended, too");
    Ok(())
}

/// What it held beyond that would keep a pipe open that heaptrace writes to.
pub fn descriptors() -> Result<()> {
    let list = ["ls", "/proc/self/fd"];
    let alone = Command::new(list[0]).args(&list[1..]).output()?;
    let folder = TempDir::new()?;
    for command in ["record", "stat"] {
        let out = folder.path().join("out");
        let mut traced = heaptrace::command(&[command, "-o", text(&out)?])?;
        let output = traced.args(heaptrace::COMMAND).args(list).output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        ensure!(output.stdout == alone.stdout, "{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

pub fn propagated_exit() -> Result<()> {
    let folder = TempDir::new()?;
    let file = heaptrace::record_file(folder.path());
    let program = Program::C("ending").compile()?;
    for (options, expected) in [(&[][..], 0), (&["--propagate-exit"][..], 9)] {
        let mut command = heaptrace::command(&["record", "-o", text(&file)?])?;
        let output = command.args(options).args(heaptrace::COMMAND).arg(&program).arg("exit").output()?;
        let code = output.status.code();
        ensure!(code == Some(expected), "ended with {code:?}, not {expected}; said {}", stderr(&output));
    }
    Ok(())
}
