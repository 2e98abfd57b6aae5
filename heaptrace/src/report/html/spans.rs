//! What each stack had live at several moments, as changes from one to the next: what grew in a span of time is their sum.

use super::names::PIECE;
use super::page;
use crate::model::{ProcessId, Still};
use crate::report::stacks::{Measure, Stacks};
use crate::units::{in_seconds, signed};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};

/// What changed since the moment before; a moment may be in several pieces.
#[derive(Serialize)]
struct Piece<'a> {
    at_s: f64,
    /// Numbers of stacks.
    stack: &'a [usize],
    /// Bytes more than before, or less.
    change: &'a [i64],
}

/// Writes each still; none where live bytes are not what stacks are weighed by.
pub(super) fn write(stacks: &Stacks<'_>, out: &mut dyn Write) -> io::Result<()> {
    let stills = stacks.profile.history.as_ref().map_or(&[][..], |history| &history.stills);
    if !stacks.measures.contains(&Measure::Live) {
        return Ok(());
    }
    let mut rows = Rows::new(stacks);
    for still in stills {
        let changes = rows.take(still);
        let (stack, change): (Vec<usize>, Vec<i64>) = changes.into_iter().unzip();
        let at_s = in_seconds(still.at_ns);
        // One without changes is a moment, too.
        let pieces = stack.chunks(PIECE).zip(change.chunks(PIECE));
        let none: (&[usize], &[i64]) = (&[], &[]);
        for (stack, change) in pieces.chain(stack.is_empty().then_some(none)) {
            page::data(out, "stills", &Piece { at_s, stack, change })?;
        }
    }
    Ok(())
}

/// The live bytes of all rows as of the last still.
struct Rows<'a> {
    stacks: &'a Stacks<'a>,
    /// Of each site its row, if it is shown, and what it has.
    sites: Vec<(Option<usize>, u64)>,
    /// Of each process, and of those of its sites.
    processes: Vec<(u64, u64)>,
    /// Of each process the row of what is in no site.
    beyond: HashMap<ProcessId, usize>,
    rows: Vec<u64>,
}

impl<'a> Rows<'a> {
    fn new(stacks: &'a Stacks<'a>) -> Self {
        let numbers: HashMap<_, usize> =
            stacks.rows.iter().map(|row| (row.process, row.stack)).zip(0..).collect();
        let profile = stacks.profile;
        let sites = profile.sites.iter();
        let sites = sites.map(|site| (numbers.get(&(site.process, Some(site.stack))).copied(), 0)).collect();
        let beyond = numbers.iter().filter(|((_, stack), _)| stack.is_none());
        let beyond = beyond.map(|((process, _), row)| (*process, *row)).collect();
        let processes = vec![(0, 0); profile.processes.len()];
        Self { stacks, sites, processes, beyond, rows: vec![0; stacks.rows.len()] }
    }

    /// What each row has more than before, or less.
    fn take(&mut self, still: &Still) -> Vec<(usize, i64)> {
        let Self { stacks, sites, processes, beyond, rows } = self;
        let mut before: HashMap<usize, u64> = HashMap::new();
        let mut set = |rows: &mut Vec<u64>, row: usize, new: u64| {
            before.entry(row).or_insert(rows[row]);
            rows[row] = new;
        };
        for (id, bytes) in &still.processes {
            if let Some(process) = processes.get_mut(id.index()) {
                process.0 = *bytes;
            }
        }
        for (id, bytes) in &still.sites {
            let Some((row, had)) = sites.get_mut(id.index()) else { continue };
            let process = stacks.profile.sites[id.index()].process;
            if let Some((_, sum)) = processes.get_mut(process.index()) {
                *sum = sum.saturating_sub(*had).saturating_add(*bytes);
            }
            if let Some(row) = *row {
                let new = rows[row].saturating_sub(*had).saturating_add(*bytes);
                set(rows, row, new);
            }
            *had = *bytes;
        }
        for (process, row) in &*beyond {
            let (all, known) = processes.get(process.index()).copied().unwrap_or_default();
            set(rows, *row, all.saturating_sub(known));
        }
        let mut changes: Vec<_> = before
            .into_iter()
            .map(|(row, before)| (row, signed(rows[row]).saturating_sub(signed(before))))
            .filter(|(_, change)| *change != 0)
            .collect();
        changes.sort_unstable();
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;
    use crate::model::{History, SiteId, Stills};
    use crate::report::Options;

    #[test]
    fn changes_come_to_what_stacks_have_in_the_end() {
        let mut profile = full();
        let mut stills = Stills::new(2, None, &[], profile.sites.len());
        let mut before = profile.clone();
        before.duration_ns = 7;
        (before.sites[0].totals.free_bytes, before.processes[0].totals.free_bytes) = (900_001, 950_004);
        before.processes[1].totals.alloc_bytes -= 2_000;
        stills.take(&before);
        stills.take(&profile);
        profile.history = Some(History { stills: stills.taken(), ..History::default() });
        let stacks = Stacks::new(&profile, &Options::default());
        let mut rows = Rows::new(&stacks);
        let stills = &profile.history.as_ref().expect("it").stills;
        let mut sums = vec![0; stacks.rows.len()];
        for (row, change) in stills.iter().flat_map(|still| rows.take(still)) {
            sums[row] += change;
        }
        let expected: Vec<_> = stacks.rows.iter().map(|row| row.amounts[1].bytes as i64).collect();
        assert_eq!(sums, expected);
        let last = Rows { rows: vec![0; stacks.rows.len()], ..Rows::new(&stacks) }.take(&stills[1]);
        assert!(last.iter().any(|(_, change)| *change == 800_000), "{last:?}");
    }

    #[test]
    fn sites_of_one_stack_are_one_and_unknown_ones_are_none() {
        let mut profile = full();
        profile.sites[1].stack = profile.sites[0].stack;
        let stacks = Stacks::new(&profile, &Options::default());
        let mut rows = Rows::new(&stacks);
        let sites = vec![(SiteId(0), 5), (SiteId(1), 7), (SiteId(1_000), 9)];
        let processes = vec![(ProcessId(0), 12), (ProcessId(1), 3)];
        let changes = rows.take(&Still { at_ns: 1, processes, sites });
        assert_eq!(changes.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [12, 3]);
    }
}
