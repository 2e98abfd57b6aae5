//! `callgrind_annotate` on the callgrind format.

use crate::recorded::{Recorded, printed, sum};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::programs::installed;
use std::{path::Path, process::Command};

/// A row: costs in the order of the events, and what they are of.
struct Row {
    costs: Vec<u64>,
    of: String,
}

/// The rows of functions, and of the whole program.
fn rows(file: &Path, inclusive: bool) -> Result<Vec<Row>> {
    let mut command = Command::new(installed("callgrind_annotate", &["/usr/bin", "/usr/local/bin"])?);
    let inclusive = if inclusive { "--inclusive=yes" } else { "--inclusive=no" };
    let printed = printed(command.args(["--threshold=100", "--auto=no", inclusive]).arg(file))?;
    ensure!(printed.contains("LiveBytes LiveBlocks AllocBytes AllocBlocks"), "{printed}");
    let rows: Vec<Row> = printed.lines().filter_map(row).collect();
    ensure!(rows.len() > 5, "{printed}");
    Ok(rows)
}

/// `1,234 (5.0%) ... file:function [object]`; a dot is 0.
fn row(line: &str) -> Option<Row> {
    let mut costs = Vec::new();
    let mut rest = line.trim_start();
    while let Some((word, after)) = rest.split_once(' ') {
        let cost = if word == "." { Some(0) } else { word.replace(',', "").parse().ok() };
        let Some(cost) = cost else { break };
        costs.push(cost);
        rest = after.trim_start();
        if rest.starts_with('(') {
            rest = rest.split_once(')')?.1.trim_start();
        }
    }
    (costs.len() == 4).then(|| Row { costs, of: rest.to_owned() })
}

fn of_function<'a>(rows: &'a [Row], name: &str) -> Result<&'a [u64]> {
    let is_it = |row: &&Row| row.of.split(" [").next().is_some_and(|of| of.ends_with(&format!(":{name}")));
    Ok(&rows.iter().find(is_it).with_context(|| format!("no function {name}"))?.costs)
}

/// Parent and children, which share stacks.
pub fn several(recorded: &Recorded) -> Result<()> {
    let (file, report) = (recorded.export("callgrind.out.1", &[])?, recorded.json()?);
    let rows = rows(&file, true)?;
    let all = sum(&report, |process| process.alloc_bytes);
    let totals = rows.iter().find(|row| row.of == "PROGRAM TOTALS").context("no totals")?;
    ensure!(totals.costs[2] == all, "{:?} are no {all}", totals.costs);
    for process in &report.processes {
        let costs = of_function(&rows, &format!("{}:{}", process.comm, process.pid))?;
        ensure!(costs[2] == process.alloc_bytes, "{costs:?} of process {}", process.pid);
    }
    Ok(())
}

pub fn shown() -> Result<()> {
    let recorded = Recorded::get()?;
    let (file, report) = (recorded.export("callgrind.out.1", &[])?, recorded.json()?);
    let process = recorded.process(&report)?;
    let all = [process.live_bytes, process.live_count, process.alloc_bytes, process.alloc_count];

    let own = rows(&file, false)?;
    let totals = own.iter().find(|row| row.of == "PROGRAM TOTALS").context("no totals")?;
    ensure!(totals.costs == all, "{:?} are no {all:?}", totals.costs);
    for (place, expected) in all.into_iter().enumerate() {
        let functions = own.iter().filter(|row| row.of != "PROGRAM TOTALS");
        let sum: u64 = functions.map(|row| row.costs[place]).sum();
        ensure!(sum == expected, "functions come to {sum} of event {place}, not {expected}");
    }
    let passing = of_function(&own, "site_passing")?;
    ensure!(passing == [0, 0, 4003, 1], "{passing:?}");

    let inclusive = rows(&file, true)?;
    let main = of_function(&inclusive, "main")?;
    ensure!(main == all, "main has {main:?} with what it calls, not {all:?}");
    // With all that it calls, at each depth without those outside.
    for outermost in 0..=7 {
        let name =
            if outermost == 0 { "recursive".to_owned() } else { format!("recursive'{}", outermost + 1) };
        let expected: u64 = (0..=7 - outermost).map(|depth| 1009 + 2 * depth).sum();
        let costs = of_function(&inclusive, &name)?;
        ensure!(costs[0] == expected, "{name} has {costs:?} with what it calls, not {expected}");
    }
    // Two functions that call each other.
    let expected: u64 = (0..7).map(|turn| 2003 + 2 * (2 * turn + 1)).sum();
    for name in ["even", "odd"] {
        let costs = of_function(&inclusive, name)?;
        ensure!(costs[0] == expected, "{name} has {costs:?} with what it calls, not {expected}");
    }
    Ok(())
}
