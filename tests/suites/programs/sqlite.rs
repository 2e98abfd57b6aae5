//! SQLite keeps count of its own memory: requests rounded up, high-water mark included.

use crate::sanity;
use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{heaptrace, programs::installed, running::Running, session::Start};
use std::fs;
use tempfile::TempDir;

const ROWS: u64 = 60_000;

pub fn filling_a_database() -> Result<()> {
    // What the shell around the library allocates.
    const SHELL: u64 = 4 << 20;
    let folder = TempDir::new()?;
    let script = folder.path().join("fill.sql");
    fs::write(
        &script,
        format!(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-24000;
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, body BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {ROWS})
INSERT INTO t SELECT i, 'row ' || i, zeroblob(200 + i % 300) FROM n;
CREATE INDEX t_name ON t(name);
SELECT 'rows=' || count(*) FROM t;
.stats on
SELECT 'length=' || sum(length(body)) FROM t;\n"
        ),
    )?;
    let mut command = heaptrace::command(&["record", "-o"])?;
    command
        .arg(heaptrace::record_file(folder.path()))
        .args(heaptrace::COMMAND)
        .arg(installed("sqlite3", &["/usr/bin"])?)
        .arg(folder.path().join("test.db"))
        .arg(format!(".read {}", script.display()));
    let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
    heaptrace::finish(&mut recorder)?;
    let said = recorder.stdout();
    ensure!(said.contains(&format!("rows={ROWS}")), "{}", recorder.describe("lost rows"));
    let own_peak = high_water(&said).context(recorder.describe("printed no statistics"))?;
    let report = heaptrace::report(folder.path())?;
    sanity::check(&report, &sanity::Resident::new(), Start::Command)?;
    let [process] = &report.processes[..] else { bail!("one process should be in the report") };
    // Its figure is of usable sizes, so what was requested is somewhat less; small blocks the most.
    let (least, most) = (own_peak / 10 * 8, own_peak + SHELL);
    let peak = process.peak_live_bytes;
    ensure!((least..=most).contains(&peak), "peak of {peak} bytes; SQLite says {own_peak}");
    ensure!(process.live_count < process.alloc_count / 10, "SQLite frees at the end: {process:?}");
    Ok(())
}

/// The number in `Memory Used:  N (max M) bytes`.
fn high_water(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.starts_with("Memory Used:"))?;
    line.split_once("max ")?.1.split(')').next()?.trim().parse().ok()
}
