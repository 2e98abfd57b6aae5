//! A large recording: time from being told to stop until its report is there, and the memory that takes.

use crate::{
    figures::{rounds, spread},
    recorder::{Recorder, own, wait},
    target::{Frames, Target, compile},
};
use anyhow::{Result, ensure};
use heaptrace::bpf::MapSizes;
use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Instant,
};

const STACKS: usize = 20_000;

/// Blocks beside those that are asked for: the target's own buffers.
const FEW: u64 = 10;

#[derive(Default)]
struct Series {
    record_ms: Vec<f64>,
    report_ms: Vec<f64>,
    record_mb: Vec<f64>,
    report_mb: Vec<f64>,
    file_mb: Vec<f64>,
}

/// With `blocks` live ones.
pub fn run(blocks: u32, folder: &Path) -> Result<()> {
    let sizes = MapSizes::default();
    let sizes = MapSizes { live: sizes.live.max(blocks + FEW as u32), ..sizes };
    let program = compile("blocks", Frames::Pointers, folder)?;
    let mut series = Series::default();
    // One takes several seconds, and they differ little.
    for _ in 0..rounds()?.min(3) {
        round(&program, &sizes, blocks, folder, &mut series)?;
    }
    println!("\n| {blocks} live blocks, {STACKS} stacks | record, from stop to exit | report, text |");
    println!("|---|---|---|");
    println!("| milliseconds | {} | {} |", spread(&series.record_ms), spread(&series.report_ms));
    println!("| peak memory, MB | {} | {} |", spread(&series.record_mb), spread(&series.report_mb));
    println!("\nThe file has {} MB.", spread(&series.file_mb));
    println!("The kernel's tables take {} MB.", sizes.memory_bytes().first / 1_000_000);
    Ok(())
}

fn round(program: &Path, sizes: &MapSizes, blocks: u32, folder: &Path, series: &mut Series) -> Result<()> {
    let file = folder.join("scale.data");
    let mut target = Target::start(program)?;
    let recorder = Recorder::start(own(), target.pid(), &["--max-live", &sizes.live.to_string()], &file)?;
    let answer = target.ask(&format!("{blocks} {STACKS}"))?;
    ensure!(answer == "done", "the target said {answer}");
    let before = Instant::now();
    series.record_mb.push(recorder.stop()?.peak_mb);
    series.record_ms.push(before.elapsed().as_secs_f64() * 1e3);
    series.file_mb.push(fs::metadata(&file)?.len() as f64 / 1e6);

    let before = Instant::now();
    let report = Command::new(own())
        .arg("report")
        .arg(&file)
        .stdout(File::create(folder.join("scale.txt"))?)
        .spawn()?;
    series.report_mb.push(wait(report)?.peak_mb);
    series.report_ms.push(before.elapsed().as_secs_f64() * 1e3);

    let profile = heaptrace::file::read(&file)?.profile;
    let live: u64 = profile.sites.iter().map(|site| site.totals.live_count()).sum();
    let blocks = u64::from(blocks);
    ensure!((blocks..blocks + FEW).contains(&live), "{live} blocks are live");
    let stacks = profile.sites.iter().filter(|site| site.totals.live_count() > 1).count();
    ensure!((STACKS..STACKS + 10).contains(&stacks), "{stacks} sites");
    Ok(())
}
