//! `ms_print` on the massif format.

use crate::recorded::{PEAK, Recorded, printed};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{heaptrace, programs::installed};
use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

/// `n time total useful extra stacks` of each snapshot.
fn snapshots(printed: &str) -> BTreeMap<u64, u64> {
    let numbers = |line: &str| -> Option<Vec<u64>> {
        line.split_whitespace().map(|word| word.replace(',', "").parse().ok()).collect()
    };
    let rows = printed.lines().filter_map(numbers).filter(|row| row.len() == 6);
    rows.map(|row| (row[0], row[2])).collect()
}

/// The trees' roots, in their order: `100.00% (1,234B) (heap allocation functions)`.
fn roots(printed: &str) -> Vec<u64> {
    let root = |line: &str| {
        let (bytes, _) = line.strip_prefix("100.00% (")?.split_once("B) (heap allocation functions)")?;
        bytes.replace(',', "").parse().ok()
    };
    printed.lines().filter_map(root).collect()
}

pub fn shown() -> Result<()> {
    let recorded = Recorded::get()?;
    let (file, report) = (recorded.export("massif.out.1", &[])?, recorded.json()?);
    let process = recorded.process(&report)?;
    let mut command = Command::new(installed("ms_print", &["/usr/bin", "/usr/local/bin"])?);
    // It keeps a file where it runs.
    let printed = printed(command.current_dir(recorded.folder()).arg(&file))?;
    let snapshots = snapshots(&printed);
    ensure!(snapshots.get(&0) == Some(&0), "{snapshots:?} in {printed}");
    let last = snapshots.last_key_value().context("no snapshot")?.1;
    ensure!(*last == process.live_bytes, "{last} in the end, not {}: {printed}", process.live_bytes);
    // Nothing but the peak is as high.
    let highest = snapshots.values().max().context("no snapshot")?;
    ensure!((PEAK..=process.peak_live_bytes).contains(highest), "{highest}: {printed}");
    ensure!(printed.contains(" (peak)"), "{printed}");
    ensure!(roots(&printed) == [*highest, *last], "{:?}: {printed}", roots(&printed));
    let peak: u64 = (0..61).map(|n| 30_011 + 2 * n).sum();
    let share = format!("({}B) 0x", thousands(peak));
    let row = printed.lines().find(|line| line.contains(&share)).with_context(|| printed.clone())?;
    ensure!(row.contains(": site_peak (shaped.c:"), "{row}");
    Ok(())
}

/// It is read more than once.
pub fn of_pipe() -> Result<()> {
    let recorded = Recorded::get()?;
    let mut cat = Command::new("cat");
    let mut cat = cat.arg(heaptrace::record_file(recorded.folder())).stdout(Stdio::piped()).spawn()?;
    let pipe = cat.stdout.take().context("no pipe")?;
    let output = heaptrace::command(&["report", "--format", "massif", "/dev/stdin"])?.stdin(pipe).output()?;
    cat.wait()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && said.contains("save it to a file"), "{said}");
    Ok(())
}

/// What has no place in a format is said on standard error.
pub fn hidden() -> Result<()> {
    let recorded = Recorded::get()?;
    let file = heaptrace::record_file(recorded.folder());
    for format in ["folded", "speedscope", "firefox"] {
        let mut command = heaptrace::command(&["report", "--min-bytes", "1G", "--format", format])?;
        let said = String::from_utf8(command.arg(&file).output()?.stderr)?;
        ensure!(said.contains("smaller stack") && said.contains(" not shown: "), "{format}: {said}");
    }
    Ok(())
}

fn thousands(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        rest => format!("{},{:03}", thousands(rest), number % 1000),
    }
}
