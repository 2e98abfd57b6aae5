//! sqlite3 on csv, and jq on ndjson.

use crate::recorded::{Recorded, printed, sum};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::programs::installed;
use std::process::Command;

const BIN: &[&str] = &["/usr/bin", "/usr/local/bin"];

pub fn imported() -> Result<()> {
    let recorded = Recorded::get()?;
    let (file, report) = (recorded.export("heap.csv", &[])?, recorded.json()?);
    let import = format!(".import --csv {} heap", file.display());
    let ask = |query: &str| {
        let mut command = Command::new(installed("sqlite3", BIN)?);
        printed(command.arg(":memory:").arg(&import).arg(query))
    };
    let totals =
        ask("select sum(alloc_bytes), sum(alloc_count), sum(live_bytes), sum(live_count) from heap")?;
    let expected = [
        sum(&report, |of| of.alloc_bytes),
        sum(&report, |of| of.alloc_count),
        sum(&report, |of| of.live_bytes),
        sum(&report, |of| of.live_count),
    ];
    let expected = expected.map(|number| number.to_string()).join("|");
    ensure!(totals.trim() == expected, "{totals} and not {expected}");
    let peak = ask(
        "select count(*) from heap where function = 'site_peak' and file like '%shaped.c' and stack like '%main;%'",
    )?;
    ensure!(peak.trim().parse::<u64>()? > 0, "no line of the peak: {}", ask("select * from heap")?);
    Ok(())
}

pub fn queried() -> Result<()> {
    let recorded = Recorded::get()?;
    let (file, report) = (recorded.export("heap.ndjson", &[])?, recorded.json()?);
    let ask = |query: &str| {
        let mut command = Command::new(installed("jq", BIN)?);
        printed(command.args(["-r", "-s", query]).arg(&file))
    };
    let live = ask("map(select(.type == \"site\") | .live_bytes) | add")?;
    ensure!(live.trim() == sum(&report, |of| of.live_bytes).to_string(), "{live}");
    let processes = ask("map(select(.type == \"process\")) | length")?;
    ensure!(processes.trim() == report.processes.len().to_string(), "{processes}");
    let first = ask(".[0] | .type, .mode, .coverage.finished")?;
    ensure!(first.lines().eq(["recording", "exact", "true"]), "{first}");
    Ok(())
}

/// A recording and itself, and one with what the program does in it.
pub fn compared() -> Result<()> {
    let recorded = Recorded::get()?;
    let file = heaptrace_tests::heaptrace::record_file(recorded.folder());
    let diff = |options: &[&str]| -> Result<(Option<i32>, String)> {
        let output =
            heaptrace_tests::heaptrace::command(&["diff"])?.args([&file, &file]).args(options).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(0 | 3)), "diff ended with {}: {said}", output.status);
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let (code, text) = diff(&["--fail-if-grew", "1"])?;
    ensure!(code == Some(0) && text.contains("Nothing changed."), "{text}");
    // Twice as much in each of what was done is growth of each stack.
    let (code, text) =
        diff(&["--view", "alloc", "--per", "2,1", "--fail-if-grew", "50%", "--format", "csv"])?;
    ensure!(code == Some(3), "{text}");
    let grew = text.lines().skip(1).filter(|line| line.starts_with("grew,")).count();
    ensure!(grew > 0 && grew == text.lines().count() - 1, "{text}");
    let (_, json) = diff(&["--view", "alloc", "--per", "2,1", "--format", "json"])?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    let all = sum(&recorded.json()?, |of| of.alloc_bytes) as f64;
    let change = json["total"]["bytes_change"].as_f64().context("no change")?;
    ensure!((change - all / 2.0).abs() < 1.0, "{change} of {all}");
    Ok(())
}
