//! Programs that do with memory what few do: heaps that end as a whole, libraries that only seem to be allocators, allocators
//! without names, programs that replace themselves from any thread, generated code whose names go with it.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    heaptrace,
    programs::Program,
    report::{Frame, Process, Report},
    runner::{self, Test, end_to_end, unprivileged},
    running::{Running, wait_while_running},
    session::{Session, Start, Waiting},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests: Vec<Test> = Vec::new();
    for how in ["destroy", "delete"] {
        tests.push(end_to_end(format!("mimalloc: mi_heap_{how}"), move || ended(MIMALLOC, &[how])));
    }
    for how in ["reset", "destroy", "purge"] {
        tests.push(end_to_end(format!("jemalloc: arena.N.{how}"), move || ended(JEMALLOC, &[how])));
    }
    for how in ["reset", "destroy", "purge"] {
        tests.push(end_to_end(format!("jemalloc: arena.N.{how} by its numbers"), move || {
            ended(JEMALLOC, &[how, "numbers"])
        }));
    }
    tests.push(end_to_end("mimalloc: copies of texts are told", copied));
    for start in Start::BOTH {
        tests.push(end_to_end(format!("{}: mimalloc's functions", start.name()), move || interface(start)));
        tests.push(end_to_end(
            format!("{}: a library whose functions call the C library's", start.name()),
            move || wrapped(start),
        ));
        for (who, times) in [("leader", "1"), ("thread", "1"), ("thread", "3")] {
            tests
                .push(end_to_end(format!("{}: exec by the {who}, {times} times", start.name()), move || {
                    replaced(start, who, times)
                }));
        }
        for how in ["left", "renamed", "removed", "dumped"] {
            tests.push(end_to_end(
                format!("{}: generated code of a process that ended, map {how}", start.name()),
                move || generated(start, how),
            ));
        }
    }
    tests.push(end_to_end("children are called by the programs that they become", called));
    tests.push(end_to_end("generated code of a process that ended long before: its map is not held", let_go));
    tests.push(end_to_end("jemalloc inside, without names: the report says so", hidden));
    tests.push(end_to_end("jemalloc inside, with names in a debug file", named_elsewhere));
    tests.push(end_to_end("jemalloc inside, with names that it keeps compressed", named_within));
    tests.push(unprivileged("jemalloc inside, without names: doctor says so", hidden_from_doctor));
    runner::run(tests)
}

const MIMALLOC: Program = Program::CLinked("ended", &["-DMI"], &["-lmimalloc"]);
const JEMALLOC: Program = Program::CLinked("ended", &[], &["-ljemalloc"]);

/// jemalloc as Rust's crates have it inside: its names are neither exported nor kept.
const HIDDEN: Program = Program::CLinked(
    "hidden",
    &["-s", "-Wl,--exclude-libs,ALL"],
    &["-l:libjemalloc.a", "-lstdc++", "-lm", "-lpthread"],
);

/// The same with its names.
const NAMED: Program = Program::CLinked(
    "hidden",
    &["-Wl,--exclude-libs,ALL", "-Wl,--build-id"],
    &["-l:libjemalloc.a", "-lstdc++", "-lm", "-lpthread"],
);

/// Records a program from its first instruction, and says how it ended and what the text says.
fn recorded(program: &Path, arguments: &[&str], folder: &Path) -> Result<(Report, String)> {
    let mut command = heaptrace::command(&["record", "-o"])?;
    command.arg(heaptrace::record_file(folder)).args(heaptrace::COMMAND).arg(program).args(arguments);
    let mut recorder = Running::spawn(command, "heaptrace", folder)?;
    heaptrace::finish(&mut recorder)?;
    Ok((heaptrace::report(folder)?, text(folder)?))
}

/// Records a program that waits until it is traced.
fn attached(command: Command, folder: &Path) -> Result<Report> {
    let mut waiting = Waiting::start(command, folder)?;
    let mut recorder = heaptrace::attach(&[waiting.target.pid()], &[], folder)?;
    waiting.go()?;
    ensure!(waiting.target.wait()?.success(), "{}", waiting.target.describe("failed"));
    heaptrace::finish(&mut recorder)?;
    heaptrace::report(folder)
}

fn text(folder: &Path) -> Result<String> {
    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&["report", file.to_str().context("UTF-8")?])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn of(report: &Report) -> Result<&Process> {
    match report.processes.as_slice() {
        [process] => Ok(process),
        others => bail!("{} processes", others.len()),
    }
}

