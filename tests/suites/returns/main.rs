//! Programs that notice when somebody changes their return addresses, and calls that do not end by returning: each ends
//! and prints as it does untraced, and is traced exactly.

mod exceptions;
mod fibers;
mod judge;
mod jumps;
mod profilers;
mod releases;
mod same;
mod sanitizers;
mod underway;
mod verification;
mod wrappers;

use heaptrace_tests::runner::{self, Test};
use std::process::ExitCode;

fn main() -> ExitCode {
    let tests: Vec<Test> = [
        exceptions::tests(),
        fibers::tests(),
        jumps::tests(),
        sanitizers::tests(),
        profilers::tests(),
        underway::tests(),
        judge::tests(),
        releases::tests(),
        verification::tests(),
        wrappers::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    runner::run(tests)
}
