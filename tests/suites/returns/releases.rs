//! The C libraries and allocators of other releases of Debian, which `./x setup` fetches: where an instruction is, at
//! which a call can be seen, is another question in each build.

use crate::{
    exceptions::{self, Failed},
    same::Subject,
};
use anyhow::{Context as _, Result};
use heaptrace_tests::{
    compare::Find,
    programs::{self, Program},
    runner::{Test, end_to_end},
    session::Start,
};
use std::{ffi::OsString, path::PathBuf};

const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];
const GLIBC: &str = "libc.so.6";
const MUSL: &str = "libc.so";

/// By the names that their libraries have had.
const ALLOCATORS: [&[&str]; 3] =
    [&["libjemalloc.so.2"], &["libtcmalloc_minimal.so.4"], &["libmimalloc.so.3", "libmimalloc.so.2"]];

/// What the program `plain` ends with.
const PLAIN_ENDS: i32 = 23;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        for suite in SUITES {
            let name = |what: &str| format!("{}: {what} of {suite}", start.name());
            tests.push(needing(name("glibc"), suite, &[GLIBC], move || {
                Subject::on_release(plain()?, &[], PLAIN_ENDS, suite, None)?.exact(start, Find::Caller)
            }));
            tests.push(needing(name("musl"), suite, &[MUSL], move || {
                let program = Program::MuslShared("plain").compile()?;
                let libc = programs::of_release(suite, MUSL)?.join(MUSL);
                let mut subject = Subject::new(libc, &[], PLAIN_ENDS);
                subject.line.push(program.into());
                subject.exact(start, Find::Caller)
            }));
            for names in ALLOCATORS {
                tests.push(needing(name(names[0]), suite, names, move || {
                    let library = library(suite, names)?;
                    Subject::on_release(plain()?, &[], PLAIN_ENDS, suite, Some(library))?
                        .exact(start, Find::Caller)
                }));
            }
            for (handler, names) in
                [("none", ALLOCATORS[0]), ("throws", ALLOCATORS[0]), ("none", ALLOCATORS[1])]
            {
                let what = format!("new fails, handler: {handler}, {}", names[0]);
                tests.push(needing(name(&what), suite, names, move || failing(start, suite, handler, names)));
            }
        }
    }
    tests
}

/// A test of a release that has one of `libraries`.
fn needing(
    name: String,
    suite: &'static str,
    libraries: &[&str],
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Test {
    let missing = library(suite, libraries).and_then(|_| programs::of_release(suite, GLIBC)).err();
    end_to_end(name, run).needing(missing.map(|error| error.to_string()))
}

fn library(suite: &str, names: &[&str]) -> Result<PathBuf> {
    let mut found = names.iter().map(|name| Ok(programs::of_release(suite, name)?.join(name)));
    let first = found.next().context("no names")?;
    found.fold(first, |found: Result<PathBuf>, other| found.or(other))
}

fn plain() -> Result<PathBuf> {
    programs::compile_on_glibc("plain", &programs::of_release("bullseye", GLIBC)?)
}

impl Subject {
    /// The program under a release's loader, with the release's libraries.
    fn on_release(
        program: PathBuf,
        arguments: &[&str],
        ends: i32,
        suite: &str,
        preloaded: Option<PathBuf>,
    ) -> Result<Self> {
        let glibc = programs::of_release(suite, GLIBC)?;
        let mut path = glibc.clone().into_os_string();
        for library in ["libstdc++.so.6", "libgcc_s.so.1"] {
            path.push(":");
            path.push(programs::of_release(suite, library)?);
        }
        let mut subject = Self::new(glibc.join("ld-linux-x86-64.so.2"), &[], ends);
        subject.line.extend([OsString::from("--library-path"), path]);
        if let Some(library) = preloaded {
            subject.line.extend([OsString::from("--preload"), library.into()]);
        }
        subject.line.push(program.into());
        subject.line.extend(arguments.iter().map(OsString::from));
        Ok(subject)
    }
}

/// The program is linked here, and so runs on this release and newer ones only.
fn failing(start: Start, suite: &str, handler: &str, names: &[&str]) -> Result<()> {
    let program = Program::CppLinked("failing", &[]).compile()?;
    let subject =
        Subject::on_release(program, &[handler], exceptions::ENDS, suite, Some(library(suite, names)?))?;
    exceptions::exact(start, &subject, Failed::AtMost)
}
