//! What `heaptrace watch` costs who is watched: nothing where no call is made, and something for each call.

use crate::{
    figures::{ratio, rounds, spread},
    target::{Frames, Target, compile},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// What the program does, how often in one measurement, and what that is.
const WORK: [(&str, u32, &str); 4] = [
    ("pairs", 20_000_000, "malloc and free of small blocks"),
    ("heap", 2_000_000, "malloc and free of up to 64 kB, in a heap that grows and is trimmed"),
    ("calls", 2_000_000, "getppid: any system call"),
    ("mappings", 100_000, "mmap and munmap of 1 MiB"),
];

#[derive(Default)]
struct Series {
    alone: Vec<f64>,
    /// Totals alone: no call is large enough to be printed.
    quiet: Vec<f64>,
    /// Every call printed.
    lines: Vec<f64>,
    /// With stacks, too.
    stacks: Vec<f64>,
}

pub fn run(folder: &Path) -> Result<()> {
    let mut target = Target::start(&compile("calls", Frames::NoPointers, folder)?)?;
    println!(
        "\n| ns each, in the watched program | alone | watched | each call printed | with stacks | watched / alone |"
    );
    println!("|---|---|---|---|---|---|");
    for (what, times, name) in WORK {
        let mut series = Series::default();
        for _ in 0..rounds()? {
            round(&mut target, &format!("{what} {times}"), &mut series)?;
        }
        let Series { alone, quiet, lines, stacks } = &series;
        println!(
            "| {name} | {} | {} | {} | {} | {:.3} |",
            spread(alone),
            spread(quiet),
            spread(lines),
            spread(stacks),
            ratio(quiet, alone)
        );
    }
    Ok(())
}

fn round(target: &mut Target, what: &str, series: &mut Series) -> Result<()> {
    let measure = |target: &mut Target| target.ask(what)?.parse::<f64>().context("the target gave no number");
    series.alone.push(measure(target)?);
    for (options, costs) in [
        (&["--min-bytes", "1G", "--no-stacks"][..], &mut series.quiet),
        (&["--min-bytes", "0", "--no-stacks"], &mut series.lines),
        (&["--min-bytes", "0", "--stacks"], &mut series.stacks),
    ] {
        let mut watch = Watch::start(target, options)?;
        costs.push(measure(target)?);
        watch.stop()?;
    }
    Ok(())
}

/// A running `heaptrace watch`. Dropped, it ends.
struct Watch(Child);

impl Watch {
    /// Returns once it watches.
    fn start(target: &Target, options: &[&str]) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_heaptrace"))
            .args(["watch", "-p", &target.pid().to_string()])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("no standard error")?);
        let watch = Self(child);
        let mut line = String::new();
        while !line.starts_with("heaptrace: tracing") {
            line.clear();
            if said.read_line(&mut line)? == 0 {
                bail!("heaptrace ended");
            }
        }
        // Nothing of what it says at its end is waited for.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Ok(watch)
    }

    fn stop(&mut self) -> Result<()> {
        // SAFETY: not waited for yet, so the id is still the child's.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        let status = self.0.wait()?;
        ensure!(status.success(), "heaptrace ended with {status}");
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It has ended already, or an error is being told: then it must not be left behind.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