/// Nothing is known to be live that is over, unless it is said that it may be.
fn ended(program: Program, arguments: &[&'static str]) -> Result<()> {
    let how = arguments[0];
    let folder = TempDir::new()?;
    let (report, text) = recorded(&program.compile()?, arguments, folder.path())?;
    let process = of(&report)?;
    ensure!(process.alloc_count >= 20_000, "{process:#?}");
    let ends = !matches!(how, "delete" | "purge");
    ensure!(process.heaps_ended == if ends { 20 } else { 0 }, "{process:#?}");
    let told = text.contains("20 heaps were ended with all their blocks at once");
    ensure!(told == (ends && process.live_count > 0), "{text}");
    ensure!(text.contains("no losses") != told, "{text}");
    // Whatever mi_heap_delete leaves is the program's still, and so is what a purge does not concern.
    ensure!(ends || process.live_count >= 20_000, "{process:#?}");
    Ok(())
}

/// Functions that are not told a size are counted, and not passed over in silence.
fn copied() -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::CLinked("mimalloc", &[], &["-lmimalloc"]).compile()?;
    let (report, text) = recorded(&program, &["unseen"], folder.path())?;
    let process = of(&report)?;
    ensure!(process.unseen_calls == 600, "{process:#?}");
    ensure!(text.contains("600 calls of functions that give blocks of sizes that are not known"), "{text}");
    ensure!(!text.contains("no losses"), "{text}");
    Ok(())
}

/// Each function of mimalloc's interface, against the program's own book.
fn interface(start: Start) -> Result<()> {
    let program = Program::CLinked("mimalloc", &[], &["-lmimalloc"]);
    let outcome = Session::new(program, &[]).record(start)?;
    outcome.ensure_success()?;
    compare::exactly(&outcome, Find::Caller)
}

/// Each block is counted once, by the function that gives it, and no allocator is seen where there is none.
fn wrapped(start: Start) -> Result<()> {
    let folder = TempDir::new()?;
    let library = Program::CLibraryWith("wrapping", &[]).compile()?;
    let program = Program::C("wrapped").compile()?;
    let library = library.to_str().context("UTF-8")?;
    let (report, text) = match start {
        Start::Command => recorded(&program, &[library], folder.path())?,
        Start::Attach => {
            let mut command = Command::new(&program);
            command.arg(library);
            (attached(command, folder.path())?, text(folder.path())?)
        }
    };
    let of_sizes = |least, most| {
        let sites = report.sites.iter().flat_map(|site| &site.sizes);
        let within = sites.filter(|(from, to, _)| *from <= most && to.is_none_or(|to| to >= least));
        within.map(|(_, _, blocks)| blocks).sum::<u64>()
    };
    ensure!(of_sizes(503, 503) == 100 && of_sizes(907, 907) == 100, "{:#?}", report.sites);
    let process = of(&report)?;
    ensure!((process.missed_frees, process.unknown_frees) == (0, 0), "{process:#?}");
    let kinds: Vec<&str> = process.allocators.iter().map(|allocator| allocator.kind.as_str()).collect();
    ensure!(kinds == ["glibc"], "{kinds:?}");
    ensure!(text.contains("no losses"), "{text}");
    Ok(())
}

/// Of the last image all is seen, and each call once.
fn replaced(start: Start, who: &'static str, times: &'static str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("execs").compile()?;
    let report = match start {
        Start::Command => recorded(&program, &[who, times], folder)?.0,
        Start::Attach => {
            let mut command = Command::new(&program);
            command.args([who, times]);
            attached(command, folder)?
        }
    };
    let process = of(&report)?;
    ensure!((process.live_count, process.live_bytes) == (1000, 1000 * 1013), "{process:#?}");
    let coverage = &report.coverage;
    ensure!((coverage.missed_returns, coverage.unpaired_returns) == (0, 0), "{coverage:#?}");
    ensure!(coverage.distrusted().is_empty(), "{:#?}", coverage.notes);
    Ok(())
}

