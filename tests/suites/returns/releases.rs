//! The C libraries and allocators of other releases of Debian, which `./x setup` fetches: where an instruction is, at
//! which a call can be seen, is another question in each build.

use crate::{
    exceptions::{self, Failed},
    same::Subject,
};
use anyhow::{Context as _, Result};
use heaptrace_tests::{
    compare::Find,
    programs,
    runner::{Test, end_to_end},
    session::Start,
};
use std::path::PathBuf;

const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];
const GLIBC: &str = "libc.so.6";
const MUSL: &str = "libc.so";

/// By the names that their libraries have had.
const ALLOCATORS: [&[&str]; 3] =
    [&["libjemalloc.so.2"], &["libtcmalloc_minimal.so.4"], &["libmimalloc.so.3", "libmimalloc.so.2"]];

/// What the program `plain` ends with.
pub const PLAIN_ENDS: i32 = 23;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        for suite in SUITES {
            let name = |what: &str| format!("{}: {what} of {suite}", start.name());
            tests.push(needing(name("glibc"), suite, &[GLIBC], move || {
                plain(start, programs::compile_on_release("plain", suite, None)?)
            }));
            tests.push(needing(name("musl"), suite, &[MUSL], move || {
                plain(start, programs::compile_on_musl("plain", suite)?)
            }));
            for names in ALLOCATORS {
                tests.push(needing(name(names[0]), suite, names, move || {
                    plain(start, programs::compile_on_release("plain", suite, Some(&library(suite, names)?))?)
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

fn plain(start: Start, program: PathBuf) -> Result<()> {
    Subject::new(program, &[], PLAIN_ENDS).exact(start, Find::Caller)
}

/// Has all names that the oldest release knows, so it runs on each.
fn failing(start: Start, suite: &str, handler: &str, names: &[&str]) -> Result<()> {
    let program = programs::compile_on_release("failing", suite, Some(&library(suite, names)?))?;
    exceptions::exact(start, &Subject::new(program, &[handler], exceptions::ENDS), Failed::AtMost)
}
