//! Calls that are left by longjmp: those after them are exact, from whatever depth they come. And calls that end in
//! another function of the family.

use crate::{exceptions::left_at_most, same::Subject};
use anyhow::Result;
use heaptrace_tests::{
    compare::{self, Find},
    programs::Program,
    runner::{Test, end_to_end},
    session::Start,
};
use tempfile::TempDir;

/// What the programs `jumps` and `resized` end with.
const ENDS: i32 = 18;

/// As many as the program leaves at most.
const LEFT: u64 = 30_000;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        for (what, name) in [
            ("malloc", "malloc is left by longjmp"),
            ("calloc", "calloc is left by longjmp"),
            ("realloc", "realloc is left by longjmp, and the old block stays"),
            ("posix_memalign", "posix_memalign is left by longjmp"),
            ("free", "free is left by longjmp"),
            ("handler", "a signal handler in malloc allocates, and returns or jumps"),
            ("mixed", "all of them are left, in turn"),
        ] {
            tests.push(end_to_end(format!("{}: {name}", start.name()), move || jumps(start, what)));
        }
        tests.push(end_to_end(
            format!("{}: realloc of no size ends in a jump to free", start.name()),
            move || Subject::new(Program::C("resized").compile()?, &[], ENDS).exact(start, Find::Caller),
        ));
    }
    tests
}

fn jumps(start: Start, what: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let subject = Subject::new(Program::C("jumps").compile()?, &[what], ENDS);
    let mut outcome = subject.outcome_in(start, folder.path())?;
    left_at_most(&mut outcome, LEFT)?;
    compare::exactly(&outcome, Find::Caller)
}
