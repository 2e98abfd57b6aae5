//! What several recordings come to: pure arithmetic over their rows.

use super::{
    measured::Measured,
    names::{NameId, Names},
    options::{DiffOptions, Limit, Per},
    side::{Key, Side},
};
use crate::units::{in_seconds, thousands};
use crate::{
    model::Amount,
    report::{View, quantity::Quantity},
};
use std::{cmp::Ordering, collections::HashSet};

/// What happened to a row from the first recording to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was not there before.
    New,
    Grew,
    Shrank,
    /// It is not there any more.
    Gone,
    /// It did not change, or by no more than the numbers may be off.
    Same,
}

impl State {
    /// Those that changed, in the order in which they are shown.
    pub const CHANGED: [Self; 4] = [Self::Grew, Self::New, Self::Shrank, Self::Gone];

    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Grew => "grew",
            Self::Shrank => "shrank",
            Self::Gone => "gone",
            Self::Same => "same",
        }
    }
}

/// Numbers of all recordings, and how the last differs from the first.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub bytes: Vec<Measured>,
    pub count: Vec<Measured>,
    pub bytes_change: Measured,
    pub count_change: Measured,
}

impl Changed {
    fn new(bytes: Vec<Measured>, count: Vec<Measured>) -> Self {
        let change = |of: &[Measured]| match of {
            [first, .., last] => last.minus(*first),
            _ => Measured::default(),
        };
        Self { bytes_change: change(&bytes), count_change: change(&count), bytes, count }
    }

    /// Whether there are more bytes in each recording than in the one before.
    pub fn grows_always(&self) -> bool {
        self.bytes.windows(2).all(|pair| pair[1].value > pair[0].value)
    }

    /// By how many percent of what there was; `None` of nothing.
    pub fn percent(&self) -> Option<f64> {
        let before = self.bytes.first()?.value;
        (before > 0.0).then(|| 100.0 * self.bytes_change.value / before)
    }
}

/// A row of the comparison.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub process: Option<NameId>,
    /// Innermost first.
    pub frames: Box<[NameId]>,
    pub state: State,
    pub changed: Changed,
    /// It grew by more than it may.
    pub is_too_much: bool,
}

/// Rows of one kind: those that are shown, and what the others come to.
pub(super) struct Part<'a> {
    pub state: State,
    pub shown: &'a [Row],
    pub hidden: usize,
    /// By which the bytes of hidden ones changed in sum.
    pub hidden_change: f64,
    pub count: usize,
    pub change: f64,
}

/// See the module.
pub struct Compared {
    pub(super) names: Names,
    pub(super) sides: Vec<Side>,
    /// What changed first, by kinds in the order of [`State::CHANGED`], the largest change first; then what did not.
    pub(super) rows: Vec<Row>,
    pub(super) total: Changed,
    /// Bytes that a row, or all together, may not grow by.
    pub(super) most: Option<f64>,
    /// All together grew by more than they may.
    pub(super) total_is_too_much: bool,
}