/// Many children of a moment, each of which becomes another program in another way: the report calls them by that.
fn called() -> Result<()> {
    const EACH: usize = 25;
    let folder = TempDir::new()?;
    let folder = folder.path();
    let [dynamic, fixed] = [Program::C("momentary"), Program::CStatic("momentary")].map(|of| of.compile());
    let copied = |from: std::path::PathBuf, name: &str| -> Result<std::path::PathBuf> {
        let to = folder.join(name);
        fs::copy(from, &to)?;
        Ok(to)
    };
    let (dynamic, fixed) = (copied(dynamic?, "dynamic")?, copied(fixed?, "static")?);
    let script = folder.join("script");
    fs::write(&script, format!("#!{} leaf\n", fixed.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let linker = fs::canonicalize("/lib64/ld-linux-x86-64.so.2")?;
    let (dynamic, fixed, script) = (
        dynamic.to_str().context("UTF-8")?,
        fixed.to_str().context("UTF-8")?,
        script.to_str().context("UTF-8")?,
    );
    let linker = linker.to_str().context("UTF-8")?;
    let ways: [(&str, Vec<&str>, &str); 7] = [
        ("fork", vec![dynamic, "leaf"], dynamic),
        ("vfork", vec![dynamic, "leaf"], dynamic),
        ("spawn", vec![fixed, "leaf"], fixed),
        ("fork", vec![fixed, "leaf"], fixed),
        ("vfork", vec![script], fixed),
        ("spawn", vec![linker, dynamic, "leaf"], linker),
        // Replaces itself twice.
        ("fork", vec![fixed, "become", dynamic, "leaf"], dynamic),
    ];
    for (how, program, name) in ways {
        let count = EACH.to_string();
        let arguments: Vec<&str> =
            ["start", how, &count].into_iter().chain(program.iter().copied()).collect();
        let report = recorded(Path::new(dynamic), &arguments, folder)?.0;
        let children = report.processes.iter().filter(|process| process.parent_pid.is_some());
        let names: Vec<&str> = children.map(|child| child.exe.as_str()).collect();
        ensure!(names.len() == EACH && names.iter().all(|of| *of == name), "{how} {program:?}: {names:?}");
    }
    Ok(())
}

/// Its names are there, whatever became of it and of its map.
fn generated(start: Start, how: &'static str) -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::C("jitted").compile()?;
    let report = match start {
        Start::Command => {
            let mut command = heaptrace::command(&["record", "-o"])?;
            command
                .arg(heaptrace::record_file(folder.path()))
                .args(heaptrace::COMMAND)
                .arg(&program)
                .arg(how);
            command.env("JIT_DUMPS", folder.path());
            heaptrace::finish(&mut Running::spawn(command, "heaptrace", folder.path())?)?;
            heaptrace::report(folder.path())?
        }
        Start::Attach => {
            let mut command = Command::new(&program);
            command.arg(how).env("JIT_DUMPS", folder.path());
            attached(command, folder.path())?
        }
    };
    // What a JIT compiler leaves behind.
    let pid = of(&report)?.pid;
    let _ = fs::remove_file(format!("/tmp/perf-{pid}.map"));
    let named = report
        .sites
        .iter()
        .filter(|site| site.stack.iter().any(|frame| frame.symbol.as_deref() == Some("generated_allocate")));
    let blocks: u64 = named.map(|site| site.alloc_count).sum();
    ensure!(blocks == 100, "{blocks} blocks: {:#?}", report.sites);
    Ok(())
}

/// Once it has ended, its names are found while others are still traced.
fn let_go() -> Result<()> {
    let folder = TempDir::new()?;
    let mut other = Command::new("sleep");
    other.arg("600");
    let other = Running::spawn(other, "other", folder.path())?;
    let mut command = Command::new(Program::C("jitted").compile()?);
    command.arg("removed").env("JIT_DUMPS", folder.path());
    let mut waiting = Waiting::start(command, folder.path())?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid, other.pid()], &[], folder.path())?;
    let files = format!("/proc/{}/fd", recorder.pid());
    let is_held = || {
        let files = fs::read_dir(&files).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| link.to_string_lossy().contains(&format!("/perf-{pid}.map")))
    };
    waiting.go()?;
    wait_while_running(&mut recorder, "hold the map", is_held)?;
    ensure!(waiting.target.wait()?.success(), "{}", waiting.target.describe("failed"));
    wait_while_running(&mut recorder, "let go of the map", || !is_held())?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder.path())?;
    let named = |frame: &Frame| frame.symbol.as_deref() == Some("generated_allocate");
    let of_code = report.sites_of(pid).filter(|site| site.stack.iter().any(named));
    let blocks: u64 = of_code.map(|site| site.alloc_count).sum();
    ensure!(blocks == 100, "{blocks} blocks: {:#?}", report.sites);
    Ok(())
}

