//! Targets that a tracer could harm, or that could deceive it: each is refused with the reason and left alone, or
//! traced exactly and ends as it does untraced. `docs/safety.md` says which.

mod containers;
mod damaged;
mod files;
mod flags;
mod languages;
mod patched;
mod seccomp;
mod target;
mod tracers;
mod worlds;

use heaptrace_tests::runner::{self, Test};
use std::process::ExitCode;

fn main() -> ExitCode {
    let tests: Vec<Test> = [
        seccomp::tests(),
        languages::tests(),
        worlds::tests(),
        containers::tests(),
        files::tests(),
        tracers::tests(),
        damaged::tests(),
        patched::tests(),
        flags::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    runner::run(tests)
}