impl Compared {
    /// Compares recordings, the oldest first; there are at least two.
    pub fn new(mut names: Names, mut sides: Vec<Side>, options: &DiffOptions) -> Self {
        let across = names.across_builds();
        sides.iter_mut().for_each(|side| side.rename(&across));
        let keys: HashSet<&Key> = sides.iter().flat_map(|side| side.rows.keys()).collect();
        let divide = divisors(&sides, &options.per);
        let of = |held: &[Option<&Quantity>]| {
            let numbers = held.iter().zip(&sides).zip(&divide).map(|((held, side), by)| {
                let [bytes, count] = measured(*held, side);
                (bytes.per(*by), count.per(*by))
            });
            let (bytes, count) = numbers.unzip();
            Changed::new(bytes, count)
        };
        let sums: Vec<Quantity> = sides.iter().map(sum).collect();
        let total = of(&sums.iter().map(Some).collect::<Vec<_>>());
        let first = total.bytes.first().map_or(0.0, |first| first.value);
        let most = options.limit.map(|limit| match limit {
            Limit::Bytes(bytes) => bytes as f64,
            Limit::Percent(percent) => first * percent / 100.0,
        });
        let is_too_much = |change: Measured| most.is_some_and(|most| change.low > 0.0 && change.low >= most);
        let mut rows: Vec<Row> = keys
            .into_iter()
            .map(|key| {
                let held: Vec<Option<&Quantity>> = sides.iter().map(|side| side.rows.get(key)).collect();
                let changed = of(&held);
                Row {
                    process: key.process,
                    frames: key.frames.clone(),
                    state: state(&held, changed.bytes_change),
                    is_too_much: is_too_much(changed.bytes_change),
                    changed,
                }
            })
            .collect();
        let place = |state| State::CHANGED.iter().position(|of| *of == state).unwrap_or(State::CHANGED.len());
        rows.sort_by(|a, b| {
            let by_change = |row: &Row| row.changed.bytes_change.value.abs();
            (place(a.state).cmp(&place(b.state)))
                .then(by_change(b).total_cmp(&by_change(a)))
                .then_with(|| compare_names(&names, a, b))
        });
        Self { total_is_too_much: is_too_much(total.bytes_change), names, sides, rows, total, most }
    }

    /// Whether it grew by more than it may.
    pub fn grew_too_much(&self) -> bool {
        self.total_is_too_much || self.rows.iter().any(|row| row.is_too_much)
    }

    /// What grew by more than it may, in words: all together, then rows, the most first.
    pub fn too_much(&self) -> Vec<String> {
        let grown = |what: &str, change: Measured| {
            format!("{what} grew by {} bytes", thousands(change.value.round() as u64))
        };
        let mut rows: Vec<&Row> = self.rows.iter().filter(|row| row.is_too_much).collect();
        rows.sort_by(|a, b| b.changed.bytes_change.value.total_cmp(&a.changed.bytes_change.value));
        let all = self.total_is_too_much.then(|| grown("all together", self.total.bytes_change));
        all.into_iter()
            .chain(rows.iter().map(|row| grown(&self.site(row), row.changed.bytes_change)))
            .collect()
    }

    /// A row in one line: who called the allocator, in which process.
    pub(super) fn site(&self, row: &Row) -> String {
        let process = row.process.map(|process| self.names.name(process));
        match (row.frames.first(), process) {
            (Some(frame), Some(process)) => format!("{} in {process}", self.names.shown(*frame)),
            (Some(frame), None) => self.names.shown(*frame).into_owned(),
            (None, Some(process)) => process.to_owned(),
            (None, None) => String::new(),
        }
    }

