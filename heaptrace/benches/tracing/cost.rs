//! What a malloc and a free cost: alone, with empty probes, under heaptrace, and under memleak.

use crate::{
    figures::{median, ratio, rounds, spread},
    memleak::{self, Memleak},
    stack_id::{Does, StackIdProbe},
    statistics::Counting,
    target::{Frames, Target, compile},
};
use anyhow::{Context as _, Result, ensure};
use heaptrace::{
    bpf::{Calls, EmptyProbes, MapSizes, PlacedSite, StackMode},
    model::{Mode, Sampling},
    probes::{plan::FilePlan, probe::Site},
    session::{Limits, Session, SessionOptions},
};
use heaptrace_common::function::Function;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use std::{path::Path, thread, time::Duration};

/// Pairs of one measurement: about half a second each.
const UNTRACED: u32 = 20_000_000;
const TRACED: u32 = 200_000;
const MEMLEAK: u32 = 40_000;

#[derive(Default)]
struct Series {
    nothing: Vec<f64>,
    returns: Vec<f64>,
    empty: Vec<f64>,
    exact: Vec<f64>,
    frame_pointers: Vec<f64>,
    no_stacks: Vec<f64>,
    allocs: Vec<f64>,
    sampled_with_frees: Vec<f64>,
    sampled: Vec<f64>,
    memleak: Vec<f64>,
}

