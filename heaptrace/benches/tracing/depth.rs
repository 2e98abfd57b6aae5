//! What walking a stack costs, by its depth, beside the kernel's own walk.

use crate::{
    cost::{Empty, VERIFIED, session},
    figures::{rounds, spread},
    stack_id::{Does, StackIdProbe},
    target::{Frames, Target, compile},
};
use anyhow::{Context as _, Result, ensure};
use heaptrace::bpf::StackMode;
use heaptrace_common::function::Function;
use std::path::Path;

/// Recursions; the frames of main and of what started it come on top.
const DEPTHS: [usize; 3] = [5, 20, 60];
const PAIRS: u32 = 100_000;

#[derive(Default)]
struct Series {
    /// An allocation and a free under heaptrace, whole stacks.
    exact: Vec<f64>,
    /// Of that, what the walk takes: the difference to no stacks.
    walk: Vec<f64>,
    /// What `bpf_get_stackid` takes: the difference to an empty program at the same place.
    stack_id: Vec<f64>,
}

pub fn run(folder: &Path) -> Result<()> {
    println!("\n| recursion depth | program | ns per malloc and free | walk by tables | `bpf_get_stackid` |");
    println!("|---|---|---|---|---|");
    for frames in [Frames::Pointers, Frames::NoPointers] {
        let program = compile("depth", frames, folder)?;
        let mut target = Target::start(&program)?;
        for depth in DEPTHS {
            let mut series = Series::default();
            for _ in 0..rounds()? {
                round(&mut target, depth, &mut series)?;
            }
            let Series { exact, walk, stack_id } = &series;
            println!(
                "| {depth} | {frames:?} | {} | {} | {} |",
                spread(exact),
                spread(walk),
                spread(stack_id)
            );
        }
    }
    Ok(())
}

fn round(target: &mut Target, depth: usize, series: &mut Series) -> Result<()> {
    let pairs = |target: &mut Target| -> Result<f64> {
        target.ask(&format!("{depth} {PAIRS}"))?.parse().context("the target gave no number")
    };
    let mut under_heaptrace = |stacks| -> Result<f64> {
        let mut session = session(stacks, target, &format!("{depth} {VERIFIED}"))?;
        let cost = pairs(target)?;
        session.detach();
        session.drain();
        let (_, _, lost) = session.glance();
        ensure!(lost == 0, "{lost} events were lost");
        Ok(cost)
    };
    let (none, exact) = (under_heaptrace(StackMode::None)?, under_heaptrace(StackMode::Auto)?);
    series.exact.push(exact);
    series.walk.push(exact - none);
    let plan = target.plan()?;
    let (file, probe) = plan
        .iter()
        .find_map(|file| Some((file, file.probes.iter().find(|probe| probe.function == Function::Malloc)?)))
        .context("no malloc to probe")?;
    let offset = probe.entered.as_ref().map_or(probe.entry, |entered| entered.offset);
    let _empty = Empty::attach(target)?;
    let mut beside = |does| -> Result<f64> {
        let _probe = StackIdProbe::place(does, &file.file.attach_path(), offset, target.pid())?;
        pairs(target)
    };
    let (nothing, stack_id) = (beside(Does::Nothing)?, beside(Does::StackId)?);
    series.stack_id.push(stack_id - nothing);
    Ok(())
}
