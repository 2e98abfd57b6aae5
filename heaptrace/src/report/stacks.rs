//! The table of weighted stacks that every format of whole stacks is made of: a row for each process and stack, whatever
//! allocation functions it called, with all that such a row is weighed by.

use super::select::{Selection, chosen};
use super::{Options, View};
use crate::model::{Amount, Peak, Process, ProcessId, Profile, StackId, ThreadId};
use crate::units::{counted, thousands};
use std::cmp::Reverse;
use std::collections::HashMap;

/// What stacks are weighed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Allocated,
    /// Of the same blocks, those that are not over.
    Live,
    Mapped,
    Touched,
}

impl Measure {
    /// What stacks of a view have, and which of that the view is about.
    const fn of_view(view: View) -> (&'static [Self], usize) {
        const BLOCKS: &[Measure] = &[Measure::Allocated, Measure::Live];
        match view {
            View::Live | View::Leaks | View::Rss => (BLOCKS, 1),
            // Churn is shown by no format of these.
            View::Alloc | View::Churn | View::Sizes => (BLOCKS, 0),
            View::Growth => (&[Self::Mapped], 0),
            View::Faults => (&[Self::Touched], 0),
        }
    }

    const fn view(self) -> View {
        match self {
            Self::Allocated => View::Alloc,
            Self::Live => View::Live,
            Self::Mapped => View::Growth,
            Self::Touched => View::Faults,
        }
    }

    /// What it is called as Go's heap profiles have it: of blocks, and of bytes.
    pub const fn sample_types(self) -> [&'static str; 2] {
        match self {
            Self::Allocated => ["alloc_objects", "alloc_space"],
            Self::Live => ["inuse_objects", "inuse_space"],
            Self::Mapped => ["mapped_calls", "mapped_space"],
            Self::Touched => ["page_faults", "faulted_space"],
        }
    }

    /// `1,024 bytes live in 2 blocks`.
    fn told(self, Amount { bytes, count }: Amount) -> String {
        let (done, one, many) = match self {
            Self::Allocated => ("allocated", "block", "blocks"),
            Self::Live => ("live", "block", "blocks"),
            Self::Mapped => ("mapped", "call", "calls"),
            Self::Touched => ("touched first", "page fault", "page faults"),
        };
        format!("{} bytes {done} in {}", thousands(bytes), counted(count, one, many))
    }
}

/// A row's amounts, by the table's measures; there are no more of them than this has places.
pub(super) type Amounts = [Amount; 2];

/// What a process did with a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub process: ProcessId,
    /// `None` for what a process allocated beyond the sites that were kept.
    pub stack: Option<StackId>,
    /// Where they are told apart by that.
    pub thread: Option<ThreadId>,
    pub amounts: Amounts,
}

impl Row {
    /// Whether there is so much of any measure.
    pub fn reaches(&self, bytes: u64) -> bool {
        self.amounts.iter().any(|amount| amount.bytes >= bytes)
    }
}

/// What tells rows apart.
pub(super) type Key = (ProcessId, Option<StackId>);

/// Stacks that are left out, and what they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hidden {
    pub stacks: u64,
    pub amounts: Amounts,
}

/// See the module. Rows come in the order of processes and stacks.
pub(super) struct Stacks<'a> {
    pub profile: &'a Profile,
    pub measures: &'static [Measure],
    /// Which of the measures the report is about.
    pub main: usize,
    pub rows: Vec<Row>,
    pub hidden: Hidden,
}

impl<'a> Stacks<'a> {
    /// All stacks that `options` choose, however few bytes they have.
    pub fn new(profile: &'a Profile, options: &Options) -> Self {
        Self::told_apart(profile, options, false)
    }

    /// The same, a row for each thread of a stack, where the recording tells them apart.
    pub fn by_thread(profile: &'a Profile, options: &Options) -> Self {
        Self::told_apart(profile, options, true)
    }

    fn told_apart(profile: &'a Profile, options: &Options, by_thread: bool) -> Self {
        let (measures, main) = Measure::of_view(options.view);
        let mut rows = Vec::new();
        for (place, measure) in measures.iter().enumerate() {
            let selection = Selection::new(profile, &Options { view: measure.view(), ..options.clone() });
            rows.extend(selection.entries.iter().map(|entry| {
                let mut amounts = Amounts::default();
                amounts[place] = entry.weight.quantity.amount();
                let thread = entry.thread.filter(|_| by_thread);
                Row { process: entry.process, stack: entry.stack, thread, amounts }
            }));
        }
        rows.sort_unstable_by_key(|row| (row.process, row.stack, row.thread));
        let mut stacks = Self { profile, measures, main, rows, hidden: Hidden::default() };
        stacks.merge(|one, other| {
            (one.process, one.stack, one.thread) == (other.process, other.stack, other.thread)
        });
        stacks
    }

