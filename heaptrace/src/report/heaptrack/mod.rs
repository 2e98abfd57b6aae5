//! heaptrack's data file, as its interpreter hands it on: stacks, then each allocation and each free. What a recording has
//! is sums, so blocks are made up that come to them: see [`plan`].

mod plan;
mod traces;

#[cfg(test)]
mod tests;

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::Labels;
use super::remarks::{command, of_peak, remarks, title};
use super::stacks::{Measure, Row, Stacks};
use crate::model::{Moment, Profile};
use crate::units::thousands;
use flate2::{Compression, write::GzEncoder};
use plan::{Blocks, Fate, Plan};
use std::io::{self, Write};
use traces::Traces;

pub(super) const EXPORT: Export = Export {
    name: "heaptrack",
    help: "Data file of heaptrack, in gzip, for heaptrack_gui and heaptrack_print.",
    // By the last ending its readers know that it is compressed.
    files: &["*.heaptrack.gz"],
    content: Content::Stacks,
    is_binary: true,
    past: Past::Peak,
    tells_losses: true,
    render,
};

/// Allocations written at most: as each is a line, and one more when it is freed, this is a gigabyte to go through for
/// whoever reads it. Beyond that, one stands for several.
const MOST: u64 = 100_000_000;

/// The format of heaptrack 1.0, which all later ones read: its version, and that of the file.
const VERSION: &str = "v 10000 1";

/// What recordings count resident memory in here.
const PAGE: u64 = 4096;

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    render_at_most(profile, options, MOST, out)
}

fn render_at_most(
    profile: &Profile,
    options: &Options,
    most: u64,
    out: &mut dyn Write,
) -> io::Result<Untold> {
    let mut stacks = Stacks::new(profile, options);
    let live = stacks.measures.iter().position(|measure| *measure == Measure::Live);
    let history = profile.history.as_ref().filter(|_| live.is_some());
    let peak = history.and_then(|history| history.peak.as_ref());
    let at_peak = peak.map(|peak| Stacks::at_peak(profile, options, peak).amounts());
    let peak_of =
        |row: &Row| at_peak.as_ref().map(|at| at.get(&(row.process, row.stack)).copied().unwrap_or_default());
    stacks.retain(|row| {
        row.reaches(options.min_bytes) || peak_of(row).is_some_and(|peak| peak.bytes >= options.min_bytes)
    });
    let labels = Labels::new(profile);
    let frames = |row: &Row| labels.frames(row.stack).iter().rev();
    stacks.rows.sort_by(|one, other| {
        (one.process, labels.end(one.stack))
            .cmp(&(other.process, labels.end(other.stack)))
            .then_with(|| frames(one).cmp(frames(other)))
    });
    let plan_of = |row: &Row| {
        // What has no end is there in it.
        let end = row.amounts[live.unwrap_or_default()];
        Plan::new(row.amounts[0], peak_of(row).unwrap_or(end), end)
    };
    let events: u128 = stacks.rows.iter().map(|row| plan_of(row).count()).sum();
    let plan_of = |row: &Row| plan_of(row).scaled(most, events);

    let mut lines = remarks(&stacks);
    lines.insert(0, title(profile.mode, stacks.measures[stacks.main], true));
    lines.extend(of_peak(&stacks));
    lines.push("blocks of a stack are made equally large, and what was freed is freed at once".to_owned());
    if events > most.into() {
        let (all, most) = (thousands(u64::try_from(events).unwrap_or(u64::MAX)), thousands(most));
        lines.push(format!("{all} allocations are written as some {most}: counts are too small by as much"));
    }
    let highest = stacks.rows.iter().fold(0, |sum: u64, row| {
        let end = row.amounts[live.unwrap_or_default()];
        sum.saturating_add(peak_of(row).unwrap_or(end).bytes)
    });
    let out = GzEncoder::new(out, Compression::fast());
    let mut writer = Writer { out, highest, pending: None, kinds: Vec::new(), told: 0 };
    writeln!(writer.out, "{VERSION}\nX {} ({})\nI {PAGE:x} 0", command(&stacks), lines.join("; "))?;

    let mut traces = Traces::new(&labels);
    let mut first = Vec::with_capacity(stacks.rows.len());
    for row in &stacks.rows {
        let trace = traces.of(row, &stacks, &mut writer.out)?;
        let plan = plan_of(row);
        first.push(writer.kinds.len());
        writer.kinds.extend(plan.kinds().map(|size| Kind { size, trace, number: None }));
    }
    let rows = || stacks.rows.iter().zip(&first).map(|(row, first)| (plan_of(row), *first));
    for (plan, first) in rows() {
        writer.pass(&plan, first)?;
    }
    let moments = history.map_or(&[][..], |history| &history.moments);
    let peak_ns = peak.map_or(profile.duration_ns, |peak| peak.at_ns);
    let mut clock = Clock::default();
    for moment in moments.iter().filter(|moment| moment.at_ns <= peak_ns) {
        clock.moment(moment, &mut writer.out)?;
    }
    clock.to(peak_ns, &mut writer.out)?;
    for (plan, first) in rows() {
        writer.each('+', &plan, first, Fate::AtPeak)?;
    }
    for (plan, first) in rows() {
        writer.each('+', &plan, first, Fate::Kept)?;
    }
    writer.free_pending()?;
    for moment in moments.iter().filter(|moment| moment.at_ns > peak_ns) {
        clock.moment(moment, &mut writer.out)?;
    }
    clock.to(profile.duration_ns, &mut writer.out)?;
    for (plan, first) in rows() {
        writer.each('-', &plan, first, Fate::AtPeak)?;
    }
    for (plan, first) in rows() {
        writer.each('+', &plan, first, Fate::After)?;
    }
    writer.out.finish()?;
    Ok(None)
}

