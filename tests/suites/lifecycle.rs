//! Processes that fork, exec and end in every way, and tracers that come and go: figures stay exact, and the
//! target never notices.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    compare::{self, Find, Slack},
    heaptrace,
    ledger::Ledger,
    programs::Program,
    runner::{self, Test, end_to_end},
    running::{PATIENCE, Running, wait_for_file, wait_until, wait_while_running},
    session::{self, Session, Start, Waiting},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        for (name, mode, processes) in [
            ("fork without exec", "fork", 2),
            ("fork with exec", "fork-exec", 2),
            ("vfork with exec", "vfork-exec", 2),
            ("posix_spawn", "spawn", 2),
            ("exec over itself", "exec", 1),
            ("exec over itself by another thread", "thread-exec", 1),
        ] {
            tests.push(family(start, name, mode, processes));
        }
        for ending in ["return", "exit", "_exit", "abort", "kill", "leader"] {
            tests.push(end(start, ending));
        }
        tests.push(followed(start));
        tests.push(not_followed(start));
    }
    tests.push(end_to_end("attach: an exec by another thread than the first is told of", exec_by_a_thread));
    tests.push(end_to_end("attach: the target outlives the tracer unharmed", detach));
    tests.push(end_to_end("attach: the first thread is gone, and another tracer comes and goes", leaderless));
    tests.push(end_to_end("attach: the first thread is gone, and a library is opened", leaderless_opens));
    tests.push(end_to_end("attach: the first thread is gone already", leaderless_before));
    tests.push(end_to_end(
        "attach: the first thread is gone, and its probes before that is noticed",
        leaderless_unheld,
    ));
    tests.push(end_to_end("attach: a killed tracer leaves no probes", killed_tracer));
    tests.push(end_to_end("attach: two processes at once", two_at_once));
    tests.push(end_to_end("attach: two tracers on one process", two_tracers));
    runner::run(tests)
}

/// Children are exact from their first instruction where probes are set per file: a file of this test's own.
fn family(start: Start, name: &str, mode: &'static str, processes: usize) -> Test {
    end_to_end(format!("{}: {name}", start.name()), move || {
        let outcome =
            Session::new(Program::C("process"), &[mode]).options(&["--exact-children"]).record(start)?;
        outcome.ensure_success()?;
        let written = outcome.ledger.0.len();
        ensure!(written == processes, "{processes} processes should keep a ledger, {written} did");
        compare::exactly(&outcome, Find::Caller)
    })
}

/// Its probes go with its first thread: what its new image calls is not seen until they are there again, or never.
fn exec_by_a_thread() -> Result<()> {
    let outcome = Session::new(Program::C("process"), &["thread-exec"]).record(Start::Attach)?;
    outcome.ensure_success()?;
    let coverage = &outcome.report.coverage;
    let seen_again = coverage.notes.iter().any(|note| note.contains("not seen"));
    // Perf events are not placed again.
    ensure!(seen_again || !coverage.untraceable.is_empty(), "{coverage:?}");
    Ok(())
}

/// A child that waits until probes have reached it, by the default way of following.
fn followed(start: Start) -> Test {
    end_to_end(format!("{}: a followed child is exact once probes are there", start.name()), move || {
        let outcome = Session::new(Program::C("process"), &["follow"]).record(start)?;
        outcome.ensure_success()?;
        ensure!(outcome.ledger.0.len() == 2, "the child wrote no ledger");
        // The child calls malloc and free while it waits, and some of these pairs are seen by half.
        compare::with_slack(&outcome, Find::Caller, Slack { attached_late: true, unledgered_site: None })
    })
}

fn not_followed(start: Start) -> Test {
    end_to_end(format!("{}: --no-follow leaves children out", start.name()), move || {
        let mut outcome =
            Session::new(Program::C("process"), &["fork"]).options(&["--no-follow"]).record(start)?;
        outcome.ensure_success()?;
        let is_child =
            |ledger: &heaptrace_tests::ledger::ProcessLedger| ledger.sites.contains_key("site_child");
        let child = outcome.ledger.0.iter().find(|(_, ledger)| is_child(ledger)).map(|(&pid, _)| pid);
        let child = child.context("the child wrote no ledger")?;
        if let Some(process) = outcome.report.process(child) {
            let seen = process.alloc_count + process.free_count + process.unknown_frees;
            ensure!(seen == 0, "the child was traced: {process:?}");
        }
        outcome.ledger.0.remove(&child);
        compare::exactly(&outcome, Find::Caller)
    })
}

