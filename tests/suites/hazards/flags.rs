//! Absurd values of every flag: a usage error that names the flag, or a bound that is said.

use super::target;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    runner::{Test, end_to_end, unprivileged},
};
use std::fs;
use tempfile::TempDir;

const USAGE: i32 = 2;

/// Of numbers beyond any sense: what no flag that wants one may take.
const NO_NUMBERS: [&str; 6] = ["", "-1", "1.5", "x", "99999999999999999999999", "0x10"];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    let sizes = ["--max-live", "--max-sites", "--max-frames", "--max-processes", "--max-threads"];
    for flag in sizes {
        let more = ["0", "268435457", "4294967296"];
        tests.push(refused(&["record"], flag, &[&NO_NUMBERS[..], &more].concat(), &["--", "true"]));
    }
    let lists = ["0", "4194305", "1,,2", "1,x", ","];
    tests.push(refused(&["record"], "--pid", &[&NO_NUMBERS[..], &lists].concat(), &[]));
    let times = ["", "0", "0s", "-1s", "soon", "1d", "nan", "inf", "1e300h", "99999999999h", "1e-30s", "s"];
    tests.push(refused(&["record"], "--duration", &times, &["--", "true"]));
    tests.push(refused(&["record"], "--stack", &["", "all", "AUTO"], &["--", "true"]));
    tests.push(refused(&["record"], "--output", &[""], &["--", "true"]));
    tests.push(refused(&["report"], "--pid", &[&NO_NUMBERS[..], &["4294967296"]].concat(), &[]));
    let bytes = ["", "-1", "1.5k", "k", "1T", "99999999999G", "18446744073709551616"];
    tests.push(refused(&["report"], "--min-bytes", &bytes, &[]));
    tests.push(refused(&["report"], "--percent-limit", &["", "-1", "101", "nan", "inf", "x"], &[]));
    for flag in ["--view", "--by", "--format"] {
        tests.push(refused(&["report"], flag, &["", "everything", "LIVE"], &[]));
    }
    tests.push(refused(&["report"], "--output", &[""], &[]));
    tests.push(end_to_end("tables that would take the machine's memory are refused", move || {
        let folder = TempDir::new()?;
        let mut command = heaptrace::command(&["record", "-o"])?;
        command.arg(heaptrace::record_file(folder.path()));
        for flag in sizes {
            command.args([flag, "268435456"]);
        }
        let output = command.args(heaptrace::COMMAND).arg("touch").arg(folder.path().join("ran")).output()?;
        target::ensure_refused(&output, &["--max-live", " MB of memory"])?;
        ensure!(fs::read_dir(folder.path())?.next().is_none(), "it wrote a file, or ran the command");
        Ok(())
    }));
    tests
}

/// Each of `values` is a usage error that names the flag.
fn refused(
    command: &[&'static str],
    flag: &'static str,
    values: &[&'static str],
    rest: &[&'static str],
) -> Test {
    let (command, values, rest) = (command.to_vec(), values.to_vec(), rest.to_vec());
    unprivileged(format!("absurd values of {} {flag}", command.join(" ")), move || {
        let folder = TempDir::new()?;
        for value in values {
            let with_value = format!("{flag}={value}");
            let arguments = [&command[..], &[&with_value], &rest].concat();
            let output = heaptrace::command(&arguments)?.current_dir(folder.path()).output()?;
            says_what_is_wrong(&output, flag).with_context(|| format!("{arguments:?}"))?;
            ensure!(fs::read_dir(folder.path())?.next().is_none(), "{arguments:?} wrote a file");
        }
        Ok(())
    })
}

fn says_what_is_wrong(output: &std::process::Output, flag: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(USAGE), "ended with {}; said {said}", output.status);
    ensure!(said.contains(flag), "does not name the flag; said {said}");
    // More than that it is wrong: what it may be.
    let helps = [
        "is not in",
        "expected",
        "possible values",
        "a value is required",
        "invalid digit",
        "number too",
        "cannot parse integer",
        "use ms, s, m or h",
        "too many bytes",
    ];
    ensure!(helps.iter().any(|word| said.contains(word)), "does not help; said {said}");
    Ok(())
}
