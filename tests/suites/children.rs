//! Who is counted, from when to when: children over fork, vfork, posix_spawn and exec, and how tracing begins and ends
//! while a program is at work.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find, Slack},
    heaptrace,
    programs::{Program, installed, source},
    report::{Process, Report},
    runner::{self, Test, end_to_end},
    running::Running,
    session::{self, Session, Start, Waiting},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// How often a process is let go of.
const ROUNDS: usize = 20;

fn main() -> ExitCode {
    let mut tests: Vec<Test> = Vec::new();
    for mode in ["fork", "fork-exec", "vfork-exec", "spawn"] {
        tests.push(end_to_end(format!("command: {mode} is exact unasked"), move || exact("process", mode)));
    }
    for mode in ["fork", "vfork", "spawn"] {
        tests.push(end_to_end(format!("command: {mode} and exec miss no first call"), move || {
            exact("paced", mode)
        }));
        tests.push(end_to_end(format!("attach: the gap of {mode} and exec is told"), move || gap(mode)));
    }
    tests.push(end_to_end("command: what a vfork's child does is its parent's", || exact("shared", "")));
    for (start, name) in [(Start::Command, "command"), (Start::Attach, "attach")] {
        tests
            .push(end_to_end(format!("{name}: a child with another allocator than its parent"), move || {
                another_allocator(start)
            }));
    }
    tests.push(end_to_end("command: a script without #! is a shell's from its first call", script));
    tests.push(end_to_end("command: --no-exact-children spares the others", spared));
    tests.push(end_to_end("command: tar and its compressor are exact, again and again", tar));
    tests.push(end_to_end("let go of at work, again and again, no free is missed", let_go_of_threads));
    tests.push(end_to_end(
        "let go of at work, again and again, no free of Python's is missed",
        let_go_of_python,
    ));
    for (name, script, options) in [
        ("one after the other", IN_A_ROW, &[][..]),
        ("one after the other, followed late", IN_A_ROW, &["--no-exact-children"]),
        ("in a tree, as of make", IN_A_TREE, &[]),
        ("in a tree, followed late", IN_A_TREE, &["--no-exact-children"]),
    ] {
        tests.push(end_to_end(format!("the footer of 1,000 commands {name}"), move || {
            short_footer(script, options)
        }));
    }
    for threads in [1, 2, 8, 64] {
        tests.push(end_to_end(format!("{threads} threads wait while the first one ends all"), move || {
            first_thread(threads)
        }));
    }
    runner::run(tests)
}

fn text(folder: &Path) -> Result<String> {
    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&["report", file.to_str().context("UTF-8")?])?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn exact(program: &'static str, mode: &'static str) -> Result<()> {
    let folder = TempDir::new()?;
    let outcome = Session::new(Program::C(program), &[mode])
        .exact_by_default()
        .record_in(Start::Command, folder.path())?;
    compare::exactly(&outcome, Find::Caller)?;
    for process in &outcome.report.processes {
        ensure!(process.attach_gap_s.is_none() && process.attached_fraction >= 1.0, "{process:?}");
    }
    ensure!(outcome.report.coverage.attached_fraction >= 1.0, "{:?}", outcome.report.coverage);
    let text = text(folder.path())?;
    ensure!(text.contains("#   no losses\n"), "{text}");
    ensure!(
        text.contains("took a trap at each of its calls meanwhile"),
        "no word of what others paid\n{text}"
    );
    let said = fs::read_to_string(folder.path().join("heaptrace.stderr"))?;
    ensure!(said.contains("takes a trap at each of its calls"), "no word of what others pay\n{said}");
    // What is shared, or gone by exec, is not inherited.
    ensure!(text.contains("inherited") == (mode == "fork" && program == "process"), "{text}");
    Ok(())
}

