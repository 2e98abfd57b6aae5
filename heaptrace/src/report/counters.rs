//! The kernel's counters in JSON and in words: one entry for each, which the compiler asks for.

use crate::model::{Cases, Counts, Coverage, Note, StackTable};
use crate::units::thousands;
use heaptrace_common::counter::Counter;
use serde::{Serialize, Serializer};
use std::collections::HashSet;

/// What users read of a counter.
struct Description {
    /// In JSON.
    name: &'static str,
    /// What was counted.
    what: &'static str,
    /// The option that makes more room.
    option: Option<&'static str>,
}

const fn describe(counter: Counter) -> Description {
    let (name, what, option) = match counter {
        Counter::LiveMapFull => ("live_map_full", "new blocks, in no total", Some("--memory, or --max-live")),
        Counter::SiteTableFull => (
            "stack_map_full",
            "blocks under an unknown stack",
            Some("--memory, or --max-sites and --max-frames"),
        ),
        Counter::PendingFull => ("pending_full", "calls, in no total", Some("--max-threads")),
        Counter::RingFull => ("ring_full", "events of processes and mappings", Some("--max-events")),
        Counter::ProcessTableFull => {
            ("process_table_full", "processes and execs, their calls in no total", Some("--max-processes"))
        }
        Counter::ScratchBusy => ("scratch_busy", "blocks under an unknown stack", None),
        Counter::ResultUnreadable => {
            ("result_unreadable", "calls whose size or result could not be read, in no total", None)
        }
        Counter::GrowthSiteFull => (
            "growth_map_full",
            "growth and faults without a stack",
            Some("--memory, or --max-sites and --max-frames; of watch, --max-frames"),
        ),
        Counter::Disagreed => {
            ("disagreed", "calls that did not match the analysis of their function; see the notes", None)
        }
        Counter::MissedReturn => {
            ("missed_returns", "never seen to return (longjmp, exception, killed thread), in no total", None)
        }
        Counter::UnpairedReturn => {
            ("unpaired_returns", "without a call, e.g. under way when tracing began", None)
        }
        Counter::Nested => ("nested_calls", "nested in an allocation function, not counted again", None),
    };
    Description { name, what, option }
}

/// What was counted, in words that go on from its number.
pub(super) const fn what(counter: Counter) -> &'static str {
    describe(counter).what
}

/// What was lost, a line for each counter that is not zero.
pub(super) fn lines(counts: &Counts) -> impl Iterator<Item = String> + '_ {
    counts.losses().filter(|(_, count)| *count > 0).map(|(counter, count)| {
        let Description { name, what, option } = describe(counter);
        let raise = option.map_or_else(String::new, |option| format!("; raise {option}"));
        format!("lost {} ({name}: {what}{raise})", thousands(count))
    })
}

/// What was lost in half a line, if anything was: how much, of what, and the options that make more room where it was short.
pub fn in_short(coverage: &Coverage) -> Option<String> {
    let lost: Vec<(Counter, u64)> = coverage.counts.losses().filter(|(_, count)| *count > 0).collect();
    let tables = coverage.notes.kinds().iter().flat_map(Cases::kept).filter_map(|note| match note {
        Note::StacksNotKept { table, .. } => Some(option_of(*table)),
        _ => None,
    });
    let tables: Vec<&str> = tables.collect();
    let mut options: Vec<&str> = Vec::new();
    for (counter, _) in &lost {
        match counter {
            // Which of the two is known.
            Counter::SiteTableFull | Counter::GrowthSiteFull if !tables.is_empty() => options.extend(&tables),
            _ => options.extend(describe(*counter).option),
        }
    }
    let mut seen = HashSet::new();
    options.retain(|option| seen.insert(*option));
    let each: Vec<String> = lost
        .iter()
        .map(|(counter, count)| format!("{} {}", describe(*counter).name, thousands(*count)))
        .collect();
    let raise = if options.is_empty() { String::new() } else { format!("; raise {}", options.join(", or ")) };
    (!lost.is_empty()).then(|| format!("lost: {}{raise}", each.join(", ")))
}

/// The option that makes room in a table.
pub(super) const fn option_of(table: StackTable) -> &'static str {
    match table {
        StackTable::Sites => "--memory, or --max-sites",
        StackTable::Frames => "--memory, or --max-frames",
    }
}

/// Every counter of what was lost by its name, zero or not.
pub(super) struct Lost<'a>(pub &'a Counts);

impl Serialize for Lost<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.losses().map(|(counter, count)| (describe(counter).name, count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_a_name_of_its_own() {
        let names: HashSet<&str> = Counter::ALL.into_iter().map(|counter| describe(counter).name).collect();
        assert_eq!(names.len(), Counter::COUNT);
    }

    #[test]
    fn the_end_of_a_recording_names_the_table_that_was_full_and_its_option() {
        let note = Note::StacksNotKept { table: StackTable::Frames, count: 1_234 };
        let mut coverage = Coverage { notes: [note].into_iter().collect(), ..Coverage::default() };
        assert_eq!(in_short(&coverage), None);
        coverage.counts.add(Counter::SiteTableFull, 1_230);
        coverage.counts.add(Counter::GrowthSiteFull, 4);
        coverage.counts.add(Counter::ScratchBusy, 1);
        let said = in_short(&coverage).expect("a loss");
        let lost = "lost: stack_map_full 1,230, scratch_busy 1, growth_map_full 4";
        assert_eq!(said, format!("{lost}; raise --memory, or --max-frames"));
    }

    #[test]
    fn a_loss_names_the_option_that_makes_room() {
        let counts = Counts::new(|counter| {
            if counter == Counter::LiveMapFull { 1_234 } else { u64::from(counter == Counter::Nested) }
        });
        let lines: Vec<String> = lines(&counts).collect();
        assert_eq!(
            lines,
            ["lost 1,234 (live_map_full: new blocks, in no total; raise --memory, or --max-live)"]
        );
    }
}
