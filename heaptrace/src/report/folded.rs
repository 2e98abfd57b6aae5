//! Folded stacks, the form that flame graph tools read: `comm:pid;outermost;…;innermost bytes`, sorted, equal
//! stacks summed up. Nothing else is in the output, as tools take every line for a stack.

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::{LabelId, Labels};
use super::stacks::{Row, Stacks};
use crate::model::{Profile, StackId};
use crate::printable::printable;
use std::cmp::Ordering;
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
    let folded = Folded::new(profile, options);
    folded.write(out)?;
    Ok(folded.not_shown())
}

/// Stacks of equal names summed up. Their lines are only made when they are written: together they may be much larger
/// than what they are made of.
pub(super) struct Folded<'a> {
    labels: Labels<'a>,
    stacks: Stacks<'a>,
    inverted: bool,
}

/// What a frame takes while it is drawn, beside its name, in bytes: measured, on one stack of 262,144 frames.
const DRAWN_FRAME: u64 = 280;

impl<'a> Folded<'a> {
    /// Folds the chosen stacks; those of no bytes are left out.
    pub fn new(profile: &'a Profile, options: &Options) -> Self {
        let labels = Labels::new(profile);
        let ranks = ranks(&labels);
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
        Self { labels, stacks, inverted }
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

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.stacks.rows {
            let process = self.stacks.process(row);
            write!(out, "{}:{}", element(&process.comm), process.pid)?;
            for label in walk(&self.labels, row.stack, self.inverted) {
                write!(out, ";{}", element(&self.labels.get(label).name))?;
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

/// The places of the labels' names in their order, by labels; equal names have one place.
fn ranks(labels: &Labels<'_>) -> Vec<u32> {
    let mut order: Vec<LabelId> = (0..labels.len() as LabelId).collect();
    let name = |id: &LabelId| &labels.get(*id).name;
    order.sort_unstable_by(|one, other| name(one).cmp(name(other)));
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
