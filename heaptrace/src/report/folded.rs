//! Folded stacks, the form that flame graph tools read: `comm:pid;outermost;…;innermost bytes`, sorted, equal
//! stacks summed up. Nothing else is in the output, as tools take every line for a stack.

use super::Options;
use super::labels::{LabelId, Labels};
use super::select::Selection;
use crate::model::{Process, Profile, StackId};
use crate::printable::printable;
use std::cmp::Ordering;
use std::io::{self, Write};

pub(super) fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    Folded::new(profile, options).write(out)
}

/// Equal stacks summed up. Their lines are only made when they are written: together they may be much larger than what
/// they are made of.
pub(super) struct Folded<'a> {
    labels: Labels<'a>,
    lines: Vec<Line<'a>>,
    pub hidden: Hidden,
}

/// Stacks that are left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hidden {
    pub stacks: u64,
    pub bytes: u64,
}

/// What a frame takes while it is drawn, beside its name.
const DRAWN_FRAME: u64 = 160;

struct Line<'a> {
    process: &'a Process,
    stack: Option<StackId>,
    bytes: u64,
}

impl<'a> Folded<'a> {
    /// Folds the chosen stacks; those of no bytes are left out.
    pub fn new(profile: &'a Profile, options: &Options) -> Self {
        let labels = Labels::new(profile);
        let ranks = ranks(&labels);
        let rank = |stack| labels.walk_inwards(stack).map(|id| ranks[id as usize]);
        let compare = |a: &Line<'_>, b: &Line<'_>| {
            let by_process = (&a.process.comm, a.process.pid).cmp(&(&b.process.comm, b.process.pid));
            by_process.then_with(|| match a.stack == b.stack {
                true => Ordering::Equal,
                false => rank(a.stack).cmp(rank(b.stack)),
            })
        };
        let mut lines: Vec<Line<'a>> = Selection::new(profile, options)
            .entries
            .iter()
            .filter_map(|entry| {
                let process = profile.processes.get(entry.process.index())?;
                Some(Line { process, stack: entry.stack, bytes: entry.weight.bytes })
            })
            .collect();
        lines.sort_by(compare);
        lines.dedup_by(|next, line| {
            let equal = compare(next, line) == Ordering::Equal;
            if equal {
                line.bytes = line.bytes.saturating_add(next.bytes);
            }
            equal
        });
        let mut folded = Self { labels, lines, hidden: Hidden::default() };
        folded.retain(|line| line.bytes >= options.min_bytes.max(1));
        folded
    }

    fn retain(&mut self, mut keep: impl FnMut(&Line<'a>) -> bool) {
        let Self { labels: _, lines, hidden } = self;
        lines.retain(|line| {
            let keep = keep(line);
            if !keep && line.bytes > 0 {
                hidden.stacks += 1;
                hidden.bytes = hidden.bytes.saturating_add(line.bytes);
            }
            keep
        });
    }

    /// Leaves out the smallest stacks, so that the rest of them can be drawn in `memory` bytes.
    pub fn cut(&mut self, memory: u64) {
        let mut order: Vec<usize> = (0..self.lines.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.lines[*index].bytes));
        let mut left = Some(memory);
        let mut fits = vec![false; order.len()];
        for index in order {
            let Line { process, stack, bytes: _ } = &self.lines[index];
            let names = self.labels.walk(*stack).map(|label| self.labels.get(label).name.len() as u64);
            let needed = names.fold(process.comm.len() as u64, |sum, name| sum + name + DRAWN_FRAME);
            left = left.and_then(|left| left.checked_sub(needed));
            fits[index] = left.is_some();
        }
        let mut fits = fits.into_iter();
        self.retain(|_| fits.next().unwrap_or_default());
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut stack = Vec::new();
        for Line { process, stack: id, bytes } in &self.lines {
            write!(out, "{}:{}", element(&process.comm), process.pid)?;
            self.labels.of_stack(*id, &mut stack);
            for &label in stack.iter().rev() {
                write!(out, ";{}", element(&self.labels.get(label).name))?;
            }
            writeln!(out, " {bytes}")?;
        }
        Ok(())
    }
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
