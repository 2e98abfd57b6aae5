//! Ends that nobody wished for: of heaptrace, of its file, of the target. The target goes on, no probe stays, and what
//! was written can be read.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    code, compare, heaptrace,
    ledger::{Figures, Ledger},
    programs::Program,
    runner::{self, end_to_end},
    running::{PATIENCE, Running, wait_until},
    session::{self, Session, Start, Waiting},
};
use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};
use tempfile::TempDir;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end(
            "killed again and again at any moment, the target goes on and no probe stays",
            killed_often,
        ),
        end_to_end(
            "killed again and again while it lets go of the target, no probe stays",
            killed_letting_go,
        ),
        end_to_end("the file of a killed recorder is read to its last block", killed_file),
        end_to_end("a full disk ends the recording, and the target has done its work", full_disk),
        end_to_end("a file that is deleted while recording is written anew", deleted_file),
        end_to_end("a file whose name is taken while recording is written beside it", replaced_file),
        end_to_end("targets that are killed while attaching", killed_targets),
        end_to_end("a target that has ended is said to have", ended_target),
    ])
}

/// The program `steady`, at work.
struct Steady {
    waiting: Waiting,
    end: PathBuf,
}

impl Steady {
    fn start(folder: &Path, threads: &str) -> Result<Self> {
        let end = folder.join("end");
        let mut command = Command::new(Program::C("steady").compile()?);
        command.arg(threads).env("STEADY_END", &end);
        let waiting = Waiting::start(command, folder)?;
        waiting.go()?;
        Ok(Self { waiting, end })
    }

    fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    /// Waits until it has allocated since: its threads do nothing else, and this long of running is many calls.
    fn wait_until_it_ran(&self) -> Result<()> {
        let begun = self.run_time()?;
        wait_until(PATIENCE, || Ok(self.run_time()? > begun + Duration::from_millis(20)))
            .context("it did not run")
    }

    /// What its threads have run (first field of /proc/PID/task/TID/schedstat, proc_pid_schedstat in
    /// Documentation/scheduler/sched-stats.rst).
    fn run_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().context("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Waits until no probe is in its code.
    fn wait_until_bare(&self) -> Result<()> {
        wait_until(PATIENCE, || Ok(code::changed_bytes(self.pid())? == 0)).context("probes were left behind")
    }

    /// Ends it; its blocks must be what they were. Gives what it allocated and freed.
    fn finish(mut self) -> Result<Figures> {
        File::create(&self.end)?;
        let status = self.waiting.target.wait()?;
        ensure!(status.code() == Some(21), "the target ended with {status}");
        let said = self.waiting.target.stdout();
        let numbers: Vec<u64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [alloc_count, alloc_bytes, free_count, free_bytes] = numbers[..] else {
            bail!("it said {said:?}")
        };
        Ok(Figures { alloc_count, alloc_bytes, free_count, free_bytes, ..Figures::default() })
    }
}

/// From a start that has only begun to a recording under way.
fn killed_often() -> Result<()> {
    let times = runner::of_all(100, 40);
    let folder = TempDir::new()?;
    let steady = Steady::start(folder.path(), "3")?;
    let (mut attached, mut early) = (0, 0);
    for time in 0..times {
        let mut command = heaptrace::command(&["record", "-p", &steady.pid().to_string(), "-o"])?;
        command.arg(heaptrace::record_file(folder.path()));
        let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
        if time % 4 == 0 {
            // Under way for a moment.
            recorder.wait_for_line("heaptrace: tracing")?;
            attached += 1;
        } else {
            early += 1;
        }
        thread::sleep(Duration::from_millis(400) * time / times);
        recorder.signal(libc::SIGKILL)?;
        recorder.wait()?;
        steady.wait_until_bare().with_context(|| format!("after kill number {time}"))?;
    }
    println!("{attached} killed while tracing, {early} while starting");
    // The next one works.
    let mut recorder = heaptrace::attach(&[steady.pid()], &["-d", "1s"], folder.path())?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder.path())?;
    compare::nothing_lost(&report)?;
    let process = report.process(steady.pid()).context("the target is not in the report")?;
    ensure!(process.alloc_count > 0 && process.free_count > 0, "{process:?}");
    steady.wait_until_bare()?;
    steady.finish()?;
    Ok(())
}

