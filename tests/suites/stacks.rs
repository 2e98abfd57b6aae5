//! Stacks of programs without frame pointers, frame by frame against gdb's.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    gdb::{self, Callers, Place},
    heaptrace,
    probe::ReturnProbe,
    programs::{Program, installed, source},
    report::{Frame, Report, Site, Stacks},
    runner::{self, Test, end_to_end},
    running::Running,
    session::Waiting,
};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests: Vec<Test> = vec![
        end_to_end("a known stack is whole", known),
        end_to_end("page faults are found where memory is touched first", faults),
        end_to_end("a started program has whole stacks from its first call", first_calls),
        end_to_end("a program that runs the second time has whole stacks from its first call", second_run),
        end_to_end("two tracers: stacks are gdb's", two_tracers),
        end_to_end("under another tracer's return probes: stacks are gdb's", under_return_probes),
    ];
    for mode in ["auto", "dwarf"] {
        for (name, program, sizes, calls) in compiled() {
            tests.push(end_to_end(format!("{mode}: {name}: stacks are gdb's"), move || {
                same_as_gdb(mode, &program.compile()?, &[], sizes, calls)
            }));
        }
        tests.push(end_to_end(format!("{mode}: libraries at one address: stacks are gdb's"), move || {
            let libraries =
                [&["-DWORDS=10"], &["-DWORDS=31"]].map(|flags| Program::CLibraryWith("opened", flags));
            let libraries = [libraries[0].compile()?, libraries[1].compile()?];
            same_as_gdb(
                mode,
                &Program::COmitFramePointer("reopen").compile()?,
                &libraries,
                22_000..=22_001,
                2,
            )
        }));
        tests.push(end_to_end(format!("{mode}: Python's stacks are gdb's"), move || {
            let python = installed("python3", &["/usr/bin", "/usr/local/bin"])?;
            // The interpreter is behind links; gdb and the kernel name the file.
            let python = python.canonicalize().context("failed to resolve python3")?;
            same_as_gdb(mode, &python, &[source("python/frames.py")], 3_000_000..=3_399_999, 5)
        }));
    }
    runner::run(tests)
}

type Case = (&'static str, Program, RangeInclusive<u64>, usize);

/// What it is, the sizes of its blocks, and how many calls there are at least.
fn compiled() -> Vec<Case> {
    const PIE: &[&str] = &["-fPIE", "-pie"];
    const NO_PIE: &[&str] = &["-fno-pie", "-no-pie"];
    const STATIC: &[&str] = &["-static"];
    let frames = |flags| Program::CWith("frames", flags);
    let odd = |flags| Program::CWith("odd", flags);
    let interrupted = |flags| Program::CWith("interrupted", flags);
    vec![
        ("C, PIE", frames(PIE), 20_000..=20_007, 8),
        ("C, no PIE", frames(NO_PIE), 20_000..=20_007, 8),
        ("C, static", frames(STATIC), 20_000..=20_007, 8),
        ("unusual stacks, PIE", odd(PIE), 21_000..=21_009, 10),
        ("unusual stacks, no PIE", odd(NO_PIE), 21_000..=21_009, 10),
        ("unusual stacks, static", odd(STATIC), 21_000..=21_009, 10),
        ("interrupted frames, PIE", interrupted(PIE), 25_000..=25_008, 9),
        ("interrupted frames, static", interrupted(STATIC), 25_000..=25_008, 9),
        (
            "code unmapped in part",
            Program::CWith("hollow", &["-fno-toplevel-reorder", "-fPIE", "-pie"]),
            27_000..=27_005,
            6,
        ),
        ("C++", Program::CppOmitFramePointer("frames"), 23_000..=200_000, 24),
        ("Rust", Program::RustOmitFramePointer("frames"), 24_000..=3_000_000, 55),
    ]
}

/// The most frames that a walk takes.
const MOST_FRAMES: usize = 127;

fn same_as_gdb(
    mode: &str,
    program: &Path,
    arguments: &[PathBuf],
    sizes: RangeInclusive<u64>,
    calls: usize,
) -> Result<()> {
    let arguments: Vec<OsString> = arguments.iter().map(|path| path.clone().into_os_string()).collect();
    let expected = gdb::calls(program, &arguments, sizes)?;
    let seen: usize = expected.values().map(Vec::len).sum();
    ensure!(seen >= calls, "gdb saw {seen} of {calls} calls");
    same(&record(mode, program, &arguments)?, &expected)
}

fn same(report: &Report, expected: &BTreeMap<Callers, Vec<u64>>) -> Result<()> {
    for (Callers { function, frames: callers }, sizes) in expected {
        let site = site(report, function, sizes)?;
        let end = if callers.len() > MOST_FRAMES { "depth" } else { "complete" };
        let callers = &callers[..callers.len().min(MOST_FRAMES)];
        let frames: Vec<Place> = real_frames(site)
            .map(|frame| (frame.module.clone().unwrap_or_default(), frame.offset.unwrap_or(0)))
            .collect();
        ensure!(
            frames == callers && site.stack_end == end,
            "{function} {sizes:?}: ended {}\n  heaptrace {frames:x?}\n  gdb       {callers:x?}",
            site.stack_end
        );
    }
    Ok(())
}

/// The site that has just these blocks.
fn site<'a>(report: &'a Report, function: &str, sizes: &[u64]) -> Result<&'a Site> {
    let (count, bytes) = (sizes.len() as u64, sizes.iter().sum::<u64>());
    let same =
        |site: &&Site| site.function == function && (site.alloc_count, site.alloc_bytes) == (count, bytes);
    let mut sites = report.sites.iter().filter(same);
    sites.next().with_context(|| format!("no site has the {function} of {sizes:?} bytes"))
}

