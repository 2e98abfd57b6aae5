//! `heaptrace record`: traces until told to stop, and writes what it saw to a file.

mod args;
mod peaks;

pub use args::RecordArgs;

use super::{
    marks::Marks,
    outside::open_output,
    progress::Progress,
    target_args::{FollowArgs, session_options},
    trace_args::{Besides, Tracing},
    tracing::{Prepared, exit_code, say_end},
    work::Work,
};
use crate::printable::say;
use crate::{
    engine::{Chunks, Engine, Looks},
    file::FileWriter,
    model::Mode,
    report::lost_in_short,
    session::SessionOptions,
};
use anyhow::Context as _;
use indicatif::HumanCount;
use peaks::Peaks;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// How often what is new is written: what a killed recorder loses at most.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Reading so many live blocks takes a second and more, in which nothing else is shown.
const MANY_BLOCKS: u64 = 2_000_000;

/// What a failure to write means.
const CUT_SHORT: &str = "the recording ends early, and can be read up to here";

/// Runs `heaptrace record`.
///
/// # Errors
/// If nothing can be traced ([`crate::error::CannotTrace`] is the cause), or the file cannot be written.
pub fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let RecordArgs {
        target,
        output,
        follow,
        trace,
        faults,
        threads,
        lifetimes,
        check_frees,
        no_rss,
        filter,
        stacks,
        sizes,
        verbose,
    } = args;
    let target = target.target()?;
    let besides = Besides { threads, frees: check_frees, lifetimes };
    let mut tracing = Tracing { besides, ..trace.of(&target)? };
    if tracing.mode == Mode::Growth && faults {
        tracing.mode = Mode::Faults;
    }
    let options = session_options(&target, &follow, &filter, &sizes, Some(&stacks), tracing)?;
    let options = SessionOptions { faults, log: verbose.bpf(), ..options };
    let FollowArgs { duration, kill, propagate_exit, .. } = follow;
    let place = open_output(&output)?;
    let mut prepared = Prepared::new("record", target, &options)?;
    // What memory consists of is told by blocks.
    let measures = !no_rss && options.mode == Mode::Exact;
    let blocks = options.mode.has_blocks();
    // Where frees are not traced nothing is ever less than it was.
    let peaks = options.mode.has_frees();
    prepared.engine.look_into(Looks { memory: measures, unmapped: blocks, often: peaks });
    let start = prepared.engine.start();
    let writer = FileWriter::create_at(place, &output, &start).context("no recording was made")?;
    let marks = Marks::listen();
    let (progress, peaks) = (Progress::new(), Peaks::new());
    let mut recording = Recording { writer, progress, blocks, last_write: None, marks, peaks, looked_at: 0 };
    let mut running = prepared.begin(duration, kill)?;
    let why = running.follow(None, &mut recording)?;
    drop(recording.progress);
    let (mut writer, mut marks) = (recording.writer, recording.marks);
    let live = running.engine.session().outstanding_blocks();
    if live > MANY_BLOCKS {
        say(format_args!("{why}; reading {} live blocks", HumanCount(live)));
    }
    if measures {
        // While the numbers of the blocks are still of this moment.
        running.engine.measure_all();
    }
    running.detach();
    let mut chunk = running.engine.finish()?;
    marks.put(marks.come(), &mut chunk);
    // What comes from now on would be lost.
    drop(marks);
    let events = chunk.coverage.events;
    let lost = lost_in_short(&chunk.coverage).map_or_else(String::new, |lost| format!("; {lost}"));
    writer.append(&chunk).context(CUT_SHORT)?;
    writer.append_memory(&running.engine.measured()).context(CUT_SHORT)?;
    // Last, as it may take long: all that was traced is written by now.
    writer.append_names(running.engine.names()).context(CUT_SHORT)?;
    let written = writer.written();
    let kept = writer.finish()?;
    if let Some(kept) = &kept {
        say(format_args!(
            "{} was deleted while recording; what it held is in {} now",
            output.display(),
            kept.display()
        ));
    }
    let output = kept.unwrap_or(output);
    let ended = running.end_of_command(why);
    say_end(
        ended.as_ref(),
        format_args!("{why}; {events} events, {written} bytes in {}{lost}", output.display()),
    );
    if events == 0 {
        let what = match options.mode {
            Mode::Sampled(_) | Mode::Native => "sample",
            mode if mode.has_blocks() => "allocation",
            _ => "call that maps memory",
        };
        say(format_args!("no {what} was seen; `heaptrace report` says what was looked at"));
    }
    Ok(exit_code(ended.as_ref(), propagate_exit))
}

