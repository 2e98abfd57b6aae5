//! One recording, as far as it matters for a comparison.

use super::{
    super::{
        Options, footer,
        labels::Labels,
        quantity::{Estimated, Quantity},
        select::Selection,
        text,
    },
    names::{NameId, Names},
    options::{Chosen, DiffBy},
};
use crate::{
    model::{Apart, Mode, Profile, Site, SizeFilter, StackId, Sums},
    report::View,
    units::thousands,
};
use heaptrace_common::stack::StackEnd;
use std::collections::HashMap;

/// What makes a row: the process's name, and of its stack what rows are by, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub process: Option<NameId>,
    pub frames: Box<[NameId]>,
}

/// See the module.
#[derive(Debug)]
pub struct Side {
    /// As its user names it.
    pub(super) file: String,
    pub(super) started: String,
    pub(super) duration_ns: u64,
    pub(super) mode: Mode,
    /// What is missing from its numbers, and what was left out of it on purpose.
    pub(super) losses: Vec<String>,
    /// The share of the processes' time in which calls counted.
    pub(super) attached_fraction: f64,
    pub(super) rows: HashMap<Key, Quantity>,
    /// Stacks of which inner frames are left out.
    pub(super) folded: usize,
    /// There may be less of each, as frees were not traced.
    pub(super) is_bound: bool,
    /// What a row without any block may have had all the same, where blocks are sampled.
    pub(super) none: Option<Estimated>,
}

impl Side {
    /// What `profile`, which was read from `file`, has in a view. Names of frames go to `names`, which is to be the same for
    /// all that are compared.
    pub fn new(file: &str, profile: &Profile, chosen: Chosen<'_>, names: &mut Names) -> Self {
        let Chosen { view, by, frames: attribution, whole_stacks, ignored } = chosen;
        let labels = Labels::attributed(profile, attribution).with_forwarders();
        let mut folded = 0;
        let selection = Selection::new(profile, &Options { view, ..Options::default() });
        let locations: Vec<Vec<NameId>> =
            (0..profile.locations.len()).map(|index| names.of_location(profile, index)).collect();
        let mut frames_of: HashMap<Option<StackId>, Box<[NameId]>> = HashMap::new();
        let mut rows: HashMap<Key, Quantity> = HashMap::new();
        for entry in &selection.entries {
            let frames = match by {
                DiffBy::Process => Box::default(),
                _ => frames_of
                    .entry(entry.stack)
                    .or_insert_with(|| {
                        let hidden =
                            if by == DiffBy::Stack && whole_stacks { 0 } else { labels.folded(entry.stack) };
                        folded += usize::from(hidden > 0);
                        frames(profile, entry.stack, &locations, hidden, by, names)
                    })
                    .clone(),
            };
            let process = profile.processes.get(entry.process.index());
            let process = process.filter(|_| by != DiffBy::Module).map(|process| names.of(&process.comm));
            rows.entry(Key { process, frames }).or_default().add(&entry.weight.quantity);
        }
        let mean = profile.mode.sample_bytes();
        Self {
            file: file.to_owned(),
            started: text::started(profile),
            duration_ns: profile.duration_ns,
            mode: profile.mode,
            losses: ignored
                .map_or_else(Vec::new, |ignored| ignored.lines(text::units(view), true))
                .into_iter()
                // Those behind the first have its sum by suppression.
                .map(|line| match line.strip_prefix("  ") {
                    Some(part) => format!("ignored by {part}"),
                    None => line,
                })
                .chain(left_out(profile, view))
                .chain(footer::losses(profile))
                .collect(),
            attached_fraction: profile.attached_fraction(),
            rows,
            folded,
            is_bound: view == View::Live && profile.mode.ends_unseen(),
            none: (mean != 0 && view.is_of_blocks())
                .then(|| Estimated::new(&Sums::default(), Apart::chosen(mean))),
        }
    }

    /// Gives frames the names that they have in all recordings.
    pub(super) fn rename(&mut self, across: &[NameId]) {
        let name = |id: NameId| across.get(id as usize).copied().unwrap_or(id);
        let mut rows: HashMap<Key, Quantity> = HashMap::with_capacity(self.rows.len());
        for (Key { process, frames }, held) in self.rows.drain() {
            let frames = frames.iter().map(|id| name(*id)).collect();
            rows.entry(Key { process, frames }).or_default().add(&held);
        }
        self.rows = rows;
    }
}

/// What was not to be recorded.
fn left_out(profile: &Profile, view: View) -> Vec<String> {
    let mut left_out = Vec::new();
    if let Some(SizeFilter { min, max }) = profile.coverage.size_filter.filter(|_| view.is_of_blocks()) {
        left_out.push(match max {
            u64::MAX => format!("only blocks of {} bytes and more were traced", thousands(min)),
            max => format!("only blocks of {} to {} bytes were traced", thousands(min), thousands(max)),
        });
    }
    if !view.is_of_blocks() && profile.growth.is_empty() {
        left_out
            .push("it has no calls that map memory; perhaps they were not recorded (--no-growth)".to_owned());
    }
    let is_walked = |site: &Site| {
        profile.stacks.get(site.stack.index()).is_some_and(|stack| stack.end != StackEnd::NotWalked)
    };
    if !profile.sites.is_empty() && !profile.sites.iter().any(is_walked) {
        left_out.push("stacks were not walked (--stack none)".to_owned());
    }
    left_out
}

/// What of a stack rows are by, without so many of its inner functions.
fn frames(
    profile: &Profile,
    stack: Option<StackId>,
    locations: &[Vec<NameId>],
    hidden: usize,
    by: DiffBy,
    names: &mut Names,
) -> Box<[NameId]> {
    let none = |names: &mut Names, text: &str| -> Box<[NameId]> { Box::new([names.of(text)]) };
    let Some(stack) = stack else { return none(names, "[site not kept]") };
    let Some(stack) = profile.stacks.get(stack.index()) else { return none(names, "[no stack]") };
    let places = stack.frames.iter().filter_map(|frame| profile.frames.get(frame.index()));
    let all = places.flat_map(|frame| locations.get(frame.location.index()).into_iter().flatten().copied());
    let mut all = all.skip(hidden);
    match by {
        DiffBy::Process => Box::default(),
        DiffBy::Function => match all.next() {
            Some(innermost) => Box::new([innermost]),
            None => none(names, "[no stack]"),
        },
        DiffBy::Module => match all.next() {
            Some(innermost) => {
                let module = names.module(innermost).to_owned();
                none(names, if module.is_empty() { "[none]" } else { &module })
            }
            None => none(names, "[none]"),
        },
        DiffBy::Stack => {
            let mut all: Vec<NameId> = all.collect();
            match stack.end {
                StackEnd::Complete => {}
                _ if all.is_empty() => all.push(names.of("[no stack]")),
                end => all.push(names.of(&format!("[truncated: {}]", end.name()))),
            }
            all.into_boxed_slice()
        }
    }
}
