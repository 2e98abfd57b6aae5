//! Folded stacks, the form that flame graph tools read: `comm:pid;outermost;…;innermost bytes`, sorted, equal
//! stacks summed up. Nothing else is in the output, as tools take every line for a stack.

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::{Label, LabelId, Labels};
use super::stacks::{Row, Stacks};
use crate::model::{Profile, StackId};
use crate::printable::printable;
use crate::units::base_name;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "folded",
    help: "One line per stack, for flame graph tools.",
    files: &["*.folded"],
    content: Content::StacksForSizes,
    is_binary: false,
    past: Past::None,
    tells_losses: false,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let folded = Folded::new(profile, options, false);
    folded.write(out)?;
    Ok(folded.not_shown())
}

/// Stacks of equal names summed up. Their lines are only made when they are written: together they may be much larger
/// than what they are made of.
pub(super) struct Folded<'a> {
    labels: Labels<'a>,
    stacks: Stacks<'a>,
    inverted: bool,
    /// Frames are named with their modules.
    modules: bool,
}

/// A module, or what is in none: what it has in stacks, and the frames that are of it, as they are written.
pub(super) struct InModule {
    pub bytes: u64,
    pub frames: BTreeSet<String>,
    pub is_none: bool,
}

/// What a frame takes while it is drawn, beside its name, in bytes: measured, on one stack of 262,144 frames.
const DRAWN_FRAME: u64 = 280;

impl<'a> Folded<'a> {
    /// Folds the chosen stacks; those of no bytes are left out. `modules`: frames are named with their modules.
    pub fn new(profile: &'a Profile, options: &Options, modules: bool) -> Self {
        let labels = Labels::new(profile);
        let ranks = ranks(&labels, |label| modules.then(|| module_of(profile, label)).flatten());
        let inverted = options.inverted;
        let rank = |stack| walk(&labels, stack, inverted).map(|id| ranks[id as usize]);
        let compare = |a: &Row, b: &Row| {
            let process = |row: &Row| {
                let process = &profile.processes[row.process.index()];
                (&process.comm, process.pid)
            };
            process(a).cmp(&process(b)).then_with(|| match a.stack == b.stack {
                true => Ordering::Equal,
                false => rank(a.stack).cmp(rank(b.stack)),
            })
        };
        let mut stacks = Stacks::of_main(profile, options);
        stacks.rows.sort_by(compare);
        stacks.merge(|a, b| compare(a, b) == Ordering::Equal);
        stacks.hide_below(options.min_bytes);
        Self { labels, stacks, inverted, modules }
    }

    /// Leaves out the smallest stacks, so that the rest of them can be drawn in `memory` bytes.
    pub fn cut(&mut self, memory: u64) {
        let Self { labels, stacks, .. } = self;
        let profile = stacks.profile;
        stacks.cut(memory, |row| {
            let comm = profile.processes[row.process.index()].comm.len() as u64;
            let names = labels.walk(row.stack).map(|label| labels.get(label).name.len() as u64);
            names.fold(comm, |sum, name| sum + name + DRAWN_FRAME)
        });
    }

    /// What was left out.
    pub fn not_shown(&self) -> Option<String> {
        self.stacks.not_shown()
    }

    pub fn is_empty(&self) -> bool {
        self.stacks.rows.is_empty()
    }

    fn frame(&self, label: LabelId) -> String {
        let label = self.labels.get(label);
        let module = module_of(self.stacks.profile, label).filter(|_| self.modules);
        let name = element(&label.name);
        module.map_or_else(|| name.clone(), |module| format!("{name} ({})", element(module)))
    }

    /// What each module has, that with most first; and what is in none, processes among it.
    pub fn modules(&self) -> Vec<InModule> {
        let mut modules: BTreeMap<Option<&str>, InModule> = BTreeMap::new();
        for row in &self.stacks.rows {
            let process = self.stacks.process(row);
            let first = (None, format!("{}:{}", element(&process.comm), process.pid));
            let frames = self
                .labels
                .walk(row.stack)
                .map(|id| (module_of(self.stacks.profile, self.labels.get(id)), self.frame(id)));
            let mut last = None;
            for (module, frame) in std::iter::once(first).chain(frames) {
                let is_none = module.is_none();
                let of = modules.entry(module).or_insert_with(|| InModule {
                    bytes: 0,
                    frames: BTreeSet::new(),
                    is_none,
                });
                // What is drawn of it: as wide as the stack, once for each row of frames.
                if last != Some(module) {
                    of.bytes = of.bytes.saturating_add(self.stacks.bytes(row));
                }
                last = Some(module);
                of.frames.insert(frame);
            }
        }
        let mut modules: Vec<_> = modules.into_values().collect();
        modules.sort_by_key(|of| Reverse(of.bytes));
        modules
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.stacks.rows {
            let process = self.stacks.process(row);
            write!(out, "{}:{}", element(&process.comm), process.pid)?;
            for label in walk(&self.labels, row.stack, self.inverted) {
                write!(out, ";{}", self.frame(label))?;
            }
            writeln!(out, " {}", self.stacks.bytes(row))?;
        }
        Ok(())
    }
}

/// A stack's labels in the order of a line: outermost first, or inverted.
fn walk(labels: &Labels<'_>, stack: Option<StackId>, inverted: bool) -> impl Iterator<Item = LabelId> {
    let outwards = inverted.then(|| labels.walk(stack));
    let inwards = (!inverted).then(|| labels.walk_inwards(stack));
    outwards.into_iter().flatten().chain(inwards.into_iter().flatten())
}

/// The name of a label's module.
fn module_of<'a>(profile: &'a Profile, label: &Label<'_>) -> Option<&'a str> {
    let module = label.module.and_then(|module| profile.modules.get(module.index()))?;
    Some(base_name(&module.path))
}

/// The places of the labels' names in their order, with what they are named with, by labels; equal names have one place.
fn ranks<'a>(labels: &Labels<'a>, with: impl Fn(&Label<'a>) -> Option<&'a str>) -> Vec<u32> {
    let mut order: Vec<LabelId> = (0..labels.len() as LabelId).collect();
    let name = |id: &LabelId| (&labels.get(*id).name, with(labels.get(*id)));
    order.sort_unstable_by(|one, other| name(one).cmp(&name(other)));
    let mut ranks = vec![0; labels.len()];
    for (rank, equal) in (0..).zip(order.chunk_by(|one, other| name(one) == name(other))) {
        equal.iter().for_each(|id| ranks[*id as usize] = rank);
    }
    ranks
}

/// `name` without the character that separates frames. Blanks are fine: the number is after the last one.
fn element(name: &str) -> String {
    printable(name).replace(';', ":")
}
