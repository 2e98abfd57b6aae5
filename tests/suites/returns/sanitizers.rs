//! Programs that are compiled with sanitizers, whose reports have stacks from inside malloc: each report and each verdict
//! is that of the untraced program.

use crate::same::Subject;
use anyhow::Result;
use heaptrace_tests::{
    compare::{self, Find},
    programs::Program,
    runner::{Test, end_to_end},
    session::Start,
};
use std::fs;
use tempfile::TempDir;

const ADDRESS: &[&str] = &["-O1", "-fsanitize=address"];
const LEAK: &[&str] = &["-O1", "-fsanitize=leak"];
const THREAD: &[&str] = &["-O1", "-fsanitize=thread"];
const UNDEFINED: &[&str] = &["-O1", "-fsanitize=undefined"];

/// What the runtimes end a program with, by default.
const ENDS_ADDRESS: i32 = 1;
const ENDS_LEAK: i32 = 23;
const ENDS_THREAD: i32 = 66;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        let mut case =
            |name: &str, flags: &'static [&'static str], what: &'static str, suppressed: bool, ends: i32| {
                tests.push(end_to_end(format!("{}: {name}", start.name()), move || {
                    sanitized(start, flags, what, suppressed, ends)
                }));
            };
        case("AddressSanitizer, nothing to report", ADDRESS, "clean", false, 0);
        case("AddressSanitizer, a leak", ADDRESS, "leak", false, ENDS_ADDRESS);
        case("AddressSanitizer, a leak that is suppressed by its stack", ADDRESS, "leak", true, 0);
        case("AddressSanitizer, a block used after its free", ADDRESS, "freed", false, ENDS_ADDRESS);
        case("LeakSanitizer, nothing to report", LEAK, "clean", false, 0);
        case("LeakSanitizer, a leak", LEAK, "leak", false, ENDS_LEAK);
        case("LeakSanitizer, a leak that is suppressed by its stack", LEAK, "leak", true, 0);
        case("ThreadSanitizer, nothing to report", THREAD, "clean", false, 0);
        case("ThreadSanitizer, a race for a block", THREAD, "race", false, ENDS_THREAD);
        case("ThreadSanitizer, a block used after its free", THREAD, "freed", false, ENDS_THREAD);
        case("UndefinedBehaviorSanitizer, a sum that overflows", UNDEFINED, "undefined", false, 0);
    }
    tests
}

fn sanitized(
    start: Start,
    flags: &'static [&'static str],
    what: &str,
    suppressed: bool,
    ends: i32,
) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::CLinked("sanitized", flags, &[]).compile()?;
    let mut subject = Subject::new(program, &[what], ends).environment("UBSAN_OPTIONS", "print_stacktrace=1");
    if flags == THREAD {
        // It cannot start where the kernel spreads mappings too far.
        subject = subject.fixed_addresses();
    }
    if suppressed {
        let file = folder.join("suppressions");
        fs::write(&file, "leak:site_known_leak\n")?;
        let options = format!("suppressions={}:print_suppressions=0", file.display());
        subject = subject.environment("LSAN_OPTIONS", options);
    }
    let outcome = subject.outcome_in(start, folder)?;
    compare::exactly(&outcome, Find::Caller)
}
