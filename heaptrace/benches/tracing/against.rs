//! Another heaptrace, of another version as a rule, measured in turns with this one: `HEAPTRACE_BENCH_OTHER` is its path.

use crate::{
    cost::{LET_GO, VERIFIED},
    figures::{ratio, rounds, spread},
    live,
    recorder::{Recorder, own},
    target::{Frames, Target, compile},
};
use anyhow::{Result, ensure};
use std::{
    env,
    path::{Path, PathBuf},
    thread,
};

/// Pairs of one measurement.
const PAIRS: u32 = 200_000;

/// The other one, if there is one.
pub fn other() -> Option<PathBuf> {
    env::var_os("HEAPTRACE_BENCH_OTHER").map(PathBuf::from)
}

struct Case {
    name: &'static str,
    options: &'static [&'static str],
    /// Many live blocks, or pairs of malloc and free.
    live: bool,
    own: Vec<f64>,
    other: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, options: &'static [&'static str], live: bool) -> Self {
        Self { name, options, live, own: Vec::new(), other: Vec::new() }
    }

    fn measure(&self, heaptrace: &Path, target: &mut Target, folder: &Path) -> Result<f64> {
        let file = folder.join("against.data");
        let recorder = Recorder::start(heaptrace, target.pid(), self.options, &file)?;
        // Past the calls in which malloc is verified.
        if self.live {
            live::replacements(target, VERIFIED)?
        } else {
            target.pairs(VERIFIED)?
        };
        thread::sleep(LET_GO);
        let cost = if self.live { live::replacements(target, live::TRACED)? } else { target.pairs(PAIRS)? };
        recorder.stop()?;
        Ok(cost)
    }
}

pub fn run(other: &Path, folder: &Path) -> Result<()> {
    let mut pairs = Target::start(&compile("pairs", Frames::Pointers, folder)?)?;
    let mut live = live::start(folder)?;
    let mut cases = [
        Case::new("pairs, --stack none", &["--stack", "none"], false),
        Case::new("pairs, with stacks", &[], false),
        Case::new("1,000,000 live blocks, --stack none", &["--stack", "none"], true),
        Case::new("1,000,000 live blocks, with stacks", &[], true),
    ];
    for round in 0..rounds()? {
        for case in &mut cases {
            let target = if case.live { &mut live } else { &mut pairs };
            // Neither is always the first.
            for own_turn in [round % 2 == 0, round % 2 != 0] {
                if own_turn {
                    case.own.push(case.measure(own(), target, folder)?);
                } else {
                    case.other.push(case.measure(other, target, folder)?);
                }
            }
            let last = |of: &[f64]| of.last().copied().unwrap_or_default();
            eprintln!("round {}, {}: {:.0} {:.0}", round + 1, case.name, last(&case.own), last(&case.other));
        }
    }
    ensure!(pairs.changed_bytes()? == 0 && live.changed_bytes()? == 0, "probes are left in the target");
    println!("\n| ns per malloc and free | this heaptrace | the other | ratio |");
    println!("|---|---|---|---|");
    for Case { name, own, other, .. } in &cases {
        println!("| {name} | {} | {} | {:.2} |", spread(own), spread(other), ratio(own, other));
    }
    Ok(())
}