/// The kernel does not take probes away for a task that is about to die: somebody else must.
fn killed_letting_go() -> Result<()> {
    let times = runner::of_all(40, 20);
    let folder = TempDir::new()?;
    let steady = Steady::start(folder.path(), "2")?;
    let mut killed = 0;
    for time in 0..times {
        let mut recorder = heaptrace::attach(&[steady.pid()], &[], folder.path())?;
        recorder.signal(libc::SIGINT)?;
        thread::sleep(Duration::from_millis(120) * time / times);
        recorder.signal(libc::SIGKILL)?;
        killed += u32::from(recorder.wait()?.signal() == Some(libc::SIGKILL));
        steady.wait_until_bare().with_context(|| format!("after kill number {time}"))?;
    }
    ensure!(killed >= times / 2, "only {killed} were killed, the others had ended");
    steady.finish()?;
    Ok(())
}

fn killed_file() -> Result<()> {
    let folder = TempDir::new()?;
    let steady = Steady::start(folder.path(), "2")?;
    let mut recorder = heaptrace::attach(&[steady.pid()], &[], folder.path())?;
    let file = heaptrace::record_file(folder.path());
    // A block every five seconds: the second one is whole when the file has grown twice.
    let length = || fs::metadata(&file).map_or(0, |file| file.len());
    let mut lengths = vec![length()];
    wait_until(PATIENCE, || {
        if length() > lengths[lengths.len() - 1] {
            lengths.push(length());
        }
        Ok(lengths.len() > 2)
    })?;
    recorder.signal(libc::SIGKILL)?;
    recorder.wait()?;
    let report = heaptrace::report(folder.path())?;
    ensure!(!report.coverage.finished, "a killed recording calls itself finished");
    ensure!(report.coverage.events > 1000, "{} events were kept", report.coverage.events);
    let process = report.process(steady.pid()).context("the target is not in the report")?.figures();
    steady.wait_until_bare()?;
    let made = steady.finish()?;
    ensure!(
        process.alloc_count <= made.alloc_count
            && process.alloc_bytes <= made.alloc_bytes
            && process.free_count <= made.free_count,
        "the program made {made}, the recording has {process}"
    );
    Ok(())
}

fn full_disk() -> Result<()> {
    let folder = TempDir::new()?;
    let disk = folder.path().join("disk");
    fs::create_dir(&disk)?;
    let ledger = session::ledger_file(folder.path());
    // In a mount namespace of its own, which ends with it. 20,000 stacks take some hundred kilobytes.
    let script = "mount -t tmpfs -o size=16k tmpfs \"$1\" && cd \"$1\" && \"$2\" record -o full.data -- \"$3\" stacks 20000; \
                  code=$?; cat full.data > \"$4\"; exit $code";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(&disk).arg(heaptrace::binary()?);
    command.arg(Program::C("many").compile()?).arg(heaptrace::record_file(folder.path()));
    command.env("LEDGER_OUT", &ledger);
    let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
    let status = recorder.wait()?;
    let said = recorder.stderr();
    ensure!(status.code() == Some(1), "{}", recorder.describe(&format!("ended with {status}")));
    ensure!(
        said.contains("full.data") && said.contains("No space left on device"),
        "{}",
        recorder.describe("does not say what is full")
    );
    // The target has done all it had to do, and what found room can be read.
    let blocks =
        Ledger::read(&ledger)?.0.values().next().context("no ledger")?.sites["site_deep"].alloc_count;
    ensure!(blocks == 20_000, "the target ended after {blocks} blocks");
    // The block that found no room left nothing half-written. Whether there was one before, on a slow machine, is all the same.
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(&["report", file.to_str().context("not UTF-8")?])?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => ensure!(!heaptrace::report(folder.path())?.coverage.finished, "it calls itself finished"),
        code => ensure!(
            code == Some(1) && said.contains("before its first complete block"),
            "report ended with {}\n{said}",
            output.status
        ),
    }
    Ok(())
}

