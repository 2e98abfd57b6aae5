//! What part of a recording's time to report on, and how that is read: a recording is saved every few seconds, and can be
//! read up to each time.

use super::{
    headings::SHOWN,
    recordings::{Read, cannot_read, read_until, until},
    target_args::parse_age,
};
use crate::{
    error::Usage,
    file::Source,
    model::{Amount, Earlier, Footprint as _, Mode, Part, PartKind, Profile, Symbol, Timeline},
    report::View,
    units::seconds,
};
use anyhow::bail;
use clap::Args;
use std::{ops::ControlFlow, path::Path, time::Duration};

#[derive(Clone, Debug, Default, Args)]
pub struct PartArgs {
    /// Show the state at this time after the start, e.g. 90s or 5m: the last one that was saved by then. Or at a mark: see
    /// heaptrace mark.
    #[arg(long, value_name = "TIME|MARK", value_parser = parse_when, conflicts_with_all = ["from", "to"], help_heading = SHOWN)]
    pub at: Option<When>,
    /// Show what came after this time. What is live is then what each stack has more than at that time.
    #[arg(long, value_name = "TIME|MARK", value_parser = parse_when, help_heading = SHOWN)]
    pub from: Option<When>,
    /// Show what came by this time.
    #[arg(long, value_name = "TIME|MARK", value_parser = parse_when, help_heading = SHOWN)]
    pub to: Option<When>,
}

/// A moment of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// After the start.
    Time(Duration),
    /// When `heaptrace mark` gave it this name.
    Mark(String),
}

/// Names begin with a letter.
fn parse_when(text: &str) -> Result<When, String> {
    if text.starts_with(char::is_alphabetic) {
        return Ok(When::Mark(text.to_owned()));
    }
    parse_age(text).map(When::Time)
}

impl When {
    /// How long after the start of `source`, which is `file`, that is.
    fn find(self, source: &mut Source, file: &Path) -> anyhow::Result<Duration> {
        let name = match self {
            Self::Time(time) => return Ok(time),
            Self::Mark(name) => name,
        };
        let whole = source.read(&mut until(None)).map_err(|error| cannot_read(file, error))?.profile;
        let notes = &whole.coverage.notes;
        if let Some(at_ns) = notes.marked(&name) {
            return Ok(Duration::from_nanos(at_ns));
        }
        let mut names: Vec<&str> = notes.marks().take(MARKS_NAMED).map(|(_, name)| name).collect();
        names.dedup();
        let has =
            if names.is_empty() { "none (heaptrace mark sets them)".to_owned() } else { names.join(", ") };
        Err(Usage(format!("{} has no mark {name}; it has {has}", file.display())).into())
    }
}

/// Few enough to read.
const MARKS_NAMED: usize = 20;

/// What is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    All,
    At(Duration),
    Peak,
    Span { from: Duration, to: Option<Duration> },
}

impl PartArgs {
    /// Whether they ask for a part.
    pub(super) fn is_some(&self) -> bool {
        self.at.is_some() || self.from.is_some() || self.to.is_some()
    }

    /// What they ask for of `source`, which is `file`.
    ///
    /// # Errors
    /// If that is what there cannot be.
    pub(super) fn asked(self, peak: bool, source: &mut Source, file: &Path) -> anyhow::Result<Asked> {
        if !self.is_some() {
            return Ok(if peak { Asked::Peak } else { Asked::All });
        }
        if peak {
            return Err(Usage(
                "--view peak shows the moment at which most was live; --view live shows another one (--at)"
                    .to_owned(),
            )
            .into());
        }
        let Self { at, from, to } = self;
        if let Some(at) = at {
            return Ok(Asked::At(at.find(source, file)?));
        }
        let from = from.map(|from| from.find(source, file)).transpose()?.unwrap_or_default();
        let to = to.map(|to| to.find(source, file)).transpose()?;
        if to.is_some_and(|to| from >= to) {
            return Err(Usage("--from is not before --to".to_owned()).into());
        }
        Ok(Asked::Span { from, to })
    }
}

impl Asked {
    /// Whether it is for views of this kind in recordings of this mode.
    pub(super) fn check(self, view: View, mode: Mode, file: &Path) -> Result<(), Usage> {
        let Self::Span { from, .. } = self else { return Ok(()) };
        if view == View::Leaks {
            return Err(Usage(
                "--view leaks is of the end of a recording, not of a span of its time: --view live --from shows what came in one"
                    .to_owned(),
            ));
        }
        if from.is_zero() {
            return Ok(());
        }
        if view == View::Rss {
            return Err(Usage("--view rss is of a moment: --at shows another one than the last".to_owned()));
        }
        if view.is_of_blocks() && mode != Mode::Exact {
            return Err(Usage(format!(
                "{} was made with --trace {}, and what is live in it is no exact number, so that two of them cannot be taken \
                 from each other: --from and --to are for --trace exact; --at shows one moment",
                file.display(),
                mode.name()
            )));
        }
        Ok(())
    }
}