/// In the parent, of the C library only what its own allocator lacks is called; in the child, which maps the same file, all.
fn another_allocator(start: Start) -> Result<()> {
    let program = Program::CLinked("process", &[], &["-ltcmalloc_minimal"]);
    let child = Program::C("process").compile()?;
    let arguments = ["run", child.to_str().context("UTF-8")?];
    let folder = TempDir::new()?;
    let session = Session::new(program, &arguments);
    if start == Start::Attach {
        let report = session.record_in(start, folder.path())?.report;
        ensure!(report.coverage.untraceable.is_empty(), "{:?}", report.coverage);
        return Ok(());
    }
    let outcome = session.exact_by_default().record_in(start, folder.path())?;
    // Nobody could know before its exec: it is whole, or the report says that it is not.
    let child = self::child(&outcome.report)?;
    if child.attached_fraction >= 1.0 {
        return compare::exactly(&outcome, Find::Caller);
    }
    let text = text(folder.path())?;
    ensure!(!text.contains("no losses") && text.contains("were not seen"), "{text}");
    ensure!(outcome.report.coverage.untraceable.is_empty(), "{:?}", outcome.report.coverage);
    Ok(())
}

fn child(report: &Report) -> Result<&Process> {
    report.processes.iter().find(|process| process.parent_pid.is_some()).context("there is no child")
}

fn gap(mode: &'static str) -> Result<()> {
    /// Of `paced`: no two calls are closer.
    const PACE_S: f64 = 50e-6;
    let folder = TempDir::new()?;
    let outcome = Session::new(Program::C("paced"), &[mode]).record_in(Start::Attach, folder.path())?;
    outcome.ensure_success()?;
    let report = &outcome.report;
    compare::nothing_lost(report)?;
    let child = child(report)?;
    let made = outcome.ledger.process(child.pid)?.sites["site_paced"].alloc_count;
    let missing = made.checked_sub(child.alloc_count).context("more than there were")?;
    let gap = child.attach_gap_s.context("no gap is told")?;
    ensure!(gap >= missing.saturating_sub(1) as f64 * PACE_S, "{missing} calls are missing, in {gap} s?");
    ensure!(child.attached_fraction < 1.0 && child.attached_fraction >= 0.0, "{child:?}");
    // It spends 100 ms at least after its first call.
    let life = gap / (1.0 - child.attached_fraction);
    ensure!(life > gap.max(0.1), "a life of {life} s, with a gap of {gap} s");
    ensure!(child.inherited_count == 0 && child.inherited_free_count == 0, "{child:?}");
    let whole = report.coverage.attached_fraction;
    ensure!(child.attached_fraction < whole && whole < 1.0, "{whole} of all lives");
    let text = text(folder.path())?;
    ensure!(!text.contains("no losses"), "{text}");
    ensure!(
        text.contains("1 child was followed; its probes came ") && text.contains(" ms after the fork: exe\n"),
        "{text}"
    );
    ensure!(!text.contains("before tracing") && !text.contains("inherited"), "{text}");
    Ok(())
}

/// Where others are spared, the child's gap is told as that of an attached process's child is.
fn spared() -> Result<()> {
    let folder = TempDir::new()?;
    let outcome = Session::new(Program::C("paced"), &["spawn"]).record_in(Start::Command, folder.path())?;
    ensure!(child(&outcome.report)?.attach_gap_s.is_some(), "no gap is told");
    let text = text(folder.path())?;
    ensure!(!text.contains("no losses") && text.contains("1 child was followed; its probes came "), "{text}");
    ensure!(!text.contains("a trap at each"), "{text}");
    Ok(())
}

/// A thousand short commands, one after the other.
const IN_A_ROW: &str = "i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done";

/// The same many under shells of shells, four at a time.
const IN_A_TREE: &str = "for a in 1 2 3 4; do sh -c '
    b=0; while [ $b -lt 25 ]; do sh -c \"c=0; while [ \\$c -lt 9 ]; do /bin/true; c=\\$((c+1)); done; true\"; b=$((b+1)); done
    ' & done; wait";

