//! What a malloc and a free cost where many blocks are live and any of them may be the next to go: the processor has few of
//! the live table's lines at hand.

use crate::{
    cost::{Empty, VERIFIED, session},
    figures::{rounds, spread},
    target::{Frames, Target, compile},
};
use anyhow::{Result, ensure};
use heaptrace::bpf::StackMode;
use std::path::Path;

pub const BLOCKS: u64 = 1_000_000;

/// Replacements of one measurement: about half a second each.
const UNTRACED: u32 = 3_000_000;
pub const TRACED: u32 = 200_000;

/// Starts the program, with its blocks in place.
pub fn start(folder: &Path) -> Result<Target> {
    let mut target = Target::start(&compile("live", Frames::Pointers, folder)?)?;
    let answer = target.ask(&BLOCKS.to_string())?;
    ensure!(answer == "ready", "the target said {answer}");
    Ok(target)
}

/// Nanoseconds a replacement; all blocks were replaced before, so that whoever traces knows them.
pub fn replacements(target: &mut Target, count: u32) -> Result<f64> {
    target.pairs(0)?;
    target.pairs(count)
}

#[derive(Default)]
struct Series {
    nothing: Vec<f64>,
    empty: Vec<f64>,
    exact: Vec<f64>,
    no_stacks: Vec<f64>,
}

pub fn run(folder: &Path) -> Result<()> {
    let mut target = start(folder)?;
    let mut series = Series::default();
    for _ in 0..rounds()? {
        round(&mut target, &mut series)?;
    }
    println!("\n| {BLOCKS} live blocks, replaced in random order | ns per free and malloc |");
    println!("|---|---|");
    for (name, values) in [
        ("not traced", &series.nothing),
        ("empty programs at heaptrace's sites", &series.empty),
        ("heaptrace, exact, with stacks", &series.exact),
        ("heaptrace --stack none", &series.no_stacks),
    ] {
        println!("| {name} | {} |", spread(values));
    }
    Ok(())
}

fn round(target: &mut Target, series: &mut Series) -> Result<()> {
    series.nothing.push(replacements(target, UNTRACED)?);
    {
        let _empty = Empty::attach(target)?;
        series.empty.push(target.pairs(TRACED)?);
    }
    for (stacks, costs) in [(StackMode::Auto, &mut series.exact), (StackMode::None, &mut series.no_stacks)] {
        let mut session = session(stacks, target, &VERIFIED.to_string())?;
        let cost = replacements(target, TRACED)?;
        session.detach();
        costs.push(cost);
        session.drain();
        let (bytes, _, lost) = session.glance();
        // Each has 17 bytes and more.
        ensure!(lost == 0 && bytes >= 17 * BLOCKS, "{bytes} bytes are live, {lost} events lost");
    }
    Ok(())
}