fn end(start: Start, ending: &'static str) -> Test {
    end_to_end(format!("{}: ends by {ending}", start.name()), move || {
        let session = Session::new(Program::C("ending"), &[ending]);
        let untraced = session.untraced()?;
        let folder = TempDir::new()?;
        // Until the breakpoints of a process without its first thread are held, a change by other tests takes them.
        session::copy_libc(folder.path())?;
        let outcome = session.record_in(start, folder.path())?;
        if let Some((_, traced)) = outcome.target {
            ensure!(traced == untraced, "ended with {traced} under the tracer, with {untraced} without");
        }
        compare::exactly(&outcome, Find::Caller)
    })
}

/// An `idle` program in `folder`, its 100 blocks not yet allocated.
fn idle(folder: &std::path::Path) -> Result<Waiting> {
    let mut command = Command::new(Program::C("idle").compile()?);
    command
        .env("LEDGER_OUT", session::ledger_file(folder))
        .env("IDLE_DONE", folder.join("done"))
        .env("IDLE_END", folder.join("end"));
    Waiting::start(command, folder)
}

/// Lets the idle program of `folder` end, which it must do as if nothing had been.
fn end_idle(mut waiting: Waiting, folder: &std::path::Path) -> Result<()> {
    File::create(folder.join("end"))?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(21), "the target ended with {status}");
    Ok(())
}

fn detach() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = idle(folder)?;
    let pid = waiting.target.pid();
    ensure!(code::changed_bytes(pid)? == 0, "there are probes before tracing");
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    ensure!(code::changed_bytes(pid)? > 0, "there are no probes while tracing");
    waiting.go()?;
    wait_for_file(&folder.join("done"), &mut waiting.target)?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    ensure!(code::changed_bytes(pid)? == 0, "probes were left behind");
    let ledger = Ledger::read(&session::ledger_file(folder))?;
    let report = heaptrace::report(folder)?;
    let process = report.process(pid).context("the target is not in the report")?;
    ensure!(!process.exited, "the report says that the target has ended");
    let expected = ledger.process(pid)?.sites["site_idle"];
    let found = compare::total(
        report.sites_of(pid).filter(|site| compare::site_function(site, Find::Caller) == Some("site_idle")),
    );
    ensure!(found == expected, "site_idle\n    ledger {expected}\n    report {found}");
    end_idle(waiting, folder)
}

/// A process that has lost its first thread.
struct Leaderless {
    waiting: Waiting,
    recorder: Running,
    go_on: PathBuf,
}

impl Leaderless {
    fn start(folder: &Path, library: Option<&Path>) -> Result<Self> {
        let mut process = Self::attach(folder, library)?;
        lose_first_thread(&mut process.waiting)?;
        Ok(process)
    }

    fn attach(folder: &Path, library: Option<&Path>) -> Result<Self> {
        let (waiting, go_on) = Self::waiting(folder, library)?;
        let recorder = heaptrace::attach(&[waiting.target.pid()], &[], folder)?;
        Ok(Self { waiting, recorder, go_on })
    }

    /// The program, not yet traced, and the file that lets it go on without its first thread.
    fn waiting(folder: &Path, library: Option<&Path>) -> Result<(Waiting, PathBuf)> {
        let go_on = folder.join("go on");
        session::copy_libc(folder)?;
        let mut command = Command::new(Program::C("ending").compile()?);
        command.arg("leader").env("LEDGER_OUT", session::ledger_file(folder)).env("ENDING_GO", &go_on);
        command.envs(session::own_libraries(folder));
        command.envs(library.map(|library| ("ENDING_LIBRARY", library)));
        Ok((Waiting::start(command, folder)?, go_on))
    }

    /// A thread that goes on.
    fn thread(&self) -> Result<u32> {
        let pid = self.waiting.target.pid();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let ids = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse().ok());
        ids.into_iter().find(|thread| *thread != pid).context("no other thread")
    }

    fn finish(mut self, folder: &Path) -> Result<session::Outcome> {
        File::create(self.go_on)?;
        let status = self.waiting.target.wait()?;
        heaptrace::finish(&mut self.recorder)?;
        Ok(session::Outcome {
            report: heaptrace::report(folder)?,
            ledger: Ledger::read(&session::ledger_file(folder))?,
            target: Some((self.waiting.target.pid(), status)),
        })
    }
}

/// Lets a program that waits go on until its first thread is gone.
fn lose_first_thread(waiting: &mut Waiting) -> Result<()> {
    let pid = waiting.target.pid();
    waiting.go()?;
    let is_zombie = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    };
    wait_while_running(&mut waiting.target, "lose its first thread", is_zombie)
}

/// A link that is made for a thread that is gone places no breakpoints.
fn leaderless_before() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut waiting, go_on) = Leaderless::waiting(folder.path(), None)?;
    lose_first_thread(&mut waiting)?;
    let recorder = heaptrace::attach(&[waiting.target.pid()], &[], folder.path())?;
    let outcome = Leaderless { waiting, recorder, go_on }.finish(folder.path())?;
    compare::nothing_lost(&outcome.report)?;
    let (pid, _) = outcome.target.context("no target")?;
    compare::one_site(&outcome.report, pid, outcome.ledger.process(pid)?, "site_worker", Find::Caller)
}