    /// The same, with what the report is about and nothing else: for formats that have one weight. Stacks without any
    /// are no part of it.
    pub fn of_main(profile: &'a Profile, options: &Options) -> Self {
        let mut stacks = Self::new(profile, options);
        let main = stacks.main;
        stacks.rows.iter_mut().for_each(|row| row.amounts = [row.amounts[main], Amount::default()]);
        stacks.rows.retain(|row| row.amounts[0].bytes > 0);
        Self { measures: &stacks.measures[main..=main], main: 0, ..stacks }
    }

    /// What was live at the peak, and nothing else.
    pub fn at_peak(profile: &'a Profile, options: &Options, peak: &Peak) -> Self {
        let mut beyond = peak.processes.clone();
        let mut rows = Vec::new();
        let mut push = |process: ProcessId, stack, amount: Amount| {
            let is_known = profile.processes.get(process.index()).is_some_and(|of| chosen(of, options));
            if is_known && amount != Amount::default() {
                rows.push(Row { process, stack, thread: None, amounts: [amount, Amount::default()] });
            }
        };
        for (site, amount) in profile.sites.iter().zip(&peak.sites) {
            if let Some(beyond) = beyond.get_mut(site.process.index()) {
                beyond.bytes = beyond.bytes.saturating_sub(amount.bytes);
                beyond.count = beyond.count.saturating_sub(amount.count);
            }
            push(site.process, Some(site.stack), *amount);
        }
        for (process, amount) in (0..).map(ProcessId).zip(beyond) {
            push(process, None, amount);
        }
        Self { profile, measures: &[Measure::Live], main: 0, rows, hidden: Hidden::default() }
    }

    /// What each stack has of the first measure.
    pub fn amounts(&self) -> HashMap<Key, Amount> {
        let mut amounts: HashMap<Key, Amount> = HashMap::new();
        for row in &self.rows {
            amounts.entry((row.process, row.stack)).or_default().add(row.amounts[0]);
        }
        amounts
    }

    /// Sums up neighbours that are the same.
    pub fn merge(&mut self, is_same: impl Fn(&Row, &Row) -> bool) {
        self.rows.dedup_by(|next, row| {
            let is_same = is_same(next, row);
            if is_same {
                add(&mut row.amounts, &next.amounts);
            }
            is_same
        });
    }

    /// Leaves out stacks that have fewer bytes of each measure, and counts them.
    pub fn hide_below(&mut self, bytes: u64) {
        self.retain(|row| row.reaches(bytes));
    }

    /// Leaves out stacks, and counts them.
    pub fn retain(&mut self, mut keep: impl FnMut(&Row) -> bool) {
        let Self { rows, hidden, .. } = self;
        rows.retain(|row| {
            let keep = keep(row);
            if !keep {
                hidden.stacks += 1;
                add(&mut hidden.amounts, &row.amounts);
            }
            keep
        });
    }

    /// What was left out, of each measure, that of the report first; `None` if nothing was.
    pub fn not_shown(&self) -> Option<String> {
        let Hidden { stacks, amounts } = self.hidden;
        let told: Vec<_> = self.in_order().map(|place| self.measures[place].told(amounts[place])).collect();
        (stacks > 0).then(|| {
            format!("{} not shown: {}", counted(stacks, "smaller stack", "smaller stacks"), told.join(", "))
        })
    }

    /// The places of the measures, that of the report first.
    pub fn in_order(&self) -> impl Iterator<Item = usize> + use<> {
        let main = self.main;
        std::iter::once(main).chain((0..self.measures.len()).filter(move |place| *place != main))
    }

