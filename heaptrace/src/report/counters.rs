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
    room: Room,
}

/// What makes more room.
#[derive(Clone, Copy)]
struct Room {
    /// More memory for the tables that grow.
    memory: bool,
    options: &'static [&'static str],
    /// What makes it of `watch`, which has other options.
    of_watch: Option<&'static str>,
}

impl Room {
    const NONE: Self = Self { memory: false, options: &[], of_watch: None };

    const fn by(options: &'static [&'static str]) -> Self {
        Self { options, ..Self::NONE }
    }

    const fn by_memory(options: &'static [&'static str]) -> Self {
        Self { memory: true, options, ..Self::NONE }
    }
}

const fn describe(counter: Counter) -> Description {
    const OF_STACKS: Room = Room::by_memory(&["--max-sites", "--max-frames"]);
    let (name, what, room) = match counter {
        Counter::LiveMapFull => {
            ("live_map_full", "new blocks, in no total", Room::by_memory(&["--max-live"]))
        }
        Counter::SiteTableFull => ("stack_map_full", "blocks under an unknown stack", OF_STACKS),
        Counter::PendingFull => ("pending_full", "calls, in no total", Room::by(&["--max-threads"])),
        Counter::RingFull => ("ring_full", "events of processes and mappings", Room::by(&["--max-events"])),
        Counter::ProcessTableFull => (
            "process_table_full",
            "processes and execs, their calls in no total",
            Room::by(&["--max-processes"]),
        ),
        Counter::ScratchBusy => ("scratch_busy", "blocks under an unknown stack", Room::NONE),
        Counter::ResultUnreadable => {
            ("result_unreadable", "calls whose size or result could not be read, in no total", Room::NONE)
        }
        Counter::GrowthSiteFull => (
            "growth_map_full",
            "growth and faults without a stack",
            Room { of_watch: Some("--max-frames"), ..OF_STACKS },
        ),
        Counter::Disagreed => (
            "disagreed",
            "calls that did not match the analysis of their function; see the notes",
            Room::NONE,
        ),
        Counter::MissedReturn => (
            "missed_returns",
            "never seen to return (longjmp, exception, killed thread), in no total",
            Room::NONE,
        ),
        Counter::UnpairedReturn => {
            ("unpaired_returns", "without a call, e.g. under way when tracing began", Room::NONE)
        }
        Counter::Nested => {
            ("nested_calls", "nested in an allocation function, not counted again", Room::NONE)
        }
        Counter::Unfollowed => (
            "unfollowed_blocks",
            "blocks, or samples of them, without room in the table of live blocks: in the totals, and live for good",
            Room::by_memory(&["--max-live"]),
        ),
    };
    Description { name, what, room }
}

/// What makes room in a table of stacks.
const fn room_of(table: StackTable) -> Room {
    match table {
        StackTable::Sites => Room::by_memory(&["--max-sites"]),
        StackTable::Frames => Room { of_watch: Some("--max-frames"), ..Room::by_memory(&["--max-frames"]) },
    }
}

/// What to raise where a table of stacks was full.
pub(super) fn raise_for(table: StackTable) -> String {
    raise(&[room_of(table)])
}

/// "; raise" and what makes room of each kind in `rooms`; nothing if nothing does.
fn raise(rooms: &[Room]) -> String {
    let options = |memory| {
        let of = rooms.iter().filter(move |room| room.memory == memory);
        let mut options: Vec<&str> = of.flat_map(|room| room.options).copied().collect();
        let mut seen = HashSet::new();
        options.retain(|option| seen.insert(*option));
        options.join(" and ")
    };
    let (by_memory, others) = (options(true), options(false));
    let mut text = String::new();
    if !by_memory.is_empty() {
        text += &format!("; raise --memory, or {by_memory}");
    }
    if !others.is_empty() {
        text += &format!("; raise {others}");
    }
    if let Some(of_watch) = rooms.iter().find_map(|room| room.of_watch) {
        text += &format!("; of watch, {of_watch}");
    }
    text
}

/// What was counted, in words that go on from its number.
pub(super) const fn what(counter: Counter) -> &'static str {
    describe(counter).what
}

/// What was lost, a line for each counter that is not zero.
pub(super) fn lines(counts: &Counts) -> impl Iterator<Item = String> + '_ {
    counts.losses().filter(|(_, count)| *count > 0).map(|(counter, count)| {
        let Description { name, what, room } = describe(counter);
        format!("lost {} ({name}: {what}{})", thousands(count), raise(&[room]))
    })
}

/// What was lost in half a line, if anything was: how much, of what, and the options that make more room where it was short.
pub fn in_short(coverage: &Coverage) -> Option<String> {
    let lost: Vec<(Counter, u64)> = coverage.counts.losses().filter(|(_, count)| *count > 0).collect();
    let tables = coverage.notes.kinds().iter().flat_map(Cases::kept).filter_map(|note| match note {
        Note::StacksNotKept { table, .. } => Some(room_of(*table)),
        _ => None,
    });
    let tables: Vec<Room> = tables.collect();
    let rooms = lost.iter().flat_map(|(counter, _)| match counter {
        // Which of the two is known.
        Counter::SiteTableFull | Counter::GrowthSiteFull if !tables.is_empty() => tables.clone(),
        _ => vec![describe(*counter).room],
    });
    // This is no watch.
    let rooms: Vec<Room> = rooms.map(|room| Room { of_watch: None, ..room }).collect();
    let each =
        lost.iter().map(|(counter, count)| format!("{} {}", describe(*counter).name, thousands(*count)));
    let each: Vec<String> = each.collect();
    (!lost.is_empty()).then(|| format!("lost: {}{}", each.join(", "), raise(&rooms)))
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
        coverage.counts.add(Counter::LiveMapFull, 7);
        coverage.counts.add(Counter::RingFull, 1);
        let said = in_short(&coverage).expect("a loss");
        assert!(
            said.ends_with("; raise --memory, or --max-live and --max-frames; raise --max-events"),
            "{said}"
        );
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
