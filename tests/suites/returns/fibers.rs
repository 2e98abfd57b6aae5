//! Calls that begin in one thread and end in another.

use crate::same::Subject;
use anyhow::Result;
use heaptrace_tests::{
    compare::Find,
    programs::Program,
    runner::{Test, end_to_end},
    session::Start,
};

/// What the program `fibers` ends with.
const ENDS: i32 = 19;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        for (how, name) in [("ucontext", "ucontext"), ("switch", "stacks switched by hand")] {
            for threads in ["1", "2", "4"] {
                let name = format!("{}: fibers move inside malloc, {name}, {threads} threads", start.name());
                tests.push(end_to_end(name, move || fibers(start, Program::C("fibers"), &[how, threads])));
            }
        }
        tests.push(end_to_end(format!("{}: fibers, without frame pointers", start.name()), move || {
            fibers(start, Program::COmitFramePointer("fibers"), &["switch", "4"])
        }));
    }
    tests
}

fn fibers(start: Start, program: Program, arguments: &[&str]) -> Result<()> {
    Subject::new(program.compile()?, arguments, ENDS).exact(start, Find::Caller)
}