    /// The rows that changed, by kind. Of each, the `top` largest are shown, all for 0, that changed by `min_bytes`.
    pub(super) fn parts(&self, options: &DiffOptions) -> Vec<Part<'_>> {
        let parts = State::CHANGED.map(|state| {
            let from = self.rows.iter().position(|row| row.state == state).unwrap_or(0);
            let rows = &self.rows[from..];
            let rows = &rows[..rows.iter().take_while(|row| row.state == state).count()];
            let top = if options.top == 0 { rows.len() } else { options.top };
            let large = |row: &&Row| row.changed.bytes_change.value.abs() >= options.min_bytes as f64;
            let shown = rows.iter().take(top).take_while(large).count();
            let (shown, hidden) = rows.split_at(shown);
            let change = |rows: &[Row]| rows.iter().map(|row| row.changed.bytes_change.value).sum();
            Part {
                state,
                shown,
                hidden: hidden.len(),
                hidden_change: change(hidden),
                count: rows.len(),
                change: change(rows),
            }
        });
        parts.into_iter().filter(|part| part.count > 0).collect()
    }

    /// Rows that did not change, or by no more than they may be off.
    pub(super) fn same(&self) -> usize {
        self.rows.iter().filter(|row| row.state == State::Same).count()
    }

    /// What a reader is to know before he believes it, a sentence each.
    pub(super) fn remarks(&self, options: &DiffOptions) -> Vec<String> {
        /// Of the longer one.
        const MUCH_LONGER: f64 = 1.1;
        let mut remarks = Vec::new();
        let is_of_blocks = options.view.is_of_blocks();
        let live = matches!(options.view, View::Live);
        let modes: HashSet<&str> = self.sides.iter().map(|side| side.mode.name()).collect();
        if modes.len() > 1 {
            remarks.push("the recordings were made in different modes".to_owned());
        }
        if live && self.sides.iter().any(|side| side.mode.ends_unseen()) {
            remarks.push(
                "frees were not traced: live is at most what is shown, so that nobody can be sure that it grew".to_owned(),
            );
        }
        let durations = self.sides.iter().map(|side| side.duration_ns);
        let (short, long) = (durations.clone().min().unwrap_or(0), durations.max().unwrap_or(0));
        if !live && options.per == Per::Recording && long as f64 > short as f64 * MUCH_LONGER {
            remarks.push(
                "the recordings are not equally long, and what was done in a longer one is more: --per second, or --per \
                 COUNT,COUNT with what was done in each"
                    .to_owned(),
            );
        }
        if self.sides.iter().any(|side| side.folded > 0) {
            remarks.push(
                "inner frames are left out, as they are of allocators, libraries or interpreters (--raw-frames)".to_owned(),
            );
        }
        for side in &self.sides {
            if is_of_blocks && side.attached_fraction < 0.995 {
                remarks.push(format!(
                    "{}: all probes were in place for {:.1}% of the processes' time",
                    side.file,
                    100.0 * side.attached_fraction
                ));
            }
            remarks.extend(side.losses.iter().map(|loss| format!("{}: {loss}", side.file)));
        }
        remarks
    }
}

/// What the numbers of each recording are divided by.
fn divisors(sides: &[Side], per: &Per) -> Vec<f64> {
    let of = |(index, side): (usize, &Side)| match per {
        Per::Recording => 1.0,
        // Of none nothing can be said; nothing was recorded either.
        Per::Second => in_seconds(side.duration_ns).max(1e-9),
        Per::Counts(counts) => counts.get(index).copied().unwrap_or(1.0),
    };
    sides.iter().enumerate().map(of).collect()
}

/// Bytes and blocks of a row in a recording.
fn measured(held: Option<&Quantity>, side: &Side) -> [Measured; 2] {
    let Amount { bytes, count } = held.map_or_else(Amount::default, Quantity::amount);
    if side.is_bound && held.and_then(Quantity::estimated).is_none() {
        return [Measured::at_most(bytes), Measured::at_most(count)];
    }
    match held.and_then(Quantity::estimated).or(side.none.as_ref()) {
        Some(sure) => [Measured::estimated(bytes, &sure.bytes), Measured::estimated(count, &sure.count)],
        None => [Measured::exact(bytes), Measured::exact(count)],
    }
}

fn sum(side: &Side) -> Quantity {
    let mut sum = Quantity::default();
    side.rows.values().for_each(|held| sum.add(held));
    sum
}

fn state(held: &[Option<&Quantity>], change: Measured) -> State {
    let is_there = |held: Option<&Option<&Quantity>>| held.is_some_and(Option::is_some);
    match (is_there(held.first()), is_there(held.last())) {
        (false, true) if change.low > 0.0 => State::New,
        (true, false) if change.high < 0.0 => State::Gone,
        _ if change.low > 0.0 => State::Grew,
        _ if change.high < 0.0 => State::Shrank,
        _ => State::Same,
    }
}

fn compare_names(names: &Names, a: &Row, b: &Row) -> Ordering {
    let process = |row: &Row| row.process.map(|process| names.name(process).to_owned());
    let frames = |row: &Row| row.frames.iter().map(|frame| names.name(*frame).to_owned()).collect::<Vec<_>>();
    process(a).cmp(&process(b)).then_with(|| frames(a).cmp(&frames(b)))
}
