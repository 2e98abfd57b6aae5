//! The test command: every check is run even where an earlier one failed, and the end lists them all.

mod bpf;
mod checks;
mod dependencies;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use self::checks::Checks;
use crate::{layers, repo::Repo, setup, toolchain::Toolchain};

/// The package whose `[[test]]` targets trace real processes.
const END_TO_END: &str = "heaptrace-tests";

/// They start programs and measure them, so few at a time.
const THREADS: &str = "--test-threads=2";

pub fn run(repo: &Repo, no_bpf: bool, all: bool) -> Result<ExitCode> {
    let mut checks = Checks::default();
    lints(repo, &mut checks)?;
    dependencies::check(repo, all, &mut checks)?;
    // Before the golden tests, which look into them.
    for (suite, reason) in setup::releases::fetch(repo) {
        checks.not_run(&format!("tests on libraries of {suite}"), Some(&reason));
    }
    if let Err(reason) = setup::schemas::fetch(repo) {
        eprintln!("tests on schemas of npm's packages are not run: {reason:#}");
    }
    if let Err(reason) = setup::pypi::fetch(repo) {
        eprintln!("tests with packages of PyPI are not run: {reason:#}");
    }
    if let Err(reason) = setup::browser::fetch(repo) {
        eprintln!("tests in a browser are not run: {reason:#}");
    }
    host_tests(repo, &mut checks)?;
    end_to_end(repo, no_bpf, all, &mut checks)?;
    Ok(checks.report())
}

fn lints(repo: &Repo, checks: &mut Checks) -> Result<()> {
    checks.run("format", repo.cargo().args(["fmt", "--all", "--check"]))?;
    checks.run("format, BPF", repo.cargo().current_dir(repo.bpf()).args(["fmt", "--check"]))?;
    checks.judge("layers", || layers::faults(repo))?;
    let strict = ["--", "--deny", "warnings"];
    checks.run("clippy", repo.cargo().args(["clippy", "--workspace", "--all-targets"]).args(strict))?;
    let toolchain = Toolchain::find().context("failed to find the BPF toolchain")?;
    checks.run("clippy, BPF", toolchain.clippy(&repo.bpf()).args(strict))?;
    checks.run(
        "clippy, BPF of the judge",
        toolchain.clippy(&repo.bpf()).args(["--features", "judge"]).args(strict),
    )
}

/// What needs no kernel: unit and golden tests.
fn host_tests(repo: &Repo, checks: &mut Checks) -> Result<()> {
    let mut cargo = repo.cargo();
    cargo.args(["test", "--no-fail-fast", "--workspace", "--exclude", END_TO_END]);
    cargo.args(["--lib", "--bins", "--tests"]);
    checks.run("unit and golden tests", &mut cargo)?;
    let mut cargo = repo.cargo();
    cargo.args(["test", "--package", END_TO_END, "--lib"]);
    checks.run("unit tests of the end-to-end harness", &mut cargo)
}

fn end_to_end(repo: &Repo, no_bpf: bool, all: bool, checks: &mut Checks) -> Result<()> {
    let targets: Vec<_> =
        repo.targets("test")?.into_iter().filter(|target| target.package == END_TO_END).collect();
    if targets.is_empty() {
        checks.not_run("end-to-end tests", Some("there is none"));
    }
    let refused = if no_bpf { None } else { bpf::refusal() };
    if no_bpf || refused.is_some() {
        for target in targets {
            checks.not_run(&target.name, refused.as_deref());
        }
        return Ok(());
    }
    // The tests run the binary that users run.
    let mut build = repo.cargo();
    build.args(["build", "--release", "--package", "heaptrace"]);
    checks.run("release build", &mut build)?;
    for target in targets {
        let mut cargo = repo.cargo();
        cargo.args(["test", "--package", END_TO_END, "--test", &target.name, "--", THREADS]);
        cargo.env("HEAPTRACE_BIN", repo.target().join("release/heaptrace"));
        if all {
            cargo.env("HEAPTRACE_TEST_ALL", "1");
        }
        checks.run(&target.name, &mut cargo)?;
    }
    Ok(())
}
