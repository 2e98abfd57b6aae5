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

/// What a frame of a stack takes in memory, in the table and in a tree in which all is opened, in bytes. Of stacks that have
/// nothing in common 99 and 318 at the least were measured, as a test below does (glibc's malloc, x86_64); a tenth more is for others.
const FRAME: u64 = 350;

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
    use crate::fixtures::profiles::{empty, full, large, sampled};
    use crate::report::View;
    use crate::walk::{Action, App, Shape, screen};

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

    /// What the test of its own process says its numbers with: bytes a frame in the table, and with a tree in which all is opened.
    const SAID: &str = "bytes a frame: ";

    #[test]
    #[ignore = "it is run by the next one, in a process of its own"]
    fn the_memory_that_is_taken() {
        let memory = |what: &str| {
            let status = std::fs::read_to_string("/proc/self/status").expect("status");
            let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
        };
        // Hardly two of these stacks have more than their two ends in common: a tree has as many nodes as they have frames.
        let profile = large(3_000, 64);
        let before = memory("VmHWM:");
        let table = walk(&profile, &Options::default(), "x");
        let frames = table.rows.len() + table.paths.len();
        let listed = memory("VmRSS:").saturating_sub(before);
        let mut app = App::new(table, Shape::default(), screen((80, 24)));
        // On the line of the outermost function, which is that of all stacks.
        app.apply(Action::OpenAll);
        assert_eq!(app.status, None, "not all of it is opened");
        let opened = memory("VmHWM:").saturating_sub(before);
        println!("{SAID}{} {}", listed / frames as u64, opened / frames as u64);
    }

    #[test]
    fn a_frame_takes_what_it_is_reckoned_to() {
        let ran = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "report::walk::tests::the_memory_that_is_taken", "--ignored", "--nocapture"])
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let numbers = said.lines().find_map(|line| Some(line.split_once(SAID)?.1.to_owned()));
        let numbers = numbers.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&ran.stderr)));
        let numbers: Vec<u64> = numbers.split_whitespace().map(|of| of.parse().expect("a number")).collect();
        println!("in the table {}, with all of the tree {}", numbers[0], numbers[1]);
        assert!((FRAME / 2..=FRAME).contains(&numbers[1]), "{numbers:?}, reckoned with {FRAME}");
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
