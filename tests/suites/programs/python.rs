//! CPython: small objects come from its own arenas, large ones from malloc.

use crate::sanity;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{installed, source},
    report::Report,
    running::Running,
    session::{Start, Waiting},
};
use std::process::Command;
use tempfile::TempDir;

/// Odd, unique and far beyond what anything else in the script asks for. 9 MB, so that each is a mapping.
pub const SIZES: [u64; 4] = [9_000_017, 9_100_037, 9_200_053, 9_300_071];
/// How far two runs of the same script may differ in everything else.
const NOISE: u64 = 64 << 10;

/// What the blocks take: a bytearray asks for one byte more than it holds.
fn expected() -> u64 {
    SIZES.iter().map(|size| size + 1).sum()
}

pub fn script(command: &mut Command, sizes: &[u64]) {
    // Two runs are compared, so both use the same hash seed.
    command.env("PYTHONHASHSEED", "0").arg(source("python/blocks.py")).args(sizes.iter().map(u64::to_string));
}

fn recorded(sizes: &[u64]) -> Result<(Report, u64)> {
    let folder = TempDir::new()?;
    let mut command = heaptrace::command(&["record", "-o"])?;
    command
        .arg(heaptrace::record_file(folder.path()))
        .args(heaptrace::COMMAND)
        .arg(installed("python3", &["/usr/bin"])?);
    script(&mut command, sizes);
    let mut recorder = Running::spawn(command, "heaptrace", folder.path())?;
    heaptrace::finish(&mut recorder)?;
    let resident = sanity::peak_resident(&recorder.stdout())
        .context(recorder.describe("has no output of the script"))?;
    Ok((heaptrace::report(folder.path())?, resident))
}

pub fn blocks_from_the_start() -> Result<()> {
    let (without, _) = recorded(&[])?;
    let (with, resident) = recorded(&SIZES)?;
    let [without, with_process] = [&without, &with].map(|report| &report.processes[..]);
    let ([without], [with_process]) = (without, with_process) else {
        anyhow::bail!("each recording should hold one process");
    };
    sanity::check(&with, &[(with_process.pid, resident)].into(), Start::Command)?;
    let grown = with_process.live_bytes - without.live_bytes;
    ensure!(grown.abs_diff(expected()) <= NOISE, "blocks of {} bytes show as {grown}", expected());
    // A single site cannot hold less than the largest block, and all are made in one line.
    let largest = with.sites.iter().map(|site| site.live_bytes).max().unwrap_or(0);
    ensure!(largest > SIZES[3], "the largest site has {largest} bytes");
    Ok(())
}

pub fn blocks_after_attaching() -> Result<()> {
    // Modules and strings of the script's own work after the handshake.
    const OTHER_WORK: u64 = 4 << 20;
    let folder = TempDir::new()?;
    let mut command = Command::new(installed("python3", &["/usr/bin"])?);
    script(&mut command, &SIZES);
    let mut waiting = Waiting::start(command, folder.path())?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder.path())?;
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.success(), "{}", waiting.target.describe(&format!("ended with {status}")));
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder.path())?;
    sanity::check(&report, &[(pid, sanity::peak_resident(&waiting.target.stdout())?)].into(), Start::Attach)?;
    let live = report.process(pid).context("python is not in the report")?.live_bytes;
    let most = expected() + OTHER_WORK;
    ensure!(
        (expected()..=most).contains(&live),
        "{live} bytes live, where {} to {most} should be",
        expected()
    );
    Ok(())
}
