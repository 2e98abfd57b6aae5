//! What `report --tui` walks: the table of weighted stacks, with all names of theirs.

use super::labels::{Label, LabelId, Labels};
use super::remarks::{remarks, title};
use super::select::chosen;
use super::stacks::{Measure, Stacks};
use super::table::process_name;
use super::{Options, footer, part, text};
use crate::attribution::Attribution;
use crate::model::Profile;
use crate::printable::printable;
use crate::walk::{self, Amounts, Name, Row, Table};
use std::collections::HashMap;

/// What a frame of a stack takes in memory, in the table and in a tree in which all is opened, in bytes, as it is
/// reckoned: more than the page's.
const FRAME: u64 = 300;

/// The table of what `options` choose of `profile`, which is of the file `name`. Inner frames that are not the user's are told
/// apart even where all are to be shown: people may want to see both.
pub fn walk(profile: &Profile, options: &Options, name: &str) -> Table {
    let mut stacks = Stacks::new(profile, options);
    stacks.hide_below(options.min_bytes);
    let hiding = if options.frames.hides() { options.frames.clone() } else { Attribution::default() };
    let labels = Labels::attributed(profile, &hiding);
    if let Some(memory) = options.memory {
        stacks.cut(memory, |row| FRAME * (1 + labels.walk(row.stack).count() as u64));
    }
    let order: Vec<usize> = stacks.in_order().collect();
    let mut names = Names::new(&labels, &options.frames);
    let mut paths = Vec::new();
    let mut rows = Vec::with_capacity(stacks.rows.len());
    let places: HashMap<_, u32> = (0..)
        .map(crate::model::ProcessId)
        .zip(&profile.processes)
        .filter(|(_, process)| chosen(process, options))
        .map(|(id, _)| id)
        .zip(0..)
        .collect();
    for row in &stacks.rows {
        let from = paths.len();
        paths.extend(labels.walk(row.stack).map(|label| names.number(label)));
        let mut amounts = Amounts::default();
        for (amounts, place) in amounts.chunks_mut(2).zip(&order) {
            let amount = row.amounts[*place];
            amounts.copy_from_slice(&[amount.bytes, amount.count]);
        }
        let process = places.get(&row.process).copied().unwrap_or_default();
        let folded = labels.folded(row.stack) as u32;
        rows.push(Row { process, path: from..paths.len(), folded, amounts });
    }
    let losses = footer::losses(profile);
    let hidden = stacks.not_shown();
    let ignored = options.ignored.iter().flat_map(|ignored| ignored.lines(("block", "blocks"), false));
    Table {
        title: part::part(profile).into_iter().next().map_or_else(
            || format!("heaptrace report {name}"),
            |part| format!("heaptrace report {name} {part}"),
        ),
        measures: order.iter().flat_map(|place| measures(profile, stacks.measures[*place])).collect(),
        names: names.done(),
        modules: profile.modules.iter().map(|module| printable(&module.path).into_owned()).collect(),
        processes: profile.processes.iter().filter(|of| chosen(of, options)).map(process_name).collect(),
        paths,
        empty: if rows.is_empty() { text::why_empty(profile, options) } else { Vec::new() },
        rows,
        losses: losses.into_iter().chain(hidden).collect(),
        remarks: remarks(&stacks).into_iter().chain(ignored).collect(),
    }
}

fn measures(profile: &Profile, measure: Measure) -> [walk::Measure; 2] {
    let titles = match measure {
        Measure::Allocated => ["ALLOC", "ALLOCS"],
        Measure::Live => ["LIVE", "BLOCKS"],
        Measure::Mapped => ["MAPPED", "CALLS"],
        Measure::Touched => ["TOUCHED", "FAULTS"],
    };
    [true, false].map(|is_bytes| walk::Measure {
        title: titles[usize::from(!is_bytes)],
        meaning: title(profile.mode, measure, is_bytes),
        is_bytes,
    })
}

/// Names of labels that are in stacks, in the order in which these come.
struct Names<'a, 'l> {
    labels: &'l Labels<'a>,
    /// Of each label the first that is of the same function.
    same: Vec<LabelId>,
    frames: &'l Attribution,
    numbers: HashMap<LabelId, u32>,
    names: Vec<Name>,
}