fn hidden() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    attached(Command::new(HIDDEN.compile()?), folder)?;
    let text = text(folder)?;
    ensure!(text.contains("has jemalloc inside") && !text.contains("no losses"), "{text}");
    Ok(())
}

/// As debuginfod's client keeps it.
fn named_elsewhere() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let built = NAMED.compile()?;
    let stripped = folder.join("hidden");
    run(Command::new("strip").arg("-o").args([&stripped, &built]))?;
    let notes = run(Command::new("readelf").arg("-n").arg(&built))?;
    let id = notes
        .split("Build ID: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .context("no build ID")?;
    let cache = folder.join("cache").join(id);
    fs::create_dir_all(&cache)?;
    run(Command::new("objcopy").arg("--only-keep-debug").args([&built, &cache.join("debuginfo")]))?;
    let mut waiting = Waiting::start(Command::new(&stripped), folder)?;
    let mut command = heaptrace::command(&["record", "-o"])?;
    command
        .arg(heaptrace::record_file(folder))
        .args(["-p", &waiting.target.pid().to_string()])
        .env("DEBUGINFOD_CACHE_PATH", folder.join("cache"));
    let mut recorder = Running::spawn(command, "heaptrace", folder)?;
    recorder.wait_for_line("heaptrace: tracing")?;
    waiting.go()?;
    ensure!(waiting.target.wait()?.success(), "{}", waiting.target.describe("failed"));
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder)?;
    let process = of(&report)?;
    ensure!(process.alloc_bytes >= 100 << 20, "{process:#?}");
    ensure!(!text(folder)?.contains("has jemalloc inside"), "{:#?}", report.coverage.notes);
    Ok(())
}

/// As Fedora and its kin build programs (gdb's manual, "MiniDebugInfo"): functions' names in a section `.gnu_debugdata`.
fn named_within() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let built = NAMED.compile()?;
    let names = run(Command::new("nm").args(["--format=posix", "--defined-only"]).arg(&built))?;
    let functions = names.lines().filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [name, "t" | "T", ..] => Some(name),
        _ => None,
    });
    let (kept, mini) = (folder.join("kept"), folder.join("mini"));
    fs::write(&kept, functions.collect::<Vec<_>>().join("\n"))?;
    let debug = folder.join("debug");
    run(Command::new("objcopy").arg("--only-keep-debug").args([&built, &debug]))?;
    let mut keep = std::ffi::OsString::from("--keep-symbols=");
    keep.push(&kept);
    run(Command::new("objcopy").args(["-S", "--remove-section=.comment"]).arg(keep).args([&debug, &mini]))?;
    run(Command::new("xz").arg(&mini))?;
    let hidden = folder.join("hidden");
    let mut section = std::ffi::OsString::from(".gnu_debugdata=");
    section.push(mini.with_extension("xz"));
    let mut add = Command::new("objcopy");
    run(add.args(["--strip-all", "--add-section"]).arg(section).args([&built, &hidden]))?;
    let sections = run(Command::new("readelf").args(["--section-headers", "--wide"]).arg(&hidden))?;
    ensure!(sections.contains(".gnu_debugdata") && !sections.contains(".symtab"), "{sections}");

    let report = attached(Command::new(&hidden), folder)?;
    let process = of(&report)?;
    // Blocks of 1 MiB, and none of another allocator's.
    ensure!((process.alloc_count, process.alloc_bytes) == (100, 100 << 20), "{process:#?}");
    let named = |name: &str| {
        report.sites.iter().any(|site| site.stack.iter().any(|frame| frame.symbol.as_deref() == Some(name)))
    };
    ensure!(named("main"), "{:#?}", report.sites);
    let text = text(folder)?;
    ensure!(text.contains("no losses") && !text.contains("has jemalloc inside"), "{text}");
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn hidden_from_doctor() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let waiting = Waiting::start(Command::new(HIDDEN.compile()?), folder)?;
    let output = heaptrace::output(&["doctor", &waiting.target.pid().to_string()])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rev().find(|line| line.starts_with("Verdict")).context("a verdict")?;
    ensure!(last.contains("has jemalloc inside") || !last.contains("can be traced"), "{text}");
    Ok(())
}