struct Recording {
    writer: FileWriter,
    progress: Progress,
    /// They are traced.
    blocks: bool,
    /// `None` before the first, which comes early: a recorder that is killed soon is to leave something.
    last_write: Option<Instant>,
    marks: Marks,
    peaks: Peaks,
    /// What was live at the last look, before the maps were read.
    looked_at: u64,
}

impl Recording {
    /// Writes what is new, as of when the maps were last read; `named` are marks of this moment.
    fn save(&mut self, engine: &mut Engine<Chunks>, named: Vec<String>) -> anyhow::Result<()> {
        self.last_write = Some(Instant::now());
        let mut chunk = engine.chunk()?;
        self.marks.put(named, &mut chunk);
        self.writer.append(&chunk).context(CUT_SHORT)?;
        self.writer.append_memory(&engine.measured()).context(CUT_SHORT)?;
        let (live, ..) = engine.session().glance();
        // Counters are read one after the other: what came meanwhile may be in this sum, and in no site of the state.
        self.peaks.saved(live.min(self.looked_at));
        Ok(())
    }
}

impl Work for Recording {
    type Form = Chunks;

    fn tick(&mut self, engine: &mut Engine<Chunks>) -> anyhow::Result<()> {
        let (live, events, lost) = engine.session().glance();
        let cost = engine.session().recent_overhead();
        let (live, paused) = (self.blocks.then_some(live), engine.session().paused());
        self.progress.show(engine.followed(), live, (events, lost), cost, paused);
        let named = self.marks.come();
        // A mark is of a state that is saved.
        if !named.is_empty() || self.last_write.is_none_or(|last| last.elapsed() >= WRITE_EVERY) {
            self.save(engine, named)?;
        }
        Ok(())
    }

    fn looked(&mut self, engine: &mut Engine<Chunks>) -> anyhow::Result<()> {
        self.looked_at = engine.session().live_now();
        if self.peaks.wants(self.looked_at, engine.followed()) {
            let before = Instant::now();
            engine.read_maps();
            let marks = self.marks.come();
            self.save(engine, marks)?;
            self.peaks.spent(before.elapsed());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Usage, session::SessionOptions};

    fn options(line: &str) -> Result<SessionOptions, Usage> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RecordArgs,
        }
        let Line { args } = <Line as clap::Parser>::try_parse_from(line.split(' ')).expect("a good line");
        let RecordArgs { target, follow, trace, filter, stacks, sizes, .. } = args;
        let target = target.target().expect("a target");
        session_options(&target, &follow, &filter, &sizes, Some(&stacks), trace.of(&target)?)
    }

    #[test]
    fn a_mode_without_blocks_places_no_probe_and_takes_no_choice_of_blocks() {
        assert_eq!(options("record -- true").expect("exact").mode, Mode::Exact);
        let growth = options("record --trace growth -- true").expect("growth");
        assert!(growth.mode == Mode::Growth && !growth.exact_children && growth.growth);
        assert_eq!(options("record --trace faults -a").expect("faults").mode, Mode::Faults);
        for (option, named) in [("--no-growth", "--no-growth"), ("--min-size 1k", "--min-size")] {
            let Err(Usage(said)) = options(&format!("record --trace growth {option} -- true")) else {
                panic!("{option} is taken")
            };
            assert!(said.contains(named), "{said}");
            assert!(options(&format!("record {option} -- true")).is_ok());
        }
    }
}