/// Where in a recording a part of it is: numbers of moments, from 1. What there is of the recording beside it, too.
pub(super) struct Found {
    /// 0 for the beginning.
    from: usize,
    /// `None` for the end.
    to: Option<usize>,
    part: Part,
    /// Names are found last, so that they are in no earlier state.
    symbols: Vec<Vec<Symbol>>,
    finished: bool,
}

impl Found {
    /// Looks for a part in `source`, which is `file`. None is looked for where all is asked for.
    ///
    /// # Errors
    /// If there is none, and what [`Source::read`] fails with.
    pub fn find(
        asked: Asked,
        source: &mut Source,
        file: &Path,
        pid: Option<u32>,
    ) -> anyhow::Result<Option<Self>> {
        let (from, to) = match asked {
            Asked::All => return Ok(None),
            Asked::At(at) => (None, Some(at)),
            Asked::Peak => (None, None),
            Asked::Span { from, to } => (Some(from).filter(|from| !from.is_zero()), to),
        };
        let mut timeline = Timeline::new(pid);
        // How many moments there are by these times, and when the last one was.
        let (mut start, mut end, mut first_ns) =
            (Last::by(from.unwrap_or_default()), Last::by(to.unwrap_or(Duration::MAX)), None);
        let read = source.read(&mut |profile, changed| {
            timeline.take(profile, changed);
            first_ns.get_or_insert(profile.duration_ns);
            if from.is_some() {
                start.take(profile.duration_ns);
            }
            end.take(profile.duration_ns);
            ControlFlow::Continue(())
        });
        let mut whole = read.map_err(|error| cannot_read(file, error))?.profile;
        let saved = timeline.saved();
        if let (Asked::Peak, Some(peak)) = (asked, timeline.peak()) {
            end = Last { number: peak, ..end };
        }
        let name = file.display();
        if end.number == 0 {
            let first = seconds(first_ns.unwrap_or_default());
            return Err(
                Usage(format!("{name} was first saved at {first}: what was before is not kept")).into()
            );
        }
        if start.number == end.number {
            let at = seconds(end.at_ns);
            return Err(Usage(format!(
                "{name} was not saved in this span of time: the last time before its end is {at}, which is not after its \
                 beginning"
            ))
            .into());
        }
        let kind = match asked {
            Asked::All | Asked::At(_) => PartKind::Moment,
            Asked::Peak => PartKind::Peak { real: timeline.real_peak() },
            Asked::Span { .. } => PartKind::Span { shrank: Amount::default() },
        };
        let whole_ns = whole.duration_ns;
        Ok(Some(Self {
            from: start.number,
            to: (end.number < saved).then_some(end.number),
            part: Part { kind, from_ns: start.at_ns, to_ns: end.at_ns, whole_ns, saved: saved as u64 },
            symbols: std::mem::take(&mut whole.symbols),
            finished: whole.coverage.finished,
        }))
    }

    /// The last moment that is read.
    pub fn to(&self) -> Option<usize> {
        self.to
    }

    /// Whether it is what came between two moments: it has no history of its own.
    pub fn is_span(&self) -> bool {
        self.part.is_span()
    }

    /// Reads it.
    ///
    /// # Errors
    /// What [`Source::read`] fails with, and if it would take more memory than a recording may.
    pub fn read(self, source: &mut Source, file: &Path) -> anyhow::Result<Read> {
        let Self { from, to, mut part, symbols, finished } = self;
        let mut earlier = None;
        if from > 0 {
            let read = source.read(&mut until(Some(from)));
            earlier = Some(Earlier::of(&read.map_err(|error| cannot_read(file, error))?.profile));
        }
        let Read { mut profile, size, room } = read_until(source, file, to)?;
        let held =
            earlier.as_ref().map_or(0, Earlier::size) + if to.is_some() { symbols.beside() } else { 0 };
        let Some(room) = room.checked_sub(held) else {
            bail!(
                "failed to report on a part of {}: it would take {held} bytes more memory than a recording of {size} bytes may",
                file.display()
            );
        };
        if to.is_some() {
            name(&mut profile, symbols);
            // What came later is not asked for.
            profile.coverage.finished = finished;
        }
        if let (Some(earlier), PartKind::Span { shrank }) = (earlier, &mut part.kind) {
            *shrank = profile.since(&earlier);
        }
        part.to_ns = profile.duration_ns;
        profile.part = Some(part);
        Ok(Read { profile, size, room })
    }
}

/// Places keep their numbers.
fn name(profile: &mut Profile, mut symbols: Vec<Vec<Symbol>>) {
    symbols.truncate(profile.locations.len());
    profile.symbols = symbols;
}

/// The last moment by a time.
struct Last {
    by_ns: u128,
    number: usize,
    at_ns: u64,
    seen: usize,
}

impl Last {
    fn by(time: Duration) -> Self {
        Self { by_ns: time.as_nanos(), number: 0, at_ns: 0, seen: 0 }
    }

    fn take(&mut self, at_ns: u64) {
        self.seen += 1;
        if u128::from(at_ns) <= self.by_ns {
            (self.number, self.at_ns) = (self.seen, at_ns);
        }
    }
}
