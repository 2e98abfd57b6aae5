//! Suspicious frees: each kind is told with its stacks, and of programs that free as they should nothing is. And how long blocks
//! lived that were freed.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{Program, installed},
    report::Site,
    runner::{self, Test, end_to_end},
    running::Running,
    session::{Session, Start, no_core_dump},
};
use serde::Deserialize;
use std::{path::Path, process::ExitCode};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests: Vec<Test> = [
        (
            "double",
            Expected {
                kind: "double-free",
                count: 1,
                call: "site_free_again",
                freed: Some("site_free"),
                allocated: Some("site_malloc"),
            },
        ),
        (
            "moved",
            Expected {
                kind: "double-free",
                count: 1,
                call: "site_free_again",
                freed: None,
                allocated: Some("site_malloc"),
            },
        ),
        (
            "inside",
            Expected { kind: "never-given-out", count: 1, call: "site_free", freed: None, allocated: None },
        ),
        (
            "new-free",
            Expected {
                kind: "free-of-new",
                count: 3,
                call: "site_free",
                freed: None,
                allocated: Some("site_new"),
            },
        ),
        (
            "malloc-delete",
            Expected {
                kind: "delete-of-malloc",
                count: 5,
                call: "site_delete",
                freed: None,
                allocated: Some("site_malloc"),
            },
        ),
    ]
    .into_iter()
    .map(|(mode, expected)| {
        end_to_end(format!("{mode}, {}: told with its stacks", expected.kind), move || wrong(mode, &expected))
    })
    .collect();
    tests.push(end_to_end("a correct C++ program has none", || {
        right(&Program::Cpp("correct").compile()?, &[])
    }));
    tests.push(end_to_end("a correct C++ program without frame pointers has none", || {
        right(&Program::CppOmitFramePointer("correct").compile()?, &[])
    }));
    tests.push(end_to_end("python has none", || {
        let code = "import json, re, threading, decimal; [json.dumps({str(n): [n] * n}) for n in range(200)]";
        right(&installed("python3", &["/usr/bin"])?, &["-c", code])
    }));
    tests.push(end_to_end("only what sees every block looks into frees", refused));
    for start in Start::BOTH {
        let name = format!("{}: how long blocks lived is counted, each once", start.name());
        tests.push(end_to_end(name, move || lifetimes(start)));
    }
    runner::run(tests)
}

#[derive(Debug, Deserialize)]
struct Report {
    frees: Frees,
}

#[derive(Debug, Deserialize)]
struct Frees {
    certain: bool,
    cut: bool,
    suspicious: Vec<Suspicious>,
}

#[derive(Debug, Deserialize)]
struct Suspicious {
    kind: String,
    count: u64,
    address: Option<u64>,
    call: Call,
    freed: Option<Call>,
    allocated: Option<Call>,
}

#[derive(Debug, Deserialize)]
struct Call {
    stack: Vec<Frame>,
}

#[derive(Debug, Deserialize)]
struct Frame {
    symbol: Option<String>,
}

struct Expected {
    kind: &'static str,
    count: u64,
    call: &'static str,
    freed: Option<&'static str>,
    allocated: Option<&'static str>,
}

/// What is said of the frees of a command.
fn checked(folder: &Path, program: &Path, arguments: &[&str]) -> Result<Frees> {
    let mut command = heaptrace::command(&["record", "--check-frees", "-o"])?;
    command.arg(heaptrace::record_file(folder)).args(heaptrace::COMMAND).arg(program).args(arguments);
    no_core_dump(&mut command);
    let mut recorder = Running::spawn(command, "heaptrace", folder)?;
    heaptrace::finish(&mut recorder)?;
    let report: Report = serde_json::from_str(&report(folder, &["--format", "json"])?)?;
    Ok(report.frees)
}

fn report(folder: &Path, options: &[&str]) -> Result<String> {
    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&[&["report", file.to_str().context("UTF-8")?], options].concat())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn wrong(mode: &str, expected: &Expected) -> Result<()> {
    let folder = TempDir::new()?;
    let frees = checked(folder.path(), &Program::Cpp("misfreed").compile()?, &[mode])?;
    ensure!(frees.certain && !frees.cut, "{frees:?}");
    let [found] = frees.suspicious.as_slice() else { anyhow::bail!("{frees:?}") };
    let is_by = |call: Option<&Call>, function: Option<&str>| {
        let named = |name: &str| {
            let name = format!("{name}(");
            call.is_some_and(|call| {
                let mut symbols = call.stack.iter().filter_map(|frame| frame.symbol.as_deref());
                symbols.any(|symbol| symbol.starts_with(&name))
            })
        };
        function.map_or(call.is_none(), named)
    };
    ensure!(found.kind == expected.kind && found.count == expected.count, "{found:?}");
    ensure!(is_by(Some(&found.call), Some(expected.call)), "{found:?}");
    ensure!(is_by(found.freed.as_ref(), expected.freed), "{found:?}");
    ensure!(is_by(found.allocated.as_ref(), expected.allocated), "{found:?}");
    ensure!(
        found.address.is_some() == matches!(expected.kind, "double-free" | "never-given-out"),
        "{found:?}"
    );
    let text = report(folder.path(), &[])?;
    ensure!(text.contains("# Suspicious frees:\n#   1. ") && text.contains(expected.call), "{text}");
    Ok(())
}

fn right(program: &Path, arguments: &[&str]) -> Result<()> {
    let folder = TempDir::new()?;
    let frees = checked(folder.path(), program, arguments)?;
    ensure!(frees.suspicious.is_empty() && !frees.cut, "{frees:#?}");
    let text = report(folder.path(), &[])?;
    ensure!(text.contains("# Suspicious frees: none"), "{text}");
    Ok(())
}

fn lifetimes(start: Start) -> Result<()> {
    let folder = TempDir::new()?;
    let session = Session::new(Program::C("lasting"), &[]).options(&["--lifetimes"]);
    let outcome = session.record_in(start, folder.path())?;
    outcome.ensure_success()?;
    let (_, ledger) = outcome.ledger.0.first_key_value().context("a ledger")?;
    for (name, figures) in &ledger.sites {
        let is_its =
            |site: &&Site| site.stack.iter().any(|frame| frame.symbol.as_deref() == Some(name.as_str()));
        let sites = outcome.report.sites.iter().filter(is_its);
        let classes: Vec<_> = sites.flat_map(|site| site.lifetimes.iter().flatten().copied()).collect();
        let freed: u64 = classes.iter().map(|(_, _, count)| count).sum();
        ensure!(freed == figures.free_count, "{name}: {classes:?}, and {figures}");
        // A block may live for longer than it should, but not for less.
        let least = classes.iter().map(|(least, _, _)| *least).fold(f64::INFINITY, f64::min);
        ensure!(name != "site_long" || least >= 1.0, "{name}: {classes:?}");
    }
    let text = report(folder.path(), &["--view", "churn", "--percent-limit", "0"])?;
    ensure!(text.matches("lived: ").count() >= 2, "{text}");
    Ok(())
}

fn refused() -> Result<()> {
    for options in [&["--trace", "allocs"][..], &["--min-size", "100"], &["--sample", "1m"]] {
        let output = heaptrace::output(&[&["record", "--check-frees"], options, &["--", "true"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains("--check-frees"), "{said}");
    }
    Ok(())
}
