//! Turns a list of functions into a test binary that lists what it cannot run, with the reason.

use crate::bpf;
use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use std::{env, process::ExitCode};

/// Two cores are what the tests are sized for.
const DEFAULT_THREADS: usize = 2;

/// One test of a suite.
pub struct Test {
    name: String,
    needs_bpf: bool,
    guest: bool,
    slow: bool,
    /// What is missing on this machine.
    missing: Option<String>,
    run: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// A test that traces something.
pub fn end_to_end(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Test {
    Test { name: name.into(), needs_bpf: true, guest: false, slow: false, missing: None, run: Box::new(run) }
}

/// A test that concerns every process of the machine, or the machine's kernel: `cargo xtask vmtest` runs it.
pub fn in_guest(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Test {
    Test { guest: true, ..end_to_end(name, run) }
}

/// A test that needs no privilege.
pub fn unprivileged(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Test {
    Test { name: name.into(), needs_bpf: false, guest: false, slow: false, missing: None, run: Box::new(run) }
}

impl Test {
    /// Not run, and listed so, where `missing` says what this machine lacks for it.
    #[must_use]
    pub fn needing(self, missing: Option<String>) -> Self {
        Self { missing, ..self }
    }

    /// One that takes minutes or gigabytes: `./x test --all` runs it.
    #[must_use]
    pub fn slow(self) -> Self {
        Self { slow: true, ..self }
    }
}

/// Signals that are ignored stay so in what is started (nohup, a shell's `&`): what tests send is to arrive.
fn heed_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: the default handler is nobody's code.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn all() -> bool {
    env::var_os("HEAPTRACE_TEST_ALL").is_some()
}

/// How often to repeat what may fail at any moment: `times` with `./x test --all`, else `usually`.
#[must_use]
pub fn of_all(times: u32, usually: u32) -> u32 {
    if all() { times } else { usually }
}

/// Runs `tests` as the command line says; where BPF cannot be used, the end-to-end tests are ignored aloud.
pub fn run(tests: Vec<Test>) -> ExitCode {
    heed_signals();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(DEFAULT_THREADS);
    let reason = bpf::unavailable();
    let blocked = tests.iter().filter(|test| test.needs_bpf && reason.is_some()).count();
    let host = env::var_os("HEAPTRACE_TEST_GUEST").is_none().then(|| "only in a guest".to_owned());
    let spare = (!all()).then(|| "only with ./x test --all".to_owned());
    let why_not = |test: &Test| {
        let privilege = reason.clone().filter(|_| test.needs_bpf);
        let slow = spare.clone().filter(|_| test.slow);
        host.clone().filter(|_| test.guest).or(privilege).or(slow).or_else(|| test.missing.clone())
    };
    let trials = tests.into_iter().map(|test| (why_not(&test), test)).map(trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(reason) = reason.filter(|_| blocked > 0 && !arguments.list) {
        println!("NOT RUN: {blocked} end-to-end tests: {reason}");
    }
    conclusion.exit_code()
}

fn trial((reason, test): (Option<String>, Test)) -> Trial {
    let Test { name, run, .. } = test;
    match reason {
        // The kind is printed beside the name; the body is for those who run ignored tests all the same.
        Some(reason) => Trial::test(name, {
            let failure = format!("cannot run: {reason}");
            move || Err(Failed::from(failure))
        })
        .with_kind(reason)
        .with_ignored_flag(true),
        None => Trial::test(name, move || run().map_err(|error| Failed::from(chain(&error)))),
    }
}

/// The error and its causes, one a line; no backtrace, which leads nowhere in tests.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  because ")
}
