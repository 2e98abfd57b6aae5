//! Files that are not what they were when the process mapped them.

use super::target;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{self, Program},
    runner::{Test, end_to_end},
    running::wait_for_file,
    session::Waiting,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

pub fn tests() -> Vec<Test> {
    let changes: [(&str, Change); 4] = [
        ("a C library that was replaced", |private| replace(&private.libc)),
        ("a C library that was deleted", |private| Ok(fs::remove_file(&private.libc)?)),
        ("a program that was replaced", |private| replace(&private.program)),
        ("a C library whose folder is gone", |private| {
            Ok(fs::remove_dir_all(private.libc.parent().context("no folder")?)?)
        }),
    ];
    let mut tests = Vec::new();
    for (name, change) in changes {
        tests.push(end_to_end(format!("attach: {name}"), move || before(change)));
        tests.push(end_to_end(format!("attach: {name} while tracing"), move || meanwhile(change)));
    }
    tests
}

type Change = fn(&Private) -> Result<()>;

/// A program and a C library that nobody else runs with.
struct Private {
    program: PathBuf,
    libc: PathBuf,
}

impl Private {
    fn new(folder: &Path) -> Result<Self> {
        let program = folder.join("plain");
        programs::copy(&Program::C("plain").compile()?, &program)?;
        let maps = fs::read_to_string("/proc/self/maps")?;
        let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
        let system = paths.find(|path| path.ends_with("/libc.so.6")).context("no libc.so.6 is mapped")?;
        let libc = folder.join("lib/libc.so.6");
        fs::create_dir(folder.join("lib"))?;
        fs::copy(system, &libc)?;
        Ok(Self { program, libc })
    }

    fn start(&self, folder: &Path) -> Result<Waiting> {
        let mut command = target::command(&self.program, folder);
        command
            .env("LD_LIBRARY_PATH", folder.join("lib"))
            .env("PLAIN_HALF", folder.join("half"))
            .env("PLAIN_GO_ON", folder.join("go-on"));
        let waiting = Waiting::start(command, folder)?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", waiting.target.pid()))?;
        ensure!(maps.contains(self.libc.to_str().context("not UTF-8")?), "it runs with another C library");
        Ok(waiting)
    }
}

/// As a package manager does: another file under the name, here one that is no program at all.
fn replace(path: &Path) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, "an upgrade\n".repeat(100_000))?;
    Ok(fs::rename(new, path)?)
}

fn before(change: Change) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let private = Private::new(folder)?;
    let waiting = private.start(folder)?;
    change(&private)?;
    fs::write(folder.join("go-on"), "")?;
    let pid = waiting.target.pid();
    target::survives(waiting, pid, pid, folder)?;
    Ok(())
}

fn meanwhile(change: Change) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let private = Private::new(folder)?;
    let mut waiting = private.start(folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    wait_for_file(&folder.join("half"), &mut waiting.target)?;
    change(&private)?;
    fs::write(folder.join("go-on"), "")?;
    let outcome = target::ends_well(&mut waiting.target, &mut recorder, pid, pid, folder)?;
    heaptrace_tests::compare::exactly(&outcome, heaptrace_tests::compare::Find::Caller)
}