/// What is mapped then is looked at by way of a thread that lives.
fn leaderless_opens() -> Result<()> {
    let folder = TempDir::new()?;
    let library = Program::CLibrary("plugin").compile()?;
    let outcome = Leaderless::start(folder.path(), Some(&library))?.finish(folder.path())?;
    compare::nothing_lost(&outcome.report)?;
    let coverage = &outcome.report.coverage;
    ensure!(coverage.distrusted().is_empty(), "{:#?}", coverage.notes);
    let (pid, _) = outcome.target.context("no target")?;
    compare::every_site(&outcome.report, pid, outcome.ledger.process(pid)?, Find::Caller)
}

/// Whoever changes a probe of the same functions has the kernel ask all others whether they want their process still.
fn leaderless() -> Result<()> {
    let folder = TempDir::new()?;
    let process = Leaderless::start(folder.path(), None)?;
    for _ in 0..3 {
        another_comes_and_goes(folder.path())?;
    }
    compare::exactly(&process.finish(folder.path())?, Find::Caller)
}

/// Another tracer of a C library comes and goes.
fn another_comes_and_goes(library_of: &Path) -> Result<()> {
    let folder = TempDir::new()?;
    session::share_libc(library_of, folder.path())?;
    Session::new(Program::C("family"), &["1", "5"]).record_in(Start::Attach, folder.path()).map(drop)
}

/// What the first thread's end and another tracer take away before it is noticed is told.
fn leaderless_unheld() -> Result<()> {
    let folder = TempDir::new()?;
    let mut process = Leaderless::attach(folder.path(), None)?;
    process.recorder.signal(libc::SIGSTOP)?;
    lose_first_thread(&mut process.waiting)?;
    let thread = process.thread()?;
    another_comes_and_goes(folder.path())?;
    ensure!(code::changed_bytes(thread)? == 0, "its probes are still there");
    process.recorder.signal(libc::SIGCONT)?;
    wait_until(PATIENCE, || Ok(code::changed_bytes(thread)? > 0)).context("its probes were not held")?;
    let outcome = process.finish(folder.path())?;
    let (pid, _) = outcome.target.context("no target")?;
    let process = outcome.report.process(pid).context("the target is not in the report")?;
    let notes = &outcome.report.coverage.notes;
    ensure!(notes.iter().any(|note| note.contains("its probes went with another tracer's")), "{notes:#?}");
    ensure!(process.attached_fraction < 1.0, "nothing is said to be missing of it: {notes:#?}");
    Ok(())
}

fn killed_tracer() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = idle(folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    recorder.signal(libc::SIGKILL)?;
    recorder.wait()?;
    // The kernel removes probes with the tracer's descriptors, some of it after the process is gone.
    wait_until(PATIENCE, || Ok(code::changed_bytes(pid)? == 0)).context("probes were left behind")?;
    waiting.go()?;
    wait_for_file(&folder.join("done"), &mut waiting.target)?;
    end_idle(waiting, folder)
}

fn two_at_once() -> Result<()> {
    let folders = [TempDir::new()?, TempDir::new()?];
    let [first, second] = [idle(folders[0].path())?, idle(folders[1].path())?];
    let pids = [first.target.pid(), second.target.pid()];
    let record = TempDir::new()?;
    let mut recorder = heaptrace::attach(&pids, &[], record.path())?;
    for (waiting, folder) in [first, second].into_iter().zip(&folders) {
        waiting.go()?;
        end_idle(waiting, folder.path())?;
    }
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(record.path())?;
    compare::nothing_lost(&report)?;
    for (pid, folder) in pids.into_iter().zip(&folders) {
        let ledger = Ledger::read(&session::ledger_file(folder.path()))?;
        compare::one_site(&report, pid, ledger.process(pid)?, "site_idle", Find::Caller)?;
    }
    Ok(())
}

fn two_tracers() -> Result<()> {
    let folder = TempDir::new()?;
    let records = [TempDir::new()?, TempDir::new()?];
    let waiting = idle(folder.path())?;
    let pid = waiting.target.pid();
    let mut first = heaptrace::attach(&[pid], &[], records[0].path())?;
    let mut second = heaptrace::attach(&[pid], &[], records[1].path())?;
    waiting.go()?;
    end_idle(waiting, folder.path())?;
    heaptrace::finish(&mut first)?;
    heaptrace::finish(&mut second)?;
    let ledger = Ledger::read(&session::ledger_file(folder.path()))?;
    for record in &records {
        let report = heaptrace::report(record.path())?;
        compare::one_site(&report, pid, ledger.process(pid)?, "site_idle", Find::Caller)?;
    }
    Ok(())
}