fn real_frames(site: &Site) -> impl Iterator<Item = &Frame> {
    site.stack.iter().filter(|frame| !frame.inlined)
}

/// Needs no debugger: the functions of the program itself, innermost first, are known.
fn known() -> Result<()> {
    let report = record("dwarf", &Program::COmitFramePointer("frames").compile()?, &[])?;
    let deep = |times: usize| [vec!["site_allocate"], vec!["deep"; times]].concat();
    let stacks = [
        (20_000, [deep(41), vec!["main"]].concat()),
        (20_001, [deep(3), vec!["variable", "main"]].concat()),
        (20_002, [deep(2), vec!["large", "main"]].concat()),
        (20_003, [deep(2), vec!["aligned", "main"]].concat()),
        (20_004, vec!["site_allocate", "many", "main"]),
        (20_005, vec!["site_allocate", "compare"]),
        (20_006, [deep(2), vec!["on_signal"]].concat()),
        (20_007, [deep(4), vec!["thread"]].concat()),
    ];
    for (size, expected) in stacks {
        let site = site(&report, "malloc", &[size])?;
        let names: Vec<&str> =
            real_frames(site).map(|frame| frame.symbol.as_deref().unwrap_or("?")).collect();
        ensure!(
            names.starts_with(&expected) && site.stack_end == "complete",
            "{size} bytes: ended {}\n  expected {expected:?}\n  found    {names:?}",
            site.stack_end
        );
        // Below the signal and the callback the program goes on.
        let outermost = if size == 20_007 { "thread" } else { "main" };
        ensure!(names.contains(&outermost), "{size} bytes: no {outermost}\n  found    {names:?}");
    }
    Ok(())
}

fn faults() -> Result<()> {
    // As in the program.
    const PAGES: u64 = 733;
    let folder = TempDir::new()?;
    let mut waiting = wait(&Program::COmitFramePointer("faults").compile()?, &[], folder.path())?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &["--faults", "--stack", "dwarf"], folder.path())?;
    finish(&mut waiting)?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::view(folder.path(), "faults")?;
    let names = |site: &Site| -> Vec<String> {
        real_frames(site).map(|frame| frame.symbol.clone().unwrap_or_default()).collect()
    };
    let of_program = |site: &&Site| names(site).starts_with(&["touch", "outer", "main"].map(str::to_owned));
    let touching: Vec<&Site> = report.sites.iter().filter(of_program).collect();
    ensure!(!touching.is_empty(), "touch was not seen to fault: {:?}", report.sites);
    ensure!(
        touching.iter().all(|site| site.function == "page fault" && site.stack_end == "complete"),
        "{touching:?}"
    );
    let count: u64 = touching.iter().map(|site| site.alloc_count).sum();
    let bytes: u64 = touching.iter().map(|site| site.alloc_bytes).sum();
    // The kernel may let an access fault again when it could not map the page the first time.
    ensure!(
        (PAGES..PAGES + PAGES / 10).contains(&count) && bytes == count * 4096,
        "{count} faults, {bytes} bytes"
    );
    let blocks = heaptrace::report(folder.path())?;
    ensure!(blocks.sites.iter().all(|site| site.function != "page fault"), "faults are among the blocks");
    Ok(())
}

