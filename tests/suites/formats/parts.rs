//! Parts of a recording's time: the moment at which most was live, and what came before and after it.

use crate::recorded::{PEAK, Recorded};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::heaptrace;
use serde_json::Value;
use std::process::Output;

/// Of one of the blocks at the peak, which is kept.
const KEPT: u64 = 30_011;

fn report(recorded: &Recorded, options: &[&str]) -> Result<Output> {
    let mut command = heaptrace::command(&[&["report"], options].concat())?;
    Ok(command.arg(heaptrace::record_file(recorded.folder())).output()?)
}

fn said(recorded: &Recorded, options: &[&str]) -> Result<String> {
    let output = report(recorded, options)?;
    ensure!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn json(recorded: &Recorded, options: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&said(recorded, &[options, &["--format", "json"]].concat())?)?)
}

/// Live bytes of a function's stacks, and of all.
fn live(report: &Value, function: &str) -> Result<u64> {
    let sites = report["sites"].as_array().context("no sites")?;
    let of = sites.iter().filter(|site| function.is_empty() || site["stack"][0]["symbol"] == function);
    Ok(of.filter_map(|site| site["live_bytes"].as_u64()).sum())
}

fn peak_of_program() -> u64 {
    (0..61).map(|n| KEPT + 2 * n).sum()
}

/// A time just behind the one at which the state of a report was saved.
fn behind(report: &Value) -> Result<String> {
    Ok(format!("{:.3}s", report["part"]["to_s"].as_f64().context("no time")? + 0.001))
}

pub fn peak() -> Result<()> {
    let recorded = Recorded::get()?;
    let whole = recorded.json()?;
    let process = recorded.process(&whole)?;
    let at_peak = json(recorded, &["--view", "peak"])?;
    let part = &at_peak["part"];
    ensure!(part["kind"] == "peak" && part["saved"].as_u64() > Some(1), "{part}");
    ensure!(part["to_s"].as_f64() < part["recorded_s"].as_f64(), "{part}");
    // Names were found after it was saved.
    let held = live(&at_peak, "site_peak")?;
    ensure!(held == peak_of_program(), "site_peak holds {held}, not {}", peak_of_program());
    let all = live(&at_peak, "")?;
    ensure!((PEAK..=process.peak_live_bytes).contains(&all), "{all}");
    let real = &part["real_peak"];
    ensure!(real["bytes"] == process.peak_live_bytes && real["pid"] == recorded.pid, "{real}");
    ensure!(real["after_s"].as_f64() < real["by_s"].as_f64(), "{real}");
    ensure!(real["by_s"].as_f64() <= part["to_s"].as_f64(), "the state came before its peak: {part}");

    let text = said(recorded, &["--view", "peak"])?;
    ensure!(text.contains("# Part: as it stood at ") && text.contains(", the one with most live"), "{text}");
    ensure!(text.contains("# Part: the real peak of shaped:") && text.contains("site_peak"), "{text}");

    let output = report(recorded, &["--view", "peak", "--format", "folded"])?;
    let folded = String::from_utf8(output.stdout)?;
    let sum: u64 = folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    let warned = String::from_utf8(output.stderr)?;
    ensure!(sum == all && warned.contains("the real peak of shaped:"), "{sum}: {folded}{warned}");

    // The same moment, by its time.
    let at = json(recorded, &["--at", &behind(&at_peak)?])?;
    ensure!(at["part"]["kind"] == "moment" && at["part"]["to_s"] == part["to_s"], "{}", at["part"]);
    ensure!(at["sites"] == at_peak["sites"] && at["processes"] == at_peak["processes"], "another state");
    Ok(())
}

/// The state with the peak came sooner after the one before than regular ones do.
pub fn short_peak() -> Result<()> {
    const REGULAR_S: f64 = 5.0;
    let recorded = Recorded::get()?;
    let report = json(recorded, &["--view", "peak"])?;
    let (part, held) = (&report["part"], live(&report, "")?);
    let real = &part["real_peak"];
    let seconds = |key: &str| real[key].as_f64().with_context(|| format!("no {key}: {part}"));
    let (before, by) = (seconds("after_s")?, seconds("by_s")?);
    ensure!(before > 0.0 && part["to_s"] == real["by_s"] && by - before < REGULAR_S, "{part}");
    let bytes = real["bytes"].as_u64().context("no bytes")?;
    ensure!(held >= bytes - bytes / 32, "{held} of {part}");
    Ok(())
}

pub fn spans() -> Result<()> {
    let recorded = Recorded::get()?;
    let whole = recorded.json()?;
    let process = recorded.process(&whole)?;
    let at_peak = json(recorded, &["--view", "peak"])?;
    let behind = behind(&at_peak)?;
    let before = json(recorded, &["--view", "alloc", "--to", &behind])?;
    let after = json(recorded, &["--view", "alloc", "--from", &behind])?;
    let sum = |report: &Value, key: &str| report["processes"][0][key].as_u64().context("no number");
    for (key, expected) in [
        ("alloc_bytes", process.alloc_bytes),
        ("alloc_count", process.alloc_count),
        ("free_bytes", process.free_bytes),
    ] {
        let (before, after) = (sum(&before, key)?, sum(&after, key)?);
        ensure!(before + after == expected, "{key}: {before} and {after} are not {expected}");
    }
    ensure!(live(&before, "")? == live(&at_peak, "")?, "all that came by the peak is not what was live then");
    let part = &after["part"];
    let shrank = peak_of_program() - KEPT;
    ensure!(part["kind"] == "span" && part["shrank"]["bytes"].as_u64() >= Some(shrank), "{part}");
    ensure!(part["shrank"]["count"].as_u64() >= Some(60), "{part}");
    ensure!(live(&after, "site_peak")? == 0, "site_peak has more than before");
    let text = said(recorded, &["--from", &behind])?;
    ensure!(text.contains("# Part: what came from ") && text.contains("stacks that have less"), "{text}");
    for format in
        ["svg", "csv", "pprof", "html", "massif", "dhat", "heaptrack", "callgrind", "firefox", "speedscope"]
    {
        let file = recorded.folder().join("part");
        let output = file.to_str().context("a path")?;
        said(recorded, &["--view", "alloc", "--to", &behind, "--format", format, "-o", output])?;
        said(recorded, &["--view", "alloc", "--from", &behind, "--format", format, "-o", output])?;
        said(recorded, &["--view", "peak", "--format", format, "-o", output])?;
    }
    Ok(())
}

pub fn refused() -> Result<()> {
    let recorded = Recorded::get()?;
    let peak = behind(&json(recorded, &["--view", "peak"])?)?;
    for (options, words) in [
        (&["--at", "1ms"][..], "was first saved at "),
        (&["--from", "1000s"], "was not saved in this span of time"),
        (&["--from", "2s", "--to", "1s"], "--from is not before --to"),
        (&["--view", "peak", "--at", "2s"], "--view peak shows the moment"),
        (&["--view", "rss", "--from", &peak], "--view rss is of a moment"),
    ] {
        let output = report(recorded, options)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(words), "{options:?}: {said}");
    }
    Ok(())
}
