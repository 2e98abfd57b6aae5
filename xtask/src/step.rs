//! Runs one command as a visible step: its name, the command itself, what it prints, and how long it took.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Write},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::failures::{Failure, Failures};

/// What a step left behind.
pub struct Outcome {
    pub ok: bool,
    pub took: Duration,
    /// The test runners' own closing lines.
    pub results: Vec<String>,
    pub failures: Vec<Failure>,
}

/// Runs a step that has to succeed.
pub fn must(name: &str, command: &mut Command) -> Result<()> {
    announce(name, command);
    let start = Instant::now();
    let status = command.status().with_context(|| format!("failed to start {}", shown(command)))?;
    finish(name, status.success(), start.elapsed());
    check(name, status)
}

/// Runs a step whose failure is reported later, and keeps the result lines of the test runners in it.
pub fn tests(name: &str, command: &mut Command) -> Result<Outcome> {
    tests_to(&mut io::stdout(), name, command)
}

/// As [`tests`], with what the command prints passed on to `sink`.
fn tests_to(sink: &mut dyn Write, name: &str, command: &mut Command) -> Result<Outcome> {
    announce(name, command);
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", shown(command)))?;
    let (mut results, mut failures) = (Vec::new(), Failures::default());
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).split(b'\n') {
            let line = line.with_context(|| format!("failed to read the output of {name}"))?;
            let line = String::from_utf8_lossy(&line);
            // A closed standard output must not stop the tests.
            let _ = writeln!(sink, "{line}");
            failures.line(&line);
            if line.starts_with("test result:") {
                results.push(line.into_owned());
            }
        }
    }
    let status = child.wait().with_context(|| format!("failed to wait for {name}"))?;
    let took = start.elapsed();
    finish(name, status.success(), took);
    Ok(Outcome { ok: status.success(), took, results, failures: failures.into_tests() })
}

/// Runs a check of our own as a step: its faults are said, and are its failures.
pub fn found(name: &str, find: impl FnOnce() -> Result<Vec<String>>) -> Result<Outcome> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let faults = find()?;
    let took = start.elapsed();
    let mut failures = Vec::new();
    for fault in faults {
        println!("{fault}");
        let mut lines = fault.lines().map(str::to_owned);
        failures.push(Failure { name: lines.next().unwrap_or_default(), said: lines.collect(), left_out: 0 });
    }
    let ok = failures.is_empty();
    finish(name, ok, took);
    Ok(Outcome { ok, took, results: Vec::new(), failures })
}

/// Says what is about to run.
pub fn announce(name: &str, command: &Command) {
    eprintln!("==> {name}: {}", shown(command));
}

fn finish(name: &str, ok: bool, took: Duration) {
    let verdict = if ok { "ok" } else { "FAILED" };
    eprintln!("<== {name}: {verdict} in {:.1} s", took.as_secs_f64());
}

fn check(name: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

/// The command as one would type it; arguments that a shell would split are quoted.
fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut text = program.rsplit('/').next().unwrap_or(&program).to_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        let plain = !arg.is_empty() && arg.chars().all(|c| c.is_alphanumeric() || "-_=./:,@+".contains(c));
        // Writing to a String does not fail.
        let _ = match (plain, arg.lines().count()) {
            (true, _) => write!(text, " {arg}"),
            (false, 0 | 1) => write!(text, " '{arg}'"),
            (false, _) => write!(text, " '...'"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_a_shell_would_split_are_quoted() {
        let mut command = Command::new("/usr/bin/true");
        command.args(["--plain=1", "two words", "", "two\nlines"]);
        assert_eq!(shown(&command), "true --plain=1 'two words' '' '...'");
    }

    #[test]
    fn result_lines_are_kept_and_failure_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo noise; echo 'test result: FAILED. 1 passed'; exit 3"]);
        let mut passed_on = Vec::new();
        let outcome = tests_to(&mut passed_on, "sample", &mut command).unwrap();
        assert!(!outcome.ok);
        assert_eq!(passed_on, b"noise\ntest result: FAILED. 1 passed\n");
        assert_eq!(outcome.results, ["test result: FAILED. 1 passed"]);
    }

    #[test]
    fn a_step_that_must_succeed_names_itself_when_it_does_not() {
        let error = must("sample", Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sample: exit status: 3");
    }
}