/// Tables are prepared before a command starts, and in force before its first instruction.
fn first_calls() -> Result<()> {
    let program = Program::COmitFramePointer("family").compile()?;
    let folder = TempDir::new()?;
    let command = [program.as_os_str(), "1".as_ref(), "300".as_ref()];
    let stacks = recorded(&command, folder.path(), folder.path())?;
    whole(&stacks)
}

/// What is exec'd is known of from the run before, by tables on disk.
fn second_run() -> Result<()> {
    let program = Program::COmitFramePointer("family").compile()?;
    let shell = ["/bin/sh", "-c", "exec \"$0\" \"$@\""].map(OsStr::new);
    let command = [&shell[..], &[program.as_os_str(), "1".as_ref(), "300".as_ref()]].concat();
    let cache = TempDir::new()?;
    let [first, second] = [TempDir::new()?, TempDir::new()?];
    recorded(&command, first.path(), cache.path())?;
    whole(&recorded(&command, second.path(), cache.path())?)
}

fn recorded(command: &[&OsStr], folder: &Path, cache: &Path) -> Result<Stacks> {
    let mut heaptrace = heaptrace::command(&["record", "-o"])?;
    heaptrace
        .arg(heaptrace::record_file(folder))
        .arg("--propagate-exit")
        .args(heaptrace::COMMAND)
        .args(command);
    heaptrace.env("LEDGER_OUT", folder.join("ledger")).env("XDG_CACHE_HOME", cache);
    heaptrace::finish(&mut Running::spawn(heaptrace, "heaptrace", folder)?)?;
    Ok(heaptrace::report(folder)?.coverage.stacks)
}

fn whole(stacks: &Stacks) -> Result<()> {
    let truncated: u64 = stacks.truncated.values().sum();
    ensure!(stacks.complete > 300 && truncated == 0, "{stacks:?}");
    Ok(())
}

fn record(mode: &str, program: &Path, arguments: &[OsString]) -> Result<Report> {
    let folder = TempDir::new()?;
    let mut waiting = wait(program, arguments, folder.path())?;
    let mut recorder = heaptrace::attach(&[waiting.target.pid()], &["--stack", mode], folder.path())?;
    finish(&mut waiting)?;
    heaptrace::finish(&mut recorder)?;
    heaptrace::report(folder.path())
}

fn wait(program: &Path, arguments: &[OsString], folder: &Path) -> Result<Waiting> {
    let mut command = Command::new(program);
    command.args(arguments);
    Waiting::start(command, folder)
}

fn finish(waiting: &mut Waiting) -> Result<()> {
    waiting.go()?;
    ensure!(waiting.target.wait()?.success(), "the program failed");
    Ok(())
}

/// Another tracer's return probes have replaced the return addresses of the program's functions.
fn under_return_probes() -> Result<()> {
    const PROBED: [&str; 8] =
        ["site_allocate", "deep", "variable", "large", "aligned", "many", "compare", "on_signal"];
    let program = Program::COmitFramePointer("frames").compile()?;
    let expected = gdb::calls::<&str>(&program, &[], 20_000..=20_007)?;
    let folder = TempDir::new()?;
    let mut waiting = wait(&program, &[], folder.path())?;
    let pid = waiting.target.pid();
    let probes = PROBED.map(|function| Ok((function, ReturnProbe::new(pid, &program, function)?)));
    let probes: Vec<(&str, ReturnProbe)> = probes.into_iter().collect::<Result<_>>()?;
    let mut recorder = heaptrace::attach(&[pid], &["--stack", "dwarf"], folder.path())?;
    finish(&mut waiting)?;
    heaptrace::finish(&mut recorder)?;
    for (function, mut probe) in probes {
        ensure!(probe.count()? > 0, "the probe of {function} was never hit");
    }
    same(&heaptrace::report(folder.path())?, &expected)
}

fn two_tracers() -> Result<()> {
    let program = Program::CWith("odd", &[]).compile()?;
    let expected = gdb::calls::<&str>(&program, &[], 21_000..=21_009)?;
    let folders = [TempDir::new()?, TempDir::new()?];
    let mut waiting = wait(&program, &[], folders[0].path())?;
    let pid = waiting.target.pid();
    let attach = |folder: &TempDir| heaptrace::attach(&[pid], &["--stack", "dwarf"], folder.path());
    let mut recorders = [attach(&folders[0])?, attach(&folders[1])?];
    finish(&mut waiting)?;
    for (recorder, folder) in recorders.iter_mut().zip(&folders) {
        heaptrace::finish(recorder)?;
        same(&heaptrace::report(folder.path())?, &expected)?;
    }
    Ok(())
}
