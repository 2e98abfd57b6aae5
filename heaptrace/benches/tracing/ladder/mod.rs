//! What programs keep of their throughput under each mode of tracing and under other tools, and what those take beside.

mod loads;

use crate::{
    figures::{median, rounds, spread},
    memleak::{self, Memleak},
    recorder::{Recorder, Usage, own},
};
use anyhow::{Context as _, Result, ensure};
use loads::{LOADS, Load, Running};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Tool {
    /// Nothing, again: how much a machine's figures differ.
    Nothing,
    /// `heaptrace record` with these options.
    Heaptrace(&'static [&'static str]),
    /// As the environment names it: attached, too.
    Memleak,
    /// It starts the program; in each round a new one. The file is there where the tool is.
    Starts(&'static str, &'static [&'static str]),
}

/// Debian's.
macro_rules! heaptrack {
    () => {
        "/usr/lib/heaptrack/libheaptrack_preload.so"
    };
}
const HEAPTRACK: &str = heaptrack!();

const TOOLS: [(&str, Tool); 11] = [
    ("none", Tool::Nothing),
    ("growth", Tool::Heaptrace(&["--trace", "growth"])),
    ("faults", Tool::Heaptrace(&["--trace", "faults"])),
    ("sampled within 5%", Tool::Heaptrace(&["--trace", "sampled", "--budget", "5%"])),
    ("sampled", Tool::Heaptrace(&["--trace", "sampled"])),
    ("sampled --frees", Tool::Heaptrace(&["--trace", "sampled", "--frees"])),
    ("allocs", Tool::Heaptrace(&["--trace", "allocs"])),
    ("exact", Tool::Heaptrace(&["--trace", "exact"])),
    ("memleak", Tool::Memleak),
    // Its script gives the program no standard input.
    (
        "heaptrack",
        Tool::Starts(HEAPTRACK, &["env", concat!("LD_PRELOAD=", heaptrack!()), "DUMP_HEAPTRACK_OUTPUT=FILE"]),
    ),
    (
        "massif",
        Tool::Starts("/usr/bin/valgrind", &["valgrind", "-q", "--tool=massif", "--massif-out-file=FILE"]),
    ),
];

/// Past the calls in which functions are verified, and what is measured then: of a budget, a whole period. In seconds.
const BEFORE: f64 = 0.7;
const TIME: f64 = 2.0;
const PERIOD: f64 = 10.0;

/// Of one tool and one program.
#[derive(Default)]
struct Figures {
    /// Percent, a round each.
    kept: Vec<f64>,
    /// Of the tool itself: percent of a processor, and peak MB.
    cpu: Vec<f64>,
    memory: Vec<f64>,
}

pub fn run(folder: &Path) -> Result<()> {
    // As postgres, which is another user's, opens what is in it.
    let wanted = env::var("HEAPTRACE_BENCH_LOADS").unwrap_or_default();
    let loads = LOADS
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.split(',').any(|part| name.contains(part)));
    let mut figures: BTreeMap<usize, Vec<(&str, Figures)>> = BTreeMap::new();
    let mut frames = Vec::new();
    println!("\nThroughput that is left, in percent of what it is without\n");
    println!("| | {} |", TOOLS.map(|(name, _)| name).join(" | "));
    println!("|---|{}", "---|".repeat(TOOLS.len()));
    for (name, load) in loads {
        let of = measure(*load, folder, &mut frames).with_context(|| (*name).to_owned())?;
        let cells =
            of.iter().map(|figures| if figures.kept.is_empty() { "-".into() } else { spread(&figures.kept) });
        println!("| {name} | {} |", cells.collect::<Vec<String>>().join(" | "));
        for (at, of) in of.into_iter().enumerate() {
            figures.entry(at).or_default().push((name, of));
        }
    }
    println!("\nWhat the tool itself takes beside: percent of a processor, and peak memory in MB\n");
    println!("| | program with the most | processor | memory |\n|---|---|---|---|");
    for (at, of) in figures {
        let most = of.iter().filter(|(_, figures)| !figures.cpu.is_empty());
        let Some((name, most)) = most.max_by(|a, b| median(&a.1.cpu).total_cmp(&median(&b.1.cpu))) else {
            continue;
        };
        println!("| {} | {name} | {} | {} |", TOOLS[at].0, spread(&most.cpu), spread(&most.memory));
    }
    println!("\nFrames a stack, of an exact recording: {}", frames.join("; "));
    Ok(())
}

