//! Preloaded functions that only pass their calls on, by a jump at their end: they cannot be probed, and what they pass on is
//! seen in the C library.

use crate::{releases::PLAIN_ENDS, same::Subject};
use heaptrace_tests::{
    compare::Find,
    programs::Program,
    runner::{Test, end_to_end},
    session::Start,
};

pub fn tests() -> Vec<Test> {
    let kinds: [(&str, &[&str]); 3] = [
        ("jump into the C library", &[]),
        ("jump through pointers", &["-DPOINTERS"]),
        ("are malloc alone", &["-DONE"]),
    ];
    let both = Start::BOTH.into_iter();
    both.flat_map(|start| {
        kinds.map(|(name, flags)| {
            end_to_end(format!("{}: preloaded functions that {name}", start.name()), move || {
                let library = Program::CLibraryWith("passing", flags).compile()?;
                let subject = Subject::new(Program::C("plain").compile()?, &[], PLAIN_ENDS);
                subject.environment("LD_PRELOAD", library).exact(start, Find::Caller)
            })
        })
    })
    .collect()
}
