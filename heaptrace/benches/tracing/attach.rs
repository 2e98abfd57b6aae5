//! How long it takes to attach to processes and to let go of them.

use crate::{
    figures::{rounds, spread},
    target::{Frames, Target, compile},
};
use anyhow::{Result, ensure};
use heaptrace::{
    bpf::{Calls, MapSizes, StackMode},
    session::{Limits, Session, SessionOptions},
};
use std::{path::Path, time::Instant};

pub fn run(folder: &Path) -> Result<()> {
    let program = compile("pairs", Frames::Pointers, folder)?;
    println!("\n| ms | load | attach | detach |");
    println!("|---|---|---|---|");
    for count in [1, 200] {
        let mut targets = (0..count).map(|_| Target::start(&program)).collect::<Result<Vec<_>>>()?;
        // Past the dynamic loader.
        for target in &mut targets {
            target.pairs(20)?;
        }
        let (mut load, mut attach, mut detach) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds()? {
            let before = Instant::now();
            let (mut session, _events) = Session::new(&SessionOptions {
                all: false,
                follow: true,
                exact_children: false,
                stacks: StackMode::Auto,
                sizes: MapSizes::default(),
                growth: true,
                faults: false,
                calls: Calls::Summed,
                mode: heaptrace::model::Mode::Exact,
                members: None,
                size_filter: None,
                keep_old: None,
                limits: Limits::default(),
                own_samples: false,
                served: false,
                log: false,
            })?;
            load.push(before.elapsed().as_secs_f64() * 1e3);
            let before = Instant::now();
            for target in &targets {
                session.add_pid(target.pid())?;
            }
            attach.push(before.elapsed().as_secs_f64() * 1e3);
            for target in &targets {
                ensure!(target.changed_bytes()? > 0, "process {} has no probes", target.pid());
            }
            detach.push(session.detach() * 1e3);
            for target in &mut targets {
                ensure!(target.changed_bytes()? == 0, "probes are left in process {}", target.pid());
                // It still runs.
                target.pairs(20)?;
            }
        }
        println!(
            "| {count} process{} | {} | {} | {} |",
            if count == 1 { "" } else { "es" },
            spread(&load),
            spread(&attach),
            spread(&detach)
        );
    }
    Ok(())
}