    /// The processes that rows are left of, each once.
    pub fn processes(&self) -> Vec<&'a Process> {
        let mut processes: Vec<_> = self.rows.iter().map(|row| row.process).collect();
        processes.sort_unstable();
        processes.dedup();
        processes.iter().map(|id| &self.profile.processes[id.index()]).collect()
    }

    /// Stacks by size, the largest first: by what the report is about, then by all else.
    pub fn by_size(&self) -> Vec<usize> {
        let all = |row: &Row| row.amounts.iter().fold(0, |sum: u64, of| sum.saturating_add(of.bytes));
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|index| Reverse((self.bytes(&self.rows[*index]), all(&self.rows[*index]))));
        order
    }

    /// Leaves out the smallest stacks, so that what the rest of them cost comes to `most`.
    pub fn cut(&mut self, most: u64, cost: impl Fn(&Row) -> u64) {
        let order = self.by_size();
        let mut left = Some(most);
        let mut fits = vec![false; order.len()];
        for index in order {
            left = left.and_then(|left| left.checked_sub(cost(&self.rows[index])));
            fits[index] = left.is_some();
        }
        let mut fits = fits.into_iter();
        self.retain(|_| fits.next().unwrap_or_default());
    }

    /// Bytes that the report is about.
    pub fn bytes(&self, row: &Row) -> u64 {
        row.amounts[self.main].bytes
    }

    pub fn process(&self, row: &Row) -> &'a Process {
        // Only rows of known processes are chosen.
        &self.profile.processes[row.process.index()]
    }

    /// Of the rows that are left.
    pub fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        self.rows.iter().for_each(|row| add(&mut total, &row.amounts));
        total
    }
}

/// Adds `part` to `sum`.
pub(super) fn add(sum: &mut Amounts, part: &Amounts) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| sum.add(*part));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;

    #[test]
    fn a_stack_has_all_it_is_weighed_by_and_sums_are_those_of_processes() {
        let profile = full();
        let stacks = Stacks::new(&profile, &Options::default());
        assert_eq!((stacks.measures, stacks.main), (&[Measure::Allocated, Measure::Live][..], 1));
        let first = stacks.rows[0];
        assert_eq!((first.process, first.stack), (ProcessId(0), Some(StackId(0))));
        let amounts = [Amount { bytes: 900_001, count: 11 }, Amount { bytes: 800_000, count: 10 }];
        assert_eq!(first.amounts, amounts);
        let sum = |of: fn(&Process) -> u64| profile.processes.iter().map(of).sum::<u64>();
        let [allocated, live] = stacks.total();
        assert_eq!(allocated.bytes, sum(|process| process.totals.alloc_bytes));
        assert_eq!(live.count, sum(|process| process.totals.live_count()));
    }

    #[test]
    fn functions_of_one_stack_are_one_row() {
        let mut profile = full();
        for site in &mut profile.sites {
            site.stack = StackId(0);
        }
        let stacks = Stacks::new(&profile, &Options::default());
        let rows: Vec<_> = stacks.rows.iter().map(|row| (row.process.0, row.stack.is_some())).collect();
        // The second process has blocks beyond its sites.
        assert_eq!(rows, [(0, true), (1, false), (1, true)]);
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let profile = full();
        let mut stacks = Stacks::new(&profile, &Options { view: View::Growth, ..Options::default() });
        stacks.retain(|row| row.amounts[0].bytes > 1_000_000);
        let left_out = [Amount { bytes: 135_168, count: 1 }, Amount::default()];
        assert_eq!((stacks.rows.len(), stacks.hidden), (1, Hidden { stacks: 1, amounts: left_out }));
        assert_eq!(
            stacks.not_shown().as_deref(),
            Some("1 smaller stack not shown: 135,168 bytes mapped in 1 call")
        );
    }

    #[test]
    fn a_stack_with_much_of_any_measure_is_shown_and_of_the_others_all_is_told() {
        let mut profile = full();
        // Nearly all of the largest stack was freed.
        for totals in [&mut profile.sites[0].totals, &mut profile.processes[0].totals] {
            totals.free_bytes += 799_997;
        }
        let mut stacks = Stacks::new(&profile, &Options::default());
        let all = stacks.total();
        stacks.hide_below(60_000);
        assert!(stacks.rows.iter().any(|row| row.amounts[0].bytes == 900_001), "{:?}", stacks.rows);
        let [allocated, live] = stacks.total();
        let [hidden_allocated, hidden_live] = stacks.hidden.amounts;
        assert_eq!(
            [allocated.bytes + hidden_allocated.bytes, live.bytes + hidden_live.bytes],
            [all[0].bytes, all[1].bytes]
        );
        assert_eq!(allocated.count + hidden_allocated.count, all[0].count);
        let mut one = Stacks::of_main(&profile, &Options::default());
        one.hide_below(60_000);
        assert_eq!((one.rows.len(), one.measures), (1, &[Measure::Live][..]));
        assert_eq!(one.hidden.amounts[1], Amount::default());
    }
}
