//! `report --tui` on a terminal, held against the JSON report of the same recording.

use crate::recorded::{PEAK, Recorded};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    running::{PATIENCE, wait_until},
    terminal::Terminal,
};
use serde_json::Value;

const DOWN: &str = "\x1b[B";
const LEFT: &str = "\x1b[D";

fn walk(recorded: &Recorded, options: &[&str]) -> Result<Terminal> {
    let mut command = heaptrace::command(&[&["report", "--tui"], options].concat())?;
    command.arg(heaptrace::record_file(recorded.folder()));
    Terminal::run(command, (110, 30))
}

fn json(recorded: &Recorded, options: &[&str]) -> Result<Value> {
    let mut command = heaptrace::command(&[&["report", "--format", "json"], options].concat())?;
    let output = command.arg(heaptrace::record_file(recorded.folder())).output()?;
    ensure!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What all sites whose stacks have `function` come to, or all.
fn sum(report: &Value, key: &str, function: &str) -> Result<u64> {
    let is_in = |site: &&Value| {
        let stack = site["stack"].as_array();
        function.is_empty()
            || stack.is_some_and(|stack| stack.iter().any(|frame| frame["symbol"] == function))
    };
    let sites = report["sites"].as_array().context("no sites")?;
    Ok(sites.iter().filter(is_in).filter_map(|site| site[key].as_u64()).sum())
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.2}% of all", 100.0 * part as f64 / whole as f64)
}

/// The line above the notes: what is selected.
fn details(screen: &str) -> &str {
    screen.lines().rev().nth(2).unwrap_or_default()
}

pub fn walked() -> Result<()> {
    let recorded = Recorded::get()?;
    let report = json(recorded, &[])?;
    let all = sum(&report, "live_bytes", "")?;
    let mut tree = walk(recorded, &[])?;
    tree.wait_for_text(&format!("{} live bytes", thousands(all)))?;
    // A search opens what it finds.
    tree.press("/site_peak\r")?;
    let peak = sum(&report, "live_bytes", "site_peak")?;
    let found =
        tree.wait_for("what was searched for", |screen| details(screen).starts_with("site_peak shaped.c:"))?;
    ensure!(details(&found).contains(&share(peak, all)), "not {}: {found}", share(peak, all));
    ensure!(found.contains("main shaped.c") && found.contains("site_peak: 1 function,"), "{found}");
    // Out of it, and closed: its caller.
    tree.press(LEFT)?;
    let caller = tree.wait_for("its caller", |screen| details(screen).starts_with("main shaped.c"))?;
    ensure!(details(&caller).contains(&share(sum(&report, "live_bytes", "main")?, all)), "{caller}");
    tree.press(LEFT)?;
    tree.wait_for("it closed", |screen| !screen.contains("▾ main"))?;
    // Inverted, of all that was allocated: what called the allocator most is first.
    tree.press("\x1b")?;
    tree.wait_for("no search", |screen| !screen.contains("site_peak: 1 function"))?;
    tree.press("imm")?;
    let allocated = sum(&report, "alloc_bytes", "")?;
    let first = tree.wait_for("allocated bytes", |screen| {
        screen.contains(&format!("{} allocated bytes", thousands(allocated)))
            && details(screen).starts_with("site_peak shaped.c:")
    })?;
    ensure!(
        details(&first).contains(&share(sum(&report, "alloc_bytes", "site_peak")?, allocated)),
        "{first}"
    );
    ensure!(first.contains("the allocating function first"), "{first}");
    tree.press("r")?;
    tree.wait_for("the order reversed", |screen| screen.contains("ALLOC↑"))?;
    tree.press("?")?;
    tree.wait_for_text("help: Up and Down scroll")?;
    tree.press("q")?;
    tree.wait_for("the tree again", |screen| !screen.contains("help: "))?;
    tree.press("bbbb")?;
    tree.wait_for("processes", |screen| details(screen).starts_with(&format!("shaped:{}: ", recorded.pid)))?;
    tree.press(DOWN)?;
    tree.resize((50, 12))?;
    tree.wait_for("a small screen", |screen| screen.lines().count() == 12 && screen.contains("q quit"))?;
    ensure!(tree.with_screen(|screen| screen.alternate_screen()), "no screen of its own");
    tree.press("q")?;
    ensure!(tree.wait()?.success(), "q is no failure");
    let back = || Ok(tree.with_screen(|screen| !screen.alternate_screen() && !screen.hide_cursor()));
    wait_until(PATIENCE, back).context("the screen is not as before")
}

pub fn parts_and_refusals() -> Result<()> {
    let recorded = Recorded::get()?;
    let options = ["--view", "peak", "--by", "site"];
    let report = json(recorded, &["--view", "peak"])?;
    let (held, all) = (sum(&report, "live_bytes", "site_peak")?, sum(&report, "live_bytes", "")?);
    ensure!(held >= PEAK, "{held}");
    let mut tree = walk(recorded, &options)?;
    let first =
        tree.wait_for("the peak by site", |screen| details(screen).starts_with("site_peak shaped.c:"))?;
    ensure!(first.contains(&format!("{} live bytes", thousands(all))), "{first}");
    ensure!(first.contains("as it stood at ") && details(&first).contains(&share(held, all)), "{first}");
    tree.signal(libc::SIGTERM)?;
    ensure!(tree.wait()?.success(), "SIGTERM is no failure");
    for (options, words) in [
        (&["--tui"][..], "--tui needs a terminal, and standard output is none"),
        (&["--tui", "--format", "svg"], "cannot be used with"),
    ] {
        let output = heaptrace::command(&[&["report"], options].concat())?
            .arg(heaptrace::record_file(recorded.folder()))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(words), "{options:?}: {said}");
    }
    let mut refused = walk(recorded, &["--view", "rss"])?;
    refused.wait_for_text("--tui cannot show --view rss")?;
    ensure!(refused.wait()?.code() == Some(2), "a view without stacks is taken");
    Ok(())
}
