//! A cost that is bounded: probes that are taken away and placed again, and what is said of that. When they are there is seen in
//! the targets' code, and what is counted then is compared with the programs' ledgers.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    compare::{self, Find, figures, site_function},
    heaptrace,
    ledger::{Figures, Ledger},
    programs::Program,
    report::{Process, Report},
    runner::{self, end_to_end, unprivileged},
    running::{Running, wait_while_running},
    session::{self, Waiting},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    runner::run(vec![
        unprivileged("limits that would miss frees are usage errors", refused),
        end_to_end("budget: a loop's probes come and go, and a light process keeps its own", heavy_and_light),
        end_to_end("budget: a command and its children run as ever", command),
        end_to_end("when growing: a process is traced once it grows, and no sooner", when_growing),
        end_to_end("when growing: leaks shows what was allocated since", leaks_when_growing),
        end_to_end("what tracing costs is told", cost),
    ])
}

fn refused() -> Result<()> {
    for (arguments, words) in [
        (&["record", "--budget", "5%", "-p", "1", "--trace", "exact"][..], "frees would be missed"),
        (&["record", "--budget", "5%", "-p", "1", "--frees"], "frees would be missed"),
        (&["leaks", "--when-growing", "1M", "-p", "1", "--trace", "exact"], "frees would be missed"),
        (&["record", "--when-growing", "1M", "-a", "--trace", "growth"], "place none"),
        (&["record", "--budget", "60%", "-a"], "0.1% to 50%"),
        (&["record", "--when-growing", "fast", "-a"], "fast"),
        (&["record", "--budget", "5%", "--exact-children", "--", "true"], "--exact-children"),
    ] {
        let output = heaptrace::output(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
    Ok(())
}

/// The `held` program, whose threads allocate as fast as they can.
struct Heavy {
    waiting: Waiting,
    folder: TempDir,
}

impl Heavy {
    fn start() -> Result<Self> {
        let folder = TempDir::new()?;
        let mut command = Command::new(Program::C("held").compile()?);
        command.args(["300", "1"]).env("HELD_READY", folder.path().join("is-ready"));
        command.env("HELD_END", folder.path().join("end"));
        command.env("LEDGER_OUT", session::ledger_file(folder.path()));
        Ok(Self { waiting: Waiting::start(command, folder.path())?, folder })
    }

    fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    fn wait_for_probes(&mut self, present: bool) -> Result<()> {
        wait_for_probes(&mut self.waiting.target, present)
    }

    fn end(mut self) -> Result<()> {
        File::create(self.folder.path().join("end"))?;
        let status = self.waiting.target.wait()?;
        ensure!(status.success(), "the heavy program ended with {status}");
        Ok(())
    }
}

fn wait_for_probes(target: &mut Running, present: bool) -> Result<()> {
    let pid = target.pid();
    let what = if present { "have probes" } else { "have no probes" };
    // Its code is being changed meanwhile.
    wait_while_running(target, what, || code::changed_bytes(pid).is_ok_and(|bytes| (bytes > 0) == present))
}

fn process(report: &Report, pid: u32) -> Result<&Process> {
    report.process(pid).with_context(|| format!("process {pid} is not in the report"))
}

fn heavy_and_light() -> Result<()> {
    let folder = TempDir::new()?;
    let mut heavy = Heavy::start()?;
    let [done, end] = ["done", "end"].map(|name| folder.path().join(name));
    let mut light = Command::new(Program::C("idle").compile()?);
    light.env("IDLE_DONE", &done).env("IDLE_END", &end);
    light.env("LEDGER_OUT", session::ledger_file(folder.path()));
    let mut light = Waiting::start(light, folder.path())?;
    let pids = [heavy.pid(), light.target.pid()];
    let mut recorder = heaptrace::attach(&pids, &["--trace", "allocs", "--budget", "5%"], folder.path())?;
    heavy.waiting.go()?;
    heavy.wait_for_probes(false)?;
    heavy.wait_for_probes(true)?;
    heavy.wait_for_probes(false)?;
    ensure!(code::changed_bytes(pids[1])? > 0, "the light process lost its probes");
    light.go()?;
    wait_while_running(&mut light.target, "allocate", || done.exists())?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    for pid in pids {
        ensure!(code::changed_bytes(pid)? == 0, "probes stayed in {pid}");
    }
    heavy.end()?;
    File::create(&end)?;
    ensure!(light.target.wait()?.code() == Some(21), "the light program did not end as it does");

    let report = heaptrace::report(folder.path())?;
    compare::nothing_lost(&report)?;
    let of_heavy = process(&report, pids[0])?;
    ensure!(
        of_heavy.paused_s > 0.0
            && (0.001..0.7).contains(&of_heavy.attached_fraction)
            && of_heavy.alloc_count > 0,
        "{of_heavy:?}"
    );
    let of_light = process(&report, pids[1])?;
    ensure!(of_light.paused_s == 0.0 && of_light.attached_fraction > 0.9999, "{of_light:?}");
    let truth = Ledger::read(&session::ledger_file(folder.path()))?.process(pids[1])?.sites["site_idle"];
    let found = site(&report, pids[1], "site_idle").context("the light process's site is missing")?;
    ensure!(
        (found.alloc_bytes, found.alloc_count) == (truth.alloc_bytes, truth.alloc_count),
        "ledger {truth}, report {found}"
    );
    let text = text(folder.path())?;
    ensure!(text.contains("(--budget)") && text.contains("1 process was traced for"), "{text}");
    Ok(())
}

/// What is known of a site in all.
fn site(report: &Report, pid: u32, name: &str) -> Option<Figures> {
    let mut sites = report.sites_of(pid).filter(|site| site_function(site, Find::Caller) == Some(name));
    sites.next().map(figures)
}

fn text(folder: &Path) -> Result<String> {
    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&["report", file.to_str().context("not UTF-8")?])?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Children of one whose probes are away are there all the same.
fn command() -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::C("mixed").compile()?;
    let script = "for i in 1 2 3 4 5 6; do \"$0\" 20000 & done; wait";
    let mut command = heaptrace::command(&["record", "--budget", "1%", "--propagate-exit", "-o"])?;
    command.arg(heaptrace::record_file(folder.path())).args(["--", "sh", "-c", script]).arg(&program);
    let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
    ensure!(recorder.wait()?.success(), "the command did not end as it does");
    let report = heaptrace::report(folder.path())?;
    ensure!(report.mode == "sampled", "mode {}", report.mode);
    let children = report.processes.iter().filter(|process| process.comm == "mixed").count();
    ensure!(children == 6, "{children} children are in the report");
    for child in &report.processes {
        // On a busy machine one may end before it was looked at, which is told.
        let is_told_of =
            child.paused_s > 0.0 || child.attached_fraction > 0.0 || child.attach_gap_s.is_some();
        ensure!(child.attached_fraction <= 1.0 && is_told_of, "{child:?}");
    }
    Ok(())
}

/// The `surge` program, step by step. It grows by more than its ledger takes, where that is in huge pages.
struct Surge {
    waiting: Waiting,
    folder: TempDir,
}

impl Surge {
    fn start() -> Result<Self> {
        let folder = TempDir::new()?;
        let mut command = Command::new(Program::C("surge").compile()?);
        command.args(["160", "100", "32"]).env("LEDGER_OUT", session::ledger_file(folder.path()));
        for step in 1..=3 {
            command.env(format!("SURGE_DONE{step}"), step_file(folder.path(), "done", step));
            command.env(format!("SURGE_GO{step}"), step_file(folder.path(), "go", step));
        }
        Ok(Self { waiting: Waiting::start(command, folder.path())?, folder })
    }

    fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    fn wait_for(&mut self, step: u32) -> Result<()> {
        let done = step_file(self.folder.path(), "done", step);
        wait_while_running(&mut self.waiting.target, "take a step", || done.exists())
    }

    fn go(&self, step: u32) -> Result<()> {
        File::create(step_file(self.folder.path(), "go", step))?;
        Ok(())
    }

    /// Has it grow, and leak once its probes are there.
    fn grow_and_leak(&mut self) -> Result<()> {
        self.waiting.go()?;
        self.wait_for(1)?;
        // Each process is looked at once a second.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let changed = code::changed_places(self.pid())?;
        ensure!(changed.is_empty(), "there are probes in a process that does not grow: {changed:?}");
        self.go(1)?;
        self.wait_for(2)?;
        wait_for_probes(&mut self.waiting.target, true)?;
        // Placed, and about to count.
        std::thread::sleep(std::time::Duration::from_millis(500));
        self.go(2)?;
        self.wait_for(3)
    }

    fn leaked(&self) -> Result<Figures> {
        Ok(Ledger::read(&session::ledger_file(self.folder.path()))?.process(self.pid())?.sites["site_leak"])
    }

    fn end(mut self) -> Result<()> {
        self.go(3)?;
        let status = self.waiting.target.wait()?;
        ensure!(status.code() == Some(22), "the program ended with {status}");
        Ok(())
    }
}

fn step_file(folder: &Path, name: &str, step: u32) -> PathBuf {
    folder.join(format!("{name}{step}"))
}

fn when_growing() -> Result<()> {
    let folder = TempDir::new()?;
    let mut surge = Surge::start()?;
    let pid = surge.pid();
    let options = &["--trace", "allocs", "--when-growing", "100MiB/min"];
    let mut recorder = heaptrace::attach(&[pid], options, folder.path())?;
    surge.grow_and_leak().with_context(|| recorder.stderr())?;
    let truth = surge.leaked()?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    surge.end()?;
    let report = heaptrace::report(folder.path())?;
    compare::nothing_lost(&report)?;
    let found = site(&report, pid, "site_leak").context("the leak is not in the report")?;
    ensure!(
        (found.live_bytes, found.live_count) == (truth.live_bytes, truth.live_count),
        "ledger {truth}, report {found}"
    );
    ensure!(site(&report, pid, "site_before").is_none(), "what was before is in the report");
    let of = process(&report, pid)?;
    ensure!(of.paused_s > 0.0 && of.attached_fraction > 0.0 && of.attached_fraction < 1.0, "{of:?}");
    ensure!(of.attach_gap_s.is_none(), "{of:?}");
    let text = text(folder.path())?;
    let why = format!("surge:{pid}: traced from ");
    ensure!(text.contains(&why) && text.contains("as long as it grew"), "{why:?} is not in\n{text}");
    Ok(())
}

fn leaks_when_growing() -> Result<()> {
    let folder = TempDir::new()?;
    let mut surge = Surge::start()?;
    let pid = surge.pid().to_string();
    let arguments =
        ["leaks", "-p", &pid, "--trace", "allocs", "--when-growing", "100MiB/min", "--older-than", "0s"];
    let mut leaks = Running::spawn(heaptrace::command(&arguments)?, "heaptrace", folder.path())?;
    leaks.wait_for_line("heaptrace: tracing")?;
    surge.grow_and_leak()?;
    let truth = surge.leaked()?;
    leaks.signal(libc::SIGINT)?;
    heaptrace::finish(&mut leaks)?;
    surge.end()?;
    let text = std::fs::read_to_string(leaks.stdout_file())?;
    let last = text.rsplit("# Coverage").nth(1).context("no print")?;
    ensure!(last.contains("site_leak") && !last.contains("site_before"), "{last}");
    ensure!(last.contains(&truth.live_count.to_string()), "{truth} is not in\n{last}");
    Ok(())
}

/// Hits are one a call, or a little more: each function's first calls are looked at at the entry, too.
fn cost() -> Result<()> {
    let session = session::Session::new(Program::C("mixed"), &["20000"]).options(&["--trace", "allocs"]);
    let report = session.record(session::Start::Attach)?.report;
    let overhead = &report.coverage.overhead.as_ref().context("no overhead")?;
    let calls = report.processes.iter().map(|process| process.alloc_count).sum::<u64>();
    ensure!((calls..4 * calls).contains(&overhead.hits), "{calls} calls: {overhead:?}");
    ensure!(overhead.trap_ns > 0 && overhead.program_ns > 0, "{overhead:?}");
    let seconds = overhead.hits as f64 * (overhead.trap_ns + overhead.program_ns) as f64 / 1e9;
    ensure!((overhead.seconds / seconds - 1.0).abs() < 0.01, "{overhead:?}");
    Ok(())
}
