//! What programs keep whose allocator tells of its samples: of the allocator's own, of samples of all its calls, and exact.

use crate::{
    figures::{rounds, spread},
    recorder::{Recorder, own},
    target::Target,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Nothing, again, or options of `heaptrace record`.
const TOOLS: [(&str, Option<&[&str]>); 5] = [
    ("none", None),
    ("native", Some(&["--trace", "native"])),
    ("growth", Some(&["--trace", "growth"])),
    ("sampled --no-native", Some(&["--trace", "sampled", "--no-native"])),
    ("exact", Some(&["--trace", "exact"])),
];

const LOADS: [(&str, &str); 2] =
    [("a text's words, counted", "words"), ("64 bytes, allocated and freed", "pairs")];

/// In seconds: what is not measured, and what is.
const BEFORE: f64 = 0.7;
const TIME: f64 = 3.0;

pub fn run(folder: &Path) -> Result<()> {
    let program = compile(folder)?;
    println!("\nThroughput that is left with an allocator that tells of its samples, in percent\n");
    println!("| | {} |", TOOLS.map(|(name, _)| name).join(" | "));
    println!("|---|{}", "---|".repeat(TOOLS.len()));
    for (name, load) in LOADS {
        let cells = measure(&program, load, folder)?.map(|kept| spread(&kept));
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn measure(program: &Path, load: &str, folder: &Path) -> Result<[Vec<f64>; TOOLS.len()]> {
    let mut kept = TOOLS.map(|_| Vec::new());
    let mut target = Target::start(program)?;
    let pid = target.pid();
    let mut work =
        |seconds: f64| target.ask(&format!("{seconds} {load}"))?.parse::<f64>().context("no number");
    work(BEFORE)?;
    for _ in 0..rounds()? {
        for (kept, (name, options)) in kept.iter_mut().zip(TOOLS) {
            // Just before, as a machine's speed comes and goes.
            let bare = work(TIME)?;
            let recorder = match options {
                Some(options) => Some(Recorder::start(own(), pid, options, &folder.join("recording"))?),
                None => None,
            };
            if recorder.is_some() {
                work(BEFORE)?;
            }
            let done = work(TIME)?;
            if let Some(recorder) = recorder {
                recorder.stop()?;
            }
            eprintln!("{load}, {name}: {:.1} %", 100.0 * done / bare);
            kept.push(100.0 * done / bare);
        }
    }
    Ok(kept)
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/native/Cargo.toml");
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--locked", "--bin", "native-words", "--target-dir"])
        .arg(folder)
        .arg("--manifest-path")
        .arg(manifest)
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "cargo failed on tests/native (Debian package: libclang1)");
    Ok(folder.join("release/native-words"))
}