impl<'a, 'l> Names<'a, 'l> {
    fn new(labels: &'l Labels<'a>, frames: &'l Attribution) -> Self {
        Self { labels, same: labels.same_functions(), frames, numbers: HashMap::new(), names: Vec::new() }
    }

    fn number(&mut self, label: LabelId) -> u32 {
        if let Some(number) = self.numbers.get(&label) {
            return *number;
        }
        let Label { name, source, inlined, module } = self.labels.get(label);
        let function = self.frames.shown(name).into_owned();
        let (file, line) =
            source.as_ref().map_or_else(Default::default, |(file, line)| (file.to_string(), *line));
        let number = self.names.len() as u32;
        let (inlined, module) = (*inlined, module.map(|module| module.0));
        // The function's other labels may never come: then it is called as this one.
        self.names.push(Name { function, file, line, inlined, module, same: number });
        self.numbers.insert(label, number);
        number
    }

    /// With the first name of each function known to all.
    fn done(self) -> Vec<Name> {
        let Self { same, numbers, mut names, .. } = self;
        let mut first: HashMap<LabelId, u32> = HashMap::new();
        let mut labels: Vec<(u32, LabelId)> =
            numbers.into_iter().map(|(label, number)| (number, label)).collect();
        labels.sort_unstable();
        for (number, label) in labels {
            names[number as usize].same = *first.entry(same[label as usize]).or_insert(number);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::{empty, full, sampled};
    use crate::report::View;

    #[test]
    fn the_table_has_all_that_the_report_has() {
        let profile = full();
        let table = walk(&profile, &Options::default(), "heap.data");
        let sum = |of: fn(&crate::model::Process) -> u64| profile.processes.iter().map(of).sum::<u64>();
        let expected = [
            sum(|process| process.totals.live_bytes()),
            sum(|process| process.totals.live_count()),
            sum(|process| process.totals.alloc_bytes),
            sum(|process| process.totals.alloc_count),
        ];
        assert_eq!(table.total(), expected);
        let titles: Vec<_> = table.measures.iter().map(|measure| measure.title).collect();
        assert_eq!(titles, ["LIVE", "BLOCKS", "ALLOC", "ALLOCS"]);
        assert!(table.rows.iter().all(|row| (row.folded as usize) < row.path.len()));
        assert!(!table.losses.is_empty() && table.remarks.len() > table.losses.len());
    }

    #[test]
    fn names_of_one_function_know_of_each_other() {
        let table = walk(&full(), &Options::default(), "heap.data");
        for (number, name) in (0..).zip(&table.names) {
            let first = &table.names[name.same as usize];
            assert!(name.same <= number && first.same == name.same, "{name:?}");
            assert_eq!(
                (&first.function, &first.file, first.module),
                (&name.function, &name.file, name.module)
            );
        }
    }

    #[test]
    fn one_process_small_stacks_and_other_views() {
        let of = |options: &Options| walk(&full(), options, "x");
        let one = of(&Options { pid: Some(43), ..Options::default() });
        assert!(one.processes.len() == 1 && one.rows.iter().all(|row| row.process == 0));
        let large = of(&Options { min_bytes: 80_000, ..Options::default() });
        assert!(large.losses.last().is_some_and(|line| line.contains("smaller stacks not shown")));
        let growth = of(&Options { view: View::Growth, ..Options::default() });
        assert_eq!(growth.measures.iter().map(|of| of.title).collect::<Vec<_>>(), ["MAPPED", "CALLS"]);
        let nothing = walk(&empty(), &Options::default(), "x");
        assert!(nothing.rows.is_empty() && !nothing.empty.is_empty());
        let bound = walk(&sampled(false), &Options::default(), "x");
        assert_eq!(bound.measures[0].meaning, "live bytes, at most, estimated from samples");
    }

    #[test]
    fn all_frames_are_there_and_those_that_are_not_the_users_are_known() {
        let of = |frames| walk(&full(), &Options { frames, ..Options::default() }, "x");
        let asked = of(Attribution::new(false, Some("buffer::*"), false).expect("a pattern"));
        let raw = of(Attribution::raw());
        assert_eq!(asked.paths, raw.paths);
        let first =
            |table: &Table| table.names[table.frames(&table.rows[0], false)[0] as usize].function.clone();
        assert_eq!([first(&asked), first(&raw)], ["main", "buffer::grow"]);
    }
}