/// Records, has `meanwhile` happen to the file, ends; gives what heaptrace said.
fn disturbed(folder: &Path, meanwhile: impl FnOnce(&Path) -> Result<()>) -> Result<String> {
    let steady = Steady::start(folder, "2")?;
    let mut recorder = heaptrace::attach(&[steady.pid()], &[], folder)?;
    steady.wait_until_it_ran()?;
    meanwhile(&heaptrace::record_file(folder))?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    steady.finish()?;
    Ok(recorder.stderr())
}

fn deleted_file() -> Result<()> {
    let folder = TempDir::new()?;
    let said = disturbed(folder.path(), |file| Ok(fs::remove_file(file)?))?;
    ensure!(said.contains("was deleted"), "{said}");
    let report = heaptrace::report(folder.path())?;
    ensure!(report.coverage.finished && report.coverage.events > 0, "{:?}", report.coverage);
    Ok(())
}

fn replaced_file() -> Result<()> {
    const OTHERS: &str = "somebody else's";
    let folder = TempDir::new()?;
    let file = heaptrace::record_file(folder.path());
    let said = disturbed(folder.path(), |file| {
        fs::remove_file(file)?;
        Ok(fs::write(file, OTHERS)?)
    })?;
    ensure!(fs::read_to_string(&file)? == OTHERS, "another's file was overwritten");
    let beside = folder.path().join("heaptrace.data.kept");
    ensure!(said.contains("heaptrace.data.kept"), "{said}");
    fs::rename(&beside, &file)?;
    let report = heaptrace::report(folder.path())?;
    ensure!(report.coverage.finished && report.coverage.events > 0, "{:?}", report.coverage);
    Ok(())
}

fn ended_before(pid: u32) -> String {
    format!("heaptrace: process {pid} ended before it could be traced\n")
}

fn not_there(pid: u32) -> String {
    format!("heaptrace: there is no process {pid}\n")
}

/// Nobody has waited for it, so that there is still something of it.
fn ended_target() -> Result<()> {
    let folder = TempDir::new()?;
    let steady = Steady::start(folder.path(), "2")?;
    let pid = steady.pid();
    steady.waiting.target.signal(libc::SIGKILL)?;
    let is_over = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();
        Ok(threads == 1 && fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(") Z "))
    };
    wait_until(PATIENCE, is_over).context("it did not end")?;
    let file = heaptrace::record_file(folder.path());
    let file = file.to_str().context("not UTF-8")?;
    let named = pid.to_string();
    for command in
        [&["record", "-o", file][..], &["stat"], &["leaks"], &["watch"], &["top", "--trace", "-n", "1"]]
    {
        let output = heaptrace::output(&[command, &["-p", &named]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(4) && said == ended_before(pid),
            "{command:?}: {}: {said}",
            output.status
        );
    }
    drop(steady);
    let output = heaptrace::output(&["stat", "-p", &named])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(4) && said == not_there(pid), "{}: {said}", output.status);
    Ok(())
}

/// Whatever it was doing, it ends by itself: with a recording, or saying that the target is gone.
fn killed_targets() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut recorded, mut gone) = (0, 0);
    for time in 0..25 {
        let steady = Steady::start(folder.path(), "2")?;
        let mut command = heaptrace::command(&["record", "-p", &steady.pid().to_string(), "-o"])?;
        command.arg(heaptrace::record_file(folder.path()));
        let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
        if time % 2 == 0 {
            recorder.wait_for_line("heaptrace: tracing")?;
        }
        thread::sleep(Duration::from_millis(time * 15));
        let pid = steady.pid();
        steady.waiting.target.signal(libc::SIGKILL)?;
        drop(steady);
        match recorder.wait()?.code() {
            Some(0) => recorded += 1,
            Some(4) if [ended_before(pid), not_there(pid)].contains(&recorder.stderr()) => gone += 1,
            code => bail!("{}", recorder.describe(&format!("ended with {code:?}"))),
        }
        for file in ["ready", "go", "end"] {
            let _ = fs::remove_file(folder.path().join(file));
        }
    }
    println!("{recorded} recorded, {gone} found the target gone");
    ensure!(recorded > 0, "all of {gone} found the target gone");
    // And the next one works.
    let outcome = Session::new(Program::C("family"), &["1", "20"]).record(Start::Attach)?;
    compare::exactly(&outcome, compare::Find::Caller)
}
