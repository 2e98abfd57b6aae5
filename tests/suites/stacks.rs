//! Stacks of programs without frame pointers, frame by frame against gdb's.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    gdb::{self, Place},
    heaptrace,
    programs::{Program, installed, source},
    report::Report,
    runner::{self, Test, end_to_end},
    session::Waiting,
};
use std::{
    ffi::OsString,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests: Vec<Test> = Vec::new();
    for mode in ["auto", "dwarf"] {
        tests.push(end_to_end(format!("{mode}: a C program's stacks are gdb's"), move || {
            let program = Program::COmitFramePointer("frames").compile()?;
            same_as_gdb(mode, &program, &[], 20_000..=20_007, 8)
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

fn same_as_gdb(
    mode: &str,
    program: &Path,
    arguments: &[PathBuf],
    sizes: RangeInclusive<u64>,
    calls: usize,
) -> Result<()> {
    let arguments: Vec<OsString> = arguments.iter().map(|path| path.clone().into_os_string()).collect();
    let expected = gdb::callers_of_malloc(program, &arguments, sizes)?;
    ensure!(expected.len() >= calls, "gdb saw {} of {calls} calls", expected.len());
    let report = record(mode, program, &arguments)?;
    for (size, callers) in expected {
        let site = report
            .sites
            .iter()
            .find(|site| site.function == "malloc" && site.alloc_count == 1 && site.alloc_bytes == size)
            .with_context(|| format!("no site has the block of {size} bytes"))?;
        ensure!(site.stack_end == "complete", "the stack of {size} bytes ended: {}", site.stack_end);
        let frames = site.stack.iter().filter(|frame| !frame.inlined);
        let frames: Vec<Place> = frames
            .map(|frame| (frame.module.clone().unwrap_or_default(), frame.offset.unwrap_or(0)))
            .collect();
        ensure!(frames == callers, "{size} bytes\n  heaptrace {frames:x?}\n  gdb       {callers:x?}");
    }
    Ok(())
}

fn record(mode: &str, program: &Path, arguments: &[OsString]) -> Result<Report> {
    let folder = TempDir::new()?;
    let mut command = Command::new(program);
    command.args(arguments);
    let mut waiting = Waiting::start(command, folder.path())?;
    let mut recorder = heaptrace::attach(&[waiting.target.pid()], &["--stack", mode], folder.path())?;
    waiting.go()?;
    ensure!(waiting.target.wait()?.success(), "the program failed");
    heaptrace::finish(&mut recorder)?;
    heaptrace::report(folder.path())
}