fn measure(load: Load, folder: &Path, frames: &mut Vec<String>) -> Result<Vec<Figures>> {
    let mut all: Vec<Figures> = TOOLS.iter().map(|_| Figures::default()).collect();
    let at = folder.join(format!("{load:?}").replace(|c: char| !c.is_alphanumeric(), ""));
    fs::create_dir_all(&at)?;
    let mut running = load.start(&[], &at)?;
    let rounds = rounds()?;
    for round in 0..rounds {
        running.work(BEFORE)?;
        let bare = running.work(TIME)?;
        ensure!(bare > 0.0, "nothing was done");
        for (of, (name, tool)) in all.iter_mut().zip(TOOLS) {
            let file = at.join("recording");
            let done = match tool {
                Tool::Nothing => Some((running.work(TIME)?, None)),
                Tool::Heaptrace(options) => {
                    let time = if name.contains("within") { PERIOD } else { TIME };
                    let done = recorded(&mut running, options, &file, time)?;
                    if name == "exact" && round == 0 {
                        frames.push(format!("{load:?} {:.1}", frames_a_stack(&file)?));
                    }
                    Some(done)
                }
                Tool::Memleak => by_memleak(&mut running)?,
                // The shortest: they are slow, and start anew.
                // Postgres works in processes that it forks, as another user, which these tools cannot follow.
                Tool::Starts(needs, words)
                    if Path::new(needs).exists() && !matches!(load, Load::Postgres) =>
                {
                    Some((started(load, words, &at)?, None))
                }
                Tool::Starts(..) => None,
            };
            let Some((done, usage)) = done else { continue };
            of.kept.push(100.0 * done / bare);
            if let Some((usage, took)) = usage {
                of.cpu.push(100.0 * usage.cpu_s / took);
                of.memory.push(usage.peak_mb);
            }
            eprintln!("{load:?}, {name}: {:.1} %", 100.0 * done / bare);
        }
    }
    Ok(all)
}

/// What was done, and what the tool took in how many seconds.
type Done = (f64, Option<(Usage, f64)>);

fn recorded(running: &mut Running, options: &[&str], file: &Path, time: f64) -> Result<Done> {
    let began = Instant::now();
    let recorder = Recorder::start(own(), running.pid(), options, file)?;
    running.work(BEFORE)?;
    let done = running.work(time)?;
    let usage = recorder.stop()?;
    Ok((done, Some((usage, began.elapsed().as_secs_f64()))))
}

fn by_memleak(running: &mut Running) -> Result<Option<Done>> {
    let (Some(words), Running::Told { .. }) = (memleak::command(), &*running) else { return Ok(None) };
    let _memleak = Memleak::of(&words, running.pid())?;
    // It doesn't say when it is ready.
    thread::sleep(Duration::from_secs(6));
    Ok(Some((running.work(TIME)?, None)))
}

/// What is done of a load that another program starts.
fn started(load: Load, words: &[&str], folder: &Path) -> Result<f64> {
    let own = folder.join("started");
    // Of the time before nothing is left.
    let _ = fs::remove_dir_all(&own);
    fs::create_dir_all(&own)?;
    let file = own.join("out").display().to_string();
    let by: Vec<OsString> = words.iter().map(|word| word.replace("FILE", &file).into()).collect();
    let mut running = load.start(&by, &own)?;
    running.work(BEFORE)?;
    running.work(TIME)
}

/// Frames of all stacks of a recording, weighted by their allocations.
fn frames_a_stack(file: &Path) -> Result<f64> {
    let output =
        Command::new(own()).args(["report", "--format", "json", "--view", "alloc"]).arg(file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let sites = report["sites"].as_array().context("no sites")?;
    let (mut frames, mut count) = (0.0, 0.0);
    for site in sites {
        let allocations = site["alloc_count"].as_f64().unwrap_or_default();
        frames += allocations * site["stack"].as_array().map_or(0, Vec::len) as f64;
        count += allocations;
    }
    Ok(frames / count)
}
