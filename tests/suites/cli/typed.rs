//! What a person types, and what is answered where it is not what was meant.

use super::{CANNOT_TRACE, USAGE, ensure_refused, recordings, stderr, text};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code, heaptrace,
    programs::Program,
    report::Report,
    running::{PATIENCE, wait_until, wait_while_running},
    steps::Resting,
};
use std::{
    fs,
    path::Path,
    process::{Child, Command},
};
use tempfile::TempDir;

/// A process of a name that no program has.
struct Napping {
    _folder: TempDir,
    child: Child,
}

impl Napping {
    const NAME: &str = "heaptrace-naps";

    fn start() -> Result<Self> {
        let folder = TempDir::new()?;
        let program = folder.path().join(Self::NAME);
        fs::copy("/bin/sleep", &program)?;
        let napping = Self { child: Command::new(&program).arg("1000").spawn()?, _folder: folder };
        let comm = format!("/proc/{}/comm", napping.child.id());
        wait_until(PATIENCE, || Ok(fs::read_to_string(&comm)?.trim_end() == Self::NAME))?;
        Ok(napping)
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Napping {
    fn drop(&mut self) {
        // Nothing to be done about errors here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A PID that no process has.
fn nobody() -> Result<String> {
    let mut ended = Command::new("true").spawn()?;
    ended.wait()?;
    Ok(ended.id().to_string())
}

pub fn no_dashes() -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::C("family").compile()?;
    let file = heaptrace::record_file(folder.path());
    for command in [&["record", "-o", text(&file)?][..], &["stat"], &["leaks", "--older-than", "0s"]] {
        let arguments = [command, &["--no-exact-children", text(&program)?, "1", "10"]].concat();
        let output = heaptrace::output(&arguments)?;
        ensure!(output.status.success(), "{arguments:?} ended with {}: {}", output.status, stderr(&output));
        ensure!(stderr(&output).contains("the command exited with code 0"), "{}", stderr(&output));
    }
    let output = recordings::json_report(&file)?;
    let report: Report = serde_json::from_slice(&output.stdout).context("a report that is none")?;
    ensure!(report.coverage.events > 0, "nothing was recorded");
    Ok(())
}

pub fn running_in_place_of_a_command() -> Result<()> {
    let napping = Napping::start()?;
    let (pid, name) = (napping.pid(), Napping::NAME);
    let (by_pid, by_name) = (format!("-p {pid}"), format!("--comm {name}"));
    for (word, option) in [(pid.as_str(), &by_pid), (name, &by_name)] {
        let output = heaptrace::output(&[word])?;
        ensure_refused(&output, &[USAGE], &["is running", &format!("heaptrace record {option}")])?;
        for command in ["record", "stat", "leaks", "watch"] {
            let output = heaptrace::output(&[command, word])?;
            let typed = format!("heaptrace {command} {option}");
            ensure_refused(&output, &[CANNOT_TRACE], &["command not found", &typed])?;
        }
    }
    let output = heaptrace::output(&["record", &nobody()?])?;
    ensure_refused(&output, &[CANNOT_TRACE], &["command not found", "there is no process"])?;
    ensure_refused(&heaptrace::output(&["recrod"])?, &[USAGE], &["'record'"])
}

pub fn one_process() -> Result<()> {
    let napping = Napping::start()?;
    let pid = napping.pid();
    for command in ["inspect", "doctor"] {
        for words in [&[pid.as_str()][..], &["-p", &pid], &["--pid", &pid]] {
            let output = heaptrace::output(&[&[command, "--format", "json"], words].concat())?;
            let found: serde_json::Value =
                serde_json::from_slice(&output.stdout).with_context(|| stderr(&output))?;
            let of = if command == "doctor" { &found["process"] } else { &found };
            ensure!(of["pid"] == napping.child.id(), "{command} {words:?}: {of}");
        }
    }
    Ok(())
}

pub fn no_recording() -> Result<()> {
    let folder = TempDir::new()?;
    let report = |words: &[&str]| -> Result<_> {
        Ok(heaptrace::command(&[&["report"], words].concat())?.current_dir(folder.path()).output()?)
    };
    let words = ["there is no file heaptrace.data", "record first: heaptrace record ./program"];
    ensure_refused(&report(&[])?, &[USAGE], &words)?;
    let words = ["there is no file other.data", "record first: heaptrace record -o other.data ./program"];
    ensure_refused(&report(&["other.data", "-o", "out"])?, &[USAGE], &words)?;
    ensure!(fs::read_dir(folder.path())?.next().is_none(), "it wrote a file all the same");
    Ok(())
}

pub fn nobody_there() -> Result<()> {
    let pid = nobody()?;
    let words = format!("there is no process {pid}");
    for arguments in [
        &["inspect", &pid][..],
        &["top", "-p", &pid],
        &["doctor", &pid],
        &["stat", "-p", &pid],
        &["watch", "-p", &pid],
    ] {
        let output = heaptrace::output(arguments)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = format!("{printed}{}", stderr(&output));
        ensure!(output.status.code() == Some(CANNOT_TRACE), "{arguments:?}: {}", output.status);
        ensure!(said.contains(&words) && !said.contains("gone"), "{arguments:?}: {said}");
    }
    Ok(())
}

pub fn no_such_pid_in_a_recording() -> Result<()> {
    let (folder, file) = recordings::recorded()?;
    let whole = recordings::json_report(&file)?;
    let whole: Report = serde_json::from_slice(&whole.stdout).context("a report that is none")?;
    let there = whole.processes.first().context("no process")?.pid;
    for format in ["text", "json", "folded"] {
        let out = folder.path().join("out");
        let output = heaptrace::output(&[
            "report",
            text(&file)?,
            "--pid",
            "4194305",
            "--format",
            format,
            "-o",
            text(&out)?,
        ])?;
        ensure_refused(&output, &[USAGE], &["process 4194305 is not in", &format!("{there} (family)")])?;
        ensure!(!out.exists(), "it wrote a file all the same");
    }
    let output = heaptrace::output(&["report", text(&file)?, "--pid", &there.to_string()])?;
    ensure!(output.status.success(), "{}", stderr(&output));
    Ok(())
}

/// A program whose child was there before heaptrace.
fn parent_and_child(folder: &Path) -> Result<(Resting, u32)> {
    let mut resting = Resting::start("fork", folder)?;
    resting.waiting.go()?;
    let children = format!("/proc/{0}/task/{0}/children", resting.pid());
    let mut child = None;
    wait_while_running(&mut resting.waiting.target, "fork", || {
        child = fs::read_to_string(&children).ok().and_then(|pids| pids.trim().parse().ok());
        child.is_some()
    })?;
    Ok((resting, child.context("no child")?))
}

pub fn children_before() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut resting, child) = parent_and_child(folder.path())?;
    let parent = resting.pid();
    let left_out =
        format!("1 child process of {parent} ran before and is left out; to trace them, too: --tree");
    for (options, is_traced) in [(&[][..], false), (&["--no-follow"], false), (&["--tree"], true)] {
        let mut recorder = heaptrace::attach(&[parent], options, folder.path())?;
        ensure!((code::changed_bytes(child)? > 0) == is_traced, "{options:?}: the wrong ones have probes");
        let said = recorder.stderr();
        ensure!(said.contains(&left_out) == options.is_empty(), "{options:?}: {said}");
        ensure!(!options.is_empty() || said.contains("or --comm resting"), "{said}");
        if is_traced {
            fs::write(&resting.child, "")?;
            resting.wait_done()?;
        }
        recorder.signal(libc::SIGINT)?;
        heaptrace::finish(&mut recorder)?;
    }
    let report = heaptrace::report(folder.path())?;
    let process = report.process(child).context("the child is not in the report")?;
    ensure!(process.alloc_count >= 3 && process.alloc_bytes >= 3 * 70_001 + 3, "{process:?}");
    resting.end()
}

/// What it costs is said before it says that it is tracing; what was lost, and what mends that, at the end.
pub fn prices_and_losses() -> Result<()> {
    let folder = TempDir::new()?;
    let napping = Napping::start()?;
    let pid = napping.child.id();
    for (options, has_price) in
        [(&[][..], true), (&["--trace", "allocs"], false), (&["--trace", "growth"], false)]
    {
        let mut recorder = heaptrace::attach(&[pid], options, folder.path())?;
        recorder.signal(libc::SIGINT)?;
        heaptrace::finish(&mut recorder)?;
        let said = recorder.stderr();
        let (price, tracing) = (said.find("exact mode: each malloc"), said.find("heaptrace: tracing"));
        ensure!(price.is_some() == has_price && price < tracing, "{options:?}: {said}");
    }
    let file = heaptrace::record_file(folder.path());
    let mut command = heaptrace::command(&["record", "-o", text(&file)?, "--max-live", "64"])?;
    command.args(heaptrace::COMMAND).arg(Program::C("family").compile()?).args(["1", "60"]);
    let output = command.output()?;
    let said = stderr(&output);
    let last = said.lines().find(|line| line.contains("all targets have exited")).context("no last line")?;
    ensure!(output.status.success() && !said.contains("exact mode"), "{said}");
    ensure!(last.contains("lost: live_map_full") && last.contains("raise --memory, or --max-live"), "{said}");
    Ok(())
}