/// However many processes there are, people read a line for each kind of fact; each process is told of on demand.
fn short_footer(script: &str, options: &[&str]) -> Result<()> {
    const LINES: usize = 20;
    let folder = TempDir::new()?;
    let folder = folder.path();
    let file = heaptrace::record_file(folder);
    let file = file.to_str().context("UTF-8")?;
    let mut command = heaptrace::command(&["record", "-o", file])?;
    command.args(options).args(["--", "sh", "-c", script]);
    heaptrace::finish(&mut Running::spawn(command, "heaptrace", folder)?)?;
    let report = heaptrace::report(folder)?;
    ensure!(report.processes.len() >= 1_000, "{} processes", report.processes.len());
    let late = report.processes.iter().filter(|process| process.attach_gap_s.is_some()).count();
    let footer = |options: &[&str]| -> Result<Vec<String>> {
        let output = heaptrace::output(&[&["report", file], options].concat())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, footer) = text.split_once("# Coverage:\n").context("no footer")?;
        Ok(footer.lines().map(str::to_owned).collect())
    };
    let lines = footer(&[])?;
    println!("\n{}", lines.join("\n"));
    ensure!((2..=LINES).contains(&lines.len()), "{} lines:\n{}", lines.len(), lines.join("\n"));
    let said = |part: &str| lines.iter().any(|line| line.contains(part));
    // Those that ended first, if not all did.
    let are_said = said("followed; ") || said("none of their probes before");
    ensure!(are_said == (late > 0), "{late} were followed late:\n{}", lines.join("\n"));
    ensure!(!said("no losses") || late == 0 && !said("not seen"), "{}", lines.join("\n"));
    let each = footer(&["--verbose"])?;
    ensure!(each.len() >= lines.len().max(late.min(1_000)), "{} lines of {late} processes", each.len());
    Ok(())
}

/// As it is when the shell is named: each call of its own, and of what it execs.
fn script() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    session::copy_libc(folder)?;
    let program = Program::C("ending").compile()?;
    fs::write(folder.join("script"), format!("echo $0 $2\nexec {} \"$1\"\n", program.display()))?;
    fs::set_permissions(folder.join("script"), fs::Permissions::from_mode(0o755))?;
    let recorded = |before: &[&str]| -> Result<_> {
        let mut command = heaptrace::command(&["record", "-o"])?;
        command.arg(heaptrace::record_file(folder)).arg("--").args(before);
        command.args(["./script", "exit", "spoken"]).current_dir(folder).envs(session::own_libraries(folder));
        let mut recorder = Running::spawn(command, "heaptrace", folder)?;
        heaptrace::finish(&mut recorder)?;
        ensure!(recorder.stdout().contains("./script spoken\n"), "{}", recorder.describe("said else"));
        let text = text(folder)?;
        ensure!(text.contains("#   no losses\n"), "{text}");
        let report = heaptrace::report(folder)?;
        ensure!(report.processes.iter().all(|process| process.attach_gap_s.is_none()), "{report:?}");
        let image = |process: &Process| (process.comm.clone(), process.alloc_count, process.alloc_bytes);
        Ok(report.processes.iter().map(image).collect::<Vec<_>>())
    };
    let (by_itself, by_shell) = (recorded(&[])?, recorded(&["/bin/sh"])?);
    ensure!(by_itself == by_shell, "{by_itself:?}, and {by_shell:?} where the shell was named");
    ensure!(by_itself.iter().any(|image| image.1 > 0), "{by_itself:?}");
    Ok(())
}

fn tar() -> Result<()> {
    const TIMES: usize = 10;
    let tar = installed("tar", &["/usr/bin", "/bin"])?;
    installed("xz", &["/usr/bin", "/bin"])?;
    let folder = TempDir::new()?;
    let folder = folder.path();
    session::copy_libc(folder)?;
    fs::write(folder.join("blob"), vec![7_u8; 100_000])?;
    let mut found = Vec::new();
    for _ in 0..TIMES {
        let mut command = heaptrace::command(&["record", "-o"])?;
        command.arg(heaptrace::record_file(folder)).arg("--").arg(&tar).args(["-cJf", "blob.tar.xz", "blob"]);
        command.current_dir(folder).envs(session::own_libraries(folder));
        heaptrace::finish(&mut Running::spawn(command, "heaptrace", folder)?)?;
        let report = heaptrace::report(folder)?;
        let xz = report.processes.iter().find(|process| process.comm == "xz").context("xz is not there")?;
        ensure!(xz.attach_gap_s.is_none(), "{xz:?}");
        found.push((xz.alloc_count, xz.alloc_bytes));
        let text = text(folder)?;
        ensure!(text.contains("#   no losses\n"), "{text}");
    }
    // The encoder's dictionary alone is 8 MiB.
    let (count, bytes) = found[0];
    ensure!(count > 100 && bytes > 8 << 20, "{found:?}");
    ensure!(found.iter().all(|of| *of == found[0]), "{found:?}");
    Ok(())
}