/// Tells the time, which does not go back.
#[derive(Default)]
struct Clock {
    ms: u64,
}

impl Clock {
    fn to(&mut self, at_ns: u64, out: &mut impl Write) -> io::Result<()> {
        self.ms = self.ms.max(at_ns / 1_000_000);
        writeln!(out, "c {:x}", self.ms)
    }

    fn moment(&mut self, moment: &Moment, out: &mut impl Write) -> io::Result<()> {
        self.to(moment.at_ns, out)?;
        writeln!(out, "R {:x}", moment.rss_bytes / PAGE)
    }
}

/// What blocks of one size and stack are.
struct Kind {
    size: u64,
    trace: u64,
    /// Once it is told.
    number: Option<u64>,
}

/// A block that is written down: its kind by place, and its size.
#[derive(Clone, Copy)]
struct Block {
    kind: usize,
    size: u64,
}

struct Writer<'o> {
    out: GzEncoder<&'o mut dyn Write>,
    /// Bytes that are to be there at one time at most, if that can be.
    highest: u64,
    /// Allocated, and to be freed after the next one: heaptrack takes a block that is freed right after it came for a
    /// temporary one, and which were is not known.
    pending: Option<Block>,
    kinds: Vec<Kind>,
    /// How many of them are told.
    told: u64,
}

impl Writer<'_> {
    /// The number of a kind, which is told before its first block comes, as heaptrack does it. Its viewer takes a first block of
    /// any but the next kind for one of a kind that it knows, and writes beside its table (`handleAllocation`,
    /// src/analyze/gui/parser.cpp; 1.4.0 crashes).
    fn number(&mut self, kind: usize) -> io::Result<u64> {
        let Kind { size, trace, number } = &mut self.kinds[kind];
        if let Some(number) = number {
            return Ok(*number);
        }
        writeln!(self.out, "a {size:x} {trace:x}")?;
        let told = self.told;
        *number = Some(told);
        self.told += 1;
        Ok(told)
    }

    /// What came and went of a row.
    fn pass(&mut self, plan: &Plan, first: usize) -> io::Result<()> {
        for Blocks { kind, size, count } in plan.blocks(Fate::Passing) {
            // Of their two kinds in turn: kinds are what is told apart.
            for turn in 0..count {
                self.come_and_go(Block { kind: first + kind + usize::from(turn % 2 == 1), size })?;
            }
        }
        Ok(())
    }

    fn come_and_go(&mut self, block: Block) -> io::Result<()> {
        self.make_room(block.size)?;
        let number = self.number(block.kind)?;
        writeln!(self.out, "+ {number:x}")?;
        self.free_pending()?;
        self.pending = Some(block);
        Ok(())
    }

    fn make_room(&mut self, size: u64) -> io::Result<()> {
        match self.pending {
            Some(before) if before.size.saturating_add(size) > self.highest => self.free_pending(),
            _ => Ok(()),
        }
    }

    fn free_pending(&mut self) -> io::Result<()> {
        match self.pending.take() {
            Some(before) => {
                let number = self.number(before.kind)?;
                writeln!(self.out, "- {number:x}")
            }
            None => Ok(()),
        }
    }

    /// All blocks of a row that have this fate come (`+`) or go (`-`).
    fn each(&mut self, what: char, plan: &Plan, first: usize, fate: Fate) -> io::Result<()> {
        for Blocks { kind, size, count } in plan.blocks(fate) {
            self.make_room(size)?;
            let line = format!("{what} {:x}\n", self.number(first + kind)?);
            for _ in 0..count {
                self.out.write_all(line.as_bytes())?;
                // The last one of those that came and went.
                self.free_pending()?;
            }
        }
        Ok(())
    }
}
