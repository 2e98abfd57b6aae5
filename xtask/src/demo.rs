//! What `run` without arguments does: records a real program and prints the report.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{machine::as_root, step};

/// Reads and writes JSON, and keeps every tenth document as a cache that is never emptied would. It leaves by
/// `_exit`, so that what it kept is still live when the recording ends.
const WORKLOAD: &str = "\
import json, os
kept = []
for number in range(20_000):
    document = {'id': number, 'name': 'item %d' % number, 'tags': ['t%d' % (number + i) for i in range(8)]}
    parsed = json.loads(json.dumps(document))
    if number % 10 == 0:
        kept.append(parsed)
os._exit(0)
";

/// Debian's own, not one that comes first on PATH: the report then shows the same allocator everywhere.
const PYTHON: &str = "/usr/bin/python3";

pub fn run(binary: &Path) -> Result<ExitCode> {
    let data = std::env::temp_dir().join(format!("heaptrace-demo-{}.data", std::process::id()));
    // Python pools small objects; with this every one of them is a malloc of its own.
    let mut record = as_root("env");
    record.arg("PYTHONMALLOC=malloc").arg(binary).arg("record").arg("-o").arg(&data);
    record.args(["--", PYTHON, "-c", WORKLOAD]);
    step::must("record", &mut record)?;

    let mut report = as_root("env");
    report.arg(binary).arg("report").arg(&data);
    step::must("report", &mut report)?;

    remove(&data)?;
    eprintln!("To trace a process of your own, as root: ./x run -- record -p PID -d 10s; ./x run -- report");
    Ok(ExitCode::SUCCESS)
}

/// The recording may belong to root, in a directory where only its owner may remove it.
fn remove(data: &Path) -> Result<()> {
    let status = as_root("rm").arg("-f").arg(data).status().context("failed to start rm")?;
    anyhow::ensure!(status.success(), "failed to remove {}: {status}", data.display());
    Ok(())
}