pub fn run(folder: &Path) -> Result<()> {
    let memleak = memleak::command();
    let mut columns = Vec::new();
    for frames in [Frames::Pointers, Frames::NoPointers] {
        let mut target = Target::start(&compile("pairs", frames, folder)?)?;
        let mut series = Series::default();
        for _ in 0..rounds()? {
            round(&mut target, memleak.as_deref(), &mut series)?;
        }
        columns.push((frames, series, in_programs(&mut target)?));
    }
    println!("\n| ns per malloc and free | frame pointers | none |");
    println!("|---|---|---|");
    let row = |name: &str, of: &dyn Fn(&Series) -> String| {
        let cells: Vec<String> = columns.iter().map(|(_, series, _)| of(series)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    };
    let measured = |values: &[f64]| {
        if values.is_empty() { "not measured".to_owned() } else { spread(values) }
    };
    row("(a) not traced", &|series| measured(&series.nothing));
    row("(b) empty programs at malloc's entry and return, and at free", &|series| measured(&series.returns));
    row("empty programs at heaptrace's sites", &|series| measured(&series.empty));
    row("(c) heaptrace, exact, with stacks", &|series| measured(&series.exact));
    row("heaptrace --stack fp", &|series| measured(&series.frame_pointers));
    row("heaptrace --stack none", &|series| measured(&series.no_stacks));
    row("heaptrace --trace sampled --frees", &|series| measured(&series.sampled_with_frees));
    row("heaptrace --trace allocs", &|series| measured(&series.allocs));
    row("heaptrace --trace sampled", &|series| measured(&series.sampled));
    row("(d) memleak", &|series| measured(&series.memleak));
    row("(c) / (b)", &|series| format!("{:.2}", ratio(&series.exact, &series.returns)));
    let of_returns = |values: &[f64], series: &Series| format!("{:.2}", ratio(values, &series.returns));
    row("--stack none / (b)", &|series| of_returns(&series.no_stacks, series));
    row("sampled --frees / (b)", &|series| of_returns(&series.sampled_with_frees, series));
    row("allocs / (b)", &|series| of_returns(&series.allocs, series));
    row("sampled / (b)", &|series| of_returns(&series.sampled, series));
    if memleak.is_some() {
        row("(c) / (d)", &|series| format!("{:.3}", ratio(&series.exact, &series.memleak)));
    }
    println!("\n| in BPF programs, ns a pair, by the kernel's count | empty | heaptrace |");
    println!("|---|---|---|");
    for (frames, _, (empty, exact)) in &columns {
        println!("| {frames:?} | {empty:.0} | {exact:.0} |");
    }
    Ok(())
}

fn round(target: &mut Target, memleak: Option<&[String]>, series: &mut Series) -> Result<()> {
    series.nothing.push(target.pairs(UNTRACED)?);
    {
        let _returns = WithReturns::attach(target)?;
        series.returns.push(target.pairs(TRACED)?);
    }
    {
        let _empty = Empty::attach(target)?;
        series.empty.push(target.pairs(TRACED)?);
    }
    let sampled = |frees| Mode::Sampled(Sampling { mean: 512 << 10, frees });
    for (mode, stacks, costs) in [
        (Mode::Exact, StackMode::Auto, &mut series.exact),
        (Mode::Exact, StackMode::FramePointers, &mut series.frame_pointers),
        (Mode::Exact, StackMode::None, &mut series.no_stacks),
        (Mode::Allocs, StackMode::Auto, &mut series.allocs),
        (sampled(true), StackMode::Auto, &mut series.sampled_with_frees),
        (sampled(false), StackMode::Auto, &mut series.sampled),
    ] {
        let mut session = session_in(mode, stacks, target, &VERIFIED.to_string())?;
        let cost = target.pairs(TRACED)?;
        session.detach();
        costs.push(cost);
        // All was accounted for, or the cost is of something else. One in 20 more is to warm up.
        session.drain();
        let (_, events, lost) = session.glance();
        let calls = u64::from(TRACED + TRACED / 20);
        let expected = match mode {
            Mode::Exact => 2 * calls,
            Mode::Allocs => calls,
            // Of blocks of 80 bytes on average.
            _ => calls * 80 / (512 << 10) / 2,
        };
        ensure!(lost == 0 && events >= expected, "{events} events of {expected}, {lost} lost");
    }
    if let Some(words) = memleak {
        let _memleak = Memleak::attach(words, target)?;
        series.memleak.push(target.pairs(MEMLEAK)?);
    }
    ensure!(target.changed_bytes()? == 0, "probes are left in the target");
    eprintln!(
        "round {}: {:.0} {:.0} {:.0}",
        series.exact.len(),
        series.empty[series.empty.len() - 1],
        series.exact[series.exact.len() - 1],
        median(&series.memleak)
    );
    Ok(())
}

/// Calls after which malloc is no more verified, which costs a trap more.
pub const VERIFIED: u32 = 25_000;

/// Within which its entry is no more probed.
pub const LET_GO: Duration = Duration::from_millis(500);

/// A session that traces the target. `calls` is what to ask of it for [`VERIFIED`] calls.
pub fn session(stacks: StackMode, target: &mut Target, calls: &str) -> Result<Session> {
    session_in(Mode::Exact, stacks, target, calls)
}

fn session_in(mode: Mode, stacks: StackMode, target: &mut Target, calls: &str) -> Result<Session> {
    let options = SessionOptions {
        all: false,
        follow: true,
        exact_children: false,
        stacks,
        sizes: MapSizes::default(),
        growth: true,
        faults: false,
        calls: Calls::Summed,
        mode,
        members: None,
        size_filter: None,
        keep_old: None,
        limits: Limits::default(),
        own_samples: false,
        served: false,
        log: false,
    };
    let (mut session, _events) = Session::new(&options)?;
    session.add_pid(target.pid())?;
    target.ask(calls)?;
    session.drain();
    thread::sleep(LET_GO);
    Ok(session)
}

/// Nanoseconds a pair in empty programs, and in heaptrace's.
fn in_programs(target: &mut Target) -> Result<(f64, f64)> {
    let measure = |target: &mut Target| -> Result<f64> {
        let counting = Counting::start()?;
        target.pairs(TRACED)?;
        Ok(counting.stop()? / f64::from(TRACED + TRACED / 20))
    };
    let empty = {
        let _empty = Empty::attach(target)?;
        measure(target)?
    };
    let mut session = session(StackMode::Auto, target, &VERIFIED.to_string())?;
    let exact = measure(target)?;
    session.detach();
    Ok((empty, exact))
}

/// Programs that do nothing, on all sites that heaptrace would probe, by links of the same kind.
pub struct Empty {
    _probes: Vec<EmptyProbes>,
}

impl Empty {
    pub fn attach(target: &Target) -> Result<Self> {
        let place = |file: &FilePlan| {
            let sites = file.probes.iter().flat_map(|probe| &probe.sites);
            let placed = |site: &Site| PlacedSite { offset: site.offset, ..PlacedSite::default() };
            let sites: Vec<PlacedSite> = sites.map(placed).collect();
            EmptyProbes::place(true, &file.file.attach_path(), &sites, target.pid())
                .context("failed to place empty programs")
        };
        Ok(Self { _probes: target.plan()?.iter().map(place).collect::<Result<_>>()? })
    }
}

/// Programs that do nothing where a tracer with return probes has to have them: at malloc's entry and return, and at
/// the first instruction of free that the kernel emulates for all blocks. The measure of what tracing costs at least
/// without cuts.
struct WithReturns {
    _malloc: StackIdProbe,
    _free: StackIdProbe,
}

impl WithReturns {
    fn attach(target: &Target) -> Result<Self> {
        let plan = target.plan()?;
        let find = |function| {
            plan.iter()
                .find_map(|file| Some((file, file.probes.iter().find(|probe| probe.function == function)?)))
        };
        let (file, malloc) = find(Function::Malloc).context("no malloc to probe")?;
        let path = file.file.attach_path();
        let (of_free, free) = find(Function::Free).context("no free to probe")?;
        let code = of_free.file.read_at(free.entry, 64)?;
        let push = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE)
            .into_iter()
            .find(|instruction| instruction.mnemonic() == Mnemonic::Push)
            .context("free pushes nothing")?;
        let place = |does, path: &Path, offset| StackIdProbe::place(does, path, offset, target.pid());
        Ok(Self {
            _malloc: place(Does::NothingAtReturnToo, &path, malloc.entry)?,
            _free: place(Does::Nothing, &of_free.file.attach_path(), free.entry + push.ip())?,
        })
    }
}
