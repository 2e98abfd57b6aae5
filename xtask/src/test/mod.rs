//! The test command: every check is run even where an earlier one failed, and the end lists them all.

mod bpf;
mod dependencies;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    repo::Repo,
    setup,
    step::{self, Outcome},
    toolchain::Toolchain,
};

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
    host_tests(repo, &mut checks)?;
    end_to_end(repo, no_bpf, all, &mut checks)?;
    Ok(checks.report())
}

fn lints(repo: &Repo, checks: &mut Checks) -> Result<()> {
    checks.run("format", repo.cargo().args(["fmt", "--all", "--check"]))?;
    checks.run("format, BPF", repo.cargo().current_dir(repo.bpf()).args(["fmt", "--check"]))?;
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

/// What became of every check, in order.
#[derive(Default)]
struct Checks {
    done: Vec<(String, Outcome)>,
    not_run: Vec<(String, Option<String>)>,
    left_out: Vec<(String, String)>,
}

impl Checks {
    fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let outcome = step::tests(name, command)?;
        self.done.push((name.to_owned(), outcome));
        Ok(())
    }

    /// `refused` says why the machine cannot run it; `None`, that the user did not want it.
    fn not_run(&mut self, name: &str, refused: Option<&str>) {
        self.not_run.push((name.to_owned(), refused.map(str::to_owned)));
    }

    /// What is no failure where it is not done, and why it is not.
    fn leave_out(&mut self, name: &str, why: &str) {
        self.left_out.push((name.to_owned(), why.to_owned()));
    }

    fn passed(&self) -> bool {
        self.done.iter().all(|(_, outcome)| outcome.ok)
            && self.not_run.iter().all(|(_, refused)| refused.is_none())
    }

    /// The last lines: the runners' own results under the name of each check, then what failed, in its words.
    fn report(&self) -> ExitCode {
        println!("\nsummary");
        for (name, outcome) in &self.done {
            let verdict = if outcome.ok { "ok" } else { "FAILED" };
            println!("  {verdict:<8}{:>6.1} s  {name}", outcome.took.as_secs_f64());
            for line in &outcome.results {
                println!("                    {line}");
            }
        }
        for (name, refused) in &self.not_run {
            println!("  NOT RUN           {name}: {}", refused.as_deref().unwrap_or("--no-bpf"));
        }
        for (name, why) in &self.left_out {
            println!("  LEFT OUT          {name}: {why}");
        }
        for (name, outcome) in &self.done {
            for failure in &outcome.failures {
                println!("\nFAILED  {name}: {}", failure.name);
                for line in &failure.said {
                    println!("    {line}");
                }
                if failure.left_out > 0 {
                    println!("    ... {} lines more, in the output of {name} above", failure.left_out);
                }
            }
        }
        if self.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(ok: bool) -> Checks {
        let mut checks = Checks::default();
        checks.run("sample", &mut Command::new(if ok { "true" } else { "false" })).unwrap();
        checks
    }

    #[test]
    fn one_failure_fails_the_whole() {
        assert!(checks(true).passed());
        assert!(!checks(false).passed());
    }

    #[test]
    fn what_the_machine_refuses_fails_and_what_the_user_leaves_out_does_not() {
        let mut left_out = checks(true);
        left_out.not_run("accuracy", None);
        assert!(left_out.passed());
        let mut refused = checks(true);
        refused.not_run("accuracy", Some("not root"));
        assert!(!refused.passed());
        let mut by_itself = checks(true);
        by_itself.leave_out("licenses", "no tool");
        assert!(by_itself.passed());
    }
}
