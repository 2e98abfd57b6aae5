//! operator new that fails in all its forms, with every kind of new-handler, in the allocators that throw by themselves
//! and in those that are called by libstdc++.

use crate::same::Subject;
use anyhow::{Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    programs::Program,
    runner::{Test, end_to_end},
    session::{Outcome, Start},
};
use tempfile::TempDir;

/// What the program `failing` ends with.
pub const ENDS: i32 = 17;

const ABORTED: i32 = 128 + libc::SIGABRT;

const HANDLERS: [&str; 4] = ["none", "throws", "jumps", "frees"];

/// How failed calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// malloc returns NULL, and libstdc++ does the rest: each is known.
    All,
    /// The allocator's own operator new tries again, or throws: at most as many as there were.
    AtMost,
}

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        for (name, libraries, failed) in [
            ("glibc", &[][..], Failed::All),
            ("glibc, static", &["-static"], Failed::All),
            ("glibc, static PIE", &["-static-pie"], Failed::All),
            ("jemalloc", &["-ljemalloc"], Failed::AtMost),
            ("jemalloc, static", &["-static", "-ljemalloc"], Failed::AtMost),
            ("tcmalloc", &["-ltcmalloc"], Failed::AtMost),
            ("tcmalloc_minimal", &["-ltcmalloc_minimal"], Failed::AtMost),
        ] {
            for handler in HANDLERS {
                tests.push(end_to_end(
                    format!("{}: new fails, {name}, handler: {handler}", start.name()),
                    move || {
                        let program = Program::CppLinked("failing", libraries).compile()?;
                        exact(start, &Subject::new(program, &[handler], ENDS), failed)
                    },
                ));
            }
        }
        for library in ["libjemalloc.so.2", "libtcmalloc.so.4", "libtcmalloc_minimal.so.4"] {
            tests.push(end_to_end(format!("{}: new fails, {library} preloaded", start.name()), move || {
                let program = Program::CppLinked("failing", &[]).compile()?;
                let subject = Subject::new(program, &["throws"], ENDS).environment("LD_PRELOAD", library);
                exact(start, &subject, Failed::AtMost)
            }));
        }
        // Compiled as C, it cannot throw: where a form has to, it aborts, traced or not.
        tests.push(end_to_end(
            format!("{}: new fails, mimalloc, forms that throw nothing", start.name()),
            move || {
                let program = Program::CppLinked("failing", &["-lmimalloc"]).compile()?;
                exact(start, &Subject::new(program, &["none", "nothrow"], ENDS), Failed::AtMost)
            },
        ));
        tests.push(end_to_end(format!("{}: new fails, mimalloc, which aborts", start.name()), move || {
            let program = Program::CppLinked("failing", &["-lmimalloc"]).compile()?;
            let folder = TempDir::new()?;
            Subject::new(program, &["none"], ABORTED).same_in(start, folder.path())?;
            Ok(())
        }));
    }
    tests
}

/// Runs the program `failing`, and holds the report against its ledger.
pub fn exact(start: Start, subject: &Subject, failed: Failed) -> Result<()> {
    let folder = TempDir::new()?;
    let mut outcome = subject.outcome_in(start, folder.path())?;
    if failed == Failed::AtMost {
        failed_at_most(&mut outcome)?;
    }
    // The handler that jumps leaves calls for good.
    let left = outcome.ledger.0.values().map(|process| process.failed).sum();
    left_at_most(&mut outcome, left)?;
    compare::exactly(&outcome, Find::AnyFrame)
}

fn failed_at_most(outcome: &mut Outcome) -> Result<()> {
    for process in &mut outcome.report.processes {
        let Some(ledger) = outcome.ledger.0.get(&process.pid) else { continue };
        let (most, found) = (ledger.failed, process.failed_count);
        ensure!(found <= most, "{found} failed calls, and there were {most}");
        process.failed_count = most;
    }
    Ok(())
}

/// Where calls are known to have been left, a report may say of as many that they never returned.
pub fn left_at_most(outcome: &mut Outcome, left: u64) -> Result<()> {
    let missed = &mut outcome.report.coverage.missed_returns;
    ensure!(*missed <= left, "{missed} calls never returned, and {left} were left");
    *missed = 0;
    Ok(())
}