/// Attaches to a process at work and lets go of it, [`ROUNDS`] times; it never holds more than `most` blocks at `sites`.
fn let_go(pid: u32, most: u64, counts: impl Fn(&heaptrace_tests::report::Site) -> bool) -> Result<()> {
    let mut telling = 0;
    for round in 0..ROUNDS {
        let folder = TempDir::new()?;
        let folder = folder.path();
        let mut recorder = heaptrace::attach(&[pid], &["-d", "150ms"], folder)?;
        heaptrace::finish(&mut recorder)?;
        let report = heaptrace::report(folder)?;
        compare::nothing_lost(&report)?;
        let process = report.process(pid).context("it is not in the report")?;
        ensure!(process.missed_frees == 0, "round {round}: {process:?}");
        let live: u64 = report.sites_of(pid).filter(|site| counts(site)).map(|site| site.live_count).sum();
        let seen: u64 = report.sites_of(pid).filter(|site| counts(site)).map(|site| site.alloc_count).sum();
        // A busy machine may have kept it from working.
        telling += usize::from(seen > most);
        ensure!(live <= most, "round {round}: {live} blocks are live of {most}, frees were missed");
        ensure!(process.attached_fraction >= 1.0, "{process:?}");
    }
    ensure!(telling > ROUNDS / 2, "only {telling} rounds saw more than {most} calls");
    Ok(())
}

fn let_go_of_threads() -> Result<()> {
    const THREADS: u64 = 2;
    // Each holds 64, and is in one call.
    const MOST: u64 = THREADS * (64 + 1);
    let folder = TempDir::new()?;
    let end = folder.path().join("end");
    let mut command = Command::new(Program::C("steady").compile()?);
    command.arg(THREADS.to_string()).env("STEADY_END", &end);
    let mut waiting = Waiting::start(command, folder.path())?;
    waiting.go()?;
    let outcome = let_go(waiting.target.pid(), MOST, |_| true);
    fs::write(&end, "")?;
    let status = waiting.target.wait()?;
    outcome?;
    ensure!(status.code() == Some(21), "the target ended with {status}");
    Ok(())
}

fn let_go_of_python() -> Result<()> {
    const HELD: u64 = 500;
    let folder = TempDir::new()?;
    let mut command = Command::new(installed("python3", &["/usr/bin"])?);
    command.arg(source("python/cache.py")).arg(HELD.to_string());
    let mut python = Running::spawn(command, "python", folder.path())?;
    thread::sleep(Duration::from_millis(500));
    // bytes(n) is by calloc; one more than is held while a slot is replaced.
    let outcome = let_go(python.pid(), HELD + 1, |site| site.function == "calloc");
    python.signal(libc::SIGKILL)?;
    python.wait()?;
    outcome
}

fn first_thread(threads: u32) -> Result<()> {
    for _ in 0..2 {
        let threads = threads.to_string();
        for start in Start::BOTH {
            let folder = TempDir::new()?;
            let outcome = Session::new(Program::C("waiters"), &[&threads]).record_in(start, folder.path())?;
            // A thread that is killed while it begins has a call under way.
            let slack = Slack { attached_late: true, unledgered_site: None };
            compare::with_slack(&outcome, Find::Caller, slack)?;
            let text = text(folder.path())?;
            ensure!(!text.contains("first thread"), "{text}");
            ensure!(text.contains("#   no losses\n"), "{text}");
        }
    }
    Ok(())
}
