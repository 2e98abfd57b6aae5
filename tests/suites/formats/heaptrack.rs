//! `heaptrack_print` on the heaptrack format.

use crate::recorded::{PEAK, Recorded, printed, sum};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::programs::installed;
use std::{fs, path::Path, process::Command};

const BIN: &[&str] = &["/usr/bin", "/usr/local/bin"];

/// What it prints of a file, and the sums of the stacks that it writes down by a cost: those of a function, and of all.
struct Printed {
    summary: String,
    stacks: String,
}

impl Printed {
    fn by(cost: &str, file: &Path) -> Result<Self> {
        let stacks = file.with_extension(format!("{cost}.stacks"));
        let mut command = Command::new(installed("heaptrack_print", BIN)?);
        command.args(["--flamegraph-cost-type", cost, "--disable-builtin-suppressions", "-F"]).arg(&stacks);
        let summary = printed(command.arg("-f").arg(file))?;
        Ok(Self { summary, stacks: fs::read_to_string(stacks)? })
    }

    fn of(&self, function: &str) -> Result<u64> {
        let mut sum = 0;
        for line in self.stacks.lines() {
            let (stack, cost) = line.rsplit_once(' ').context("a stack without a cost")?;
            // `function (file);function (file);`
            let is_it = |frame: &str| frame.split(" (").next() == Some(function);
            if function.is_empty() || stack.split(';').any(is_it) {
                sum += cost.parse::<u64>().with_context(|| line.to_owned())?;
            }
        }
        Ok(sum)
    }

    fn all(&self) -> Result<u64> {
        self.of("")
    }

    /// A line of the summary.
    fn line(&self, name: &str) -> Result<&str> {
        let line = self.summary.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.with_context(|| format!("no {name} in {}", self.summary))
    }
}

/// Parent and children, which share stacks.
pub fn several(recorded: &Recorded) -> Result<()> {
    let (file, report) = (recorded.export("several.heaptrack.gz", &[])?, recorded.json()?);
    let allocations = Printed::by("allocations", &file)?.all()?;
    let expected = sum(&report, |of| of.alloc_count);
    ensure!(allocations == expected, "{allocations} allocations, not {expected}");
    let leaked = Printed::by("leaked", &file)?.all()?;
    let expected = sum(&report, |of| of.live_bytes);
    ensure!(leaked == expected, "{leaked} bytes in the end, not {expected}");
    Ok(())
}

pub fn shown() -> Result<()> {
    let recorded = Recorded::get()?;
    let (file, report) = (recorded.export("heap.heaptrack.gz", &[])?, recorded.json()?);
    let process = recorded.process(&report)?;

    let allocations = Printed::by("allocations", &file)?;
    let calls = allocations.line("calls to allocation functions")?;
    ensure!(calls.starts_with(&format!("{} (", process.alloc_count)), "{calls}, not {}", process.alloc_count);
    ensure!(allocations.line("temporary memory allocations")?.starts_with("0 ("), "{}", allocations.summary);
    ensure!(allocations.all()? == process.alloc_count, "{}", allocations.stacks);
    ensure!(allocations.of("site_peak")? == 61, "{}", allocations.stacks);
    ensure!(allocations.of("site_passing")? == 1, "{}", allocations.stacks);
    ensure!(allocations.summary.contains("the peak is the highest of "), "{}", allocations.summary);

    let leaked = Printed::by("leaked", &file)?;
    ensure!(leaked.all()? == process.live_bytes, "{}, not {}", leaked.all()?, process.live_bytes);
    // The first of those at the peak is kept.
    ensure!(leaked.of("site_peak")? == 30_011, "{}", leaked.stacks);
    ensure!(leaked.of("site_passing")? == 0, "{}", leaked.stacks);
    // Inlined into what calls itself: seven times within the first.
    let recursive: u64 = (0..=7).map(|depth| 1009 + 2 * depth).sum();
    ensure!(leaked.of("inlined")? == recursive, "{}", leaked.stacks);

    let peak = Printed::by("peak", &file)?;
    let highest = peak.all()?;
    ensure!((PEAK..=process.peak_live_bytes).contains(&highest), "{highest} at the peak: {}", peak.stacks);
    let expected: u64 = (0..61).map(|n| 30_011 + 2 * n).sum();
    ensure!(peak.of("site_peak")? == expected, "{}", peak.stacks);
    // In thousands, with two digits of the rest.
    let said = format!("{:.2}M", highest as f64 / 1e6);
    ensure!(peak.line("peak heap memory consumption")? == said, "{said} is not in {}", peak.summary);
    Ok(())
}
