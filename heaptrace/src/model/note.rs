//! Facts about a recording that no counter holds: each a case of a kind, counted by kind, with the worst cases kept.
//! Their sentences are in `report/notes.rs`.

use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, mem::discriminant};

/// One case. Each variant is a kind of fact. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Note {
    /// Probes are perf events: the kernel has no uprobe multi links, or their filter covers one thread only.
    PerfEventProbes {
        filter_by_thread: bool,
    },
    /// Growth was not asked for.
    GrowthOff,
    GrowthUnavailable {
        reason: String,
    },
    FaultsUnavailable {
        reason: String,
    },
    /// Code mappings were not heard of as they happened.
    MappingsFromProc {
        reason: String,
    },
    MappingsLost {
        count: u64,
    },
    /// Programs of tracepoints that the kernel did not run.
    TracepointsSkipped {
        count: u64,
    },
    /// Processes that are not traced took traps, too: those that map one of these files, or of so many more.
    TrapsForOthers {
        files: Vec<String>,
        more: u64,
    },
    /// Probes are taken away for a while from processes of whose processor time tracing takes more than so much.
    Budget {
        per_million: u64,
    },
    /// Only processes are probed whose anonymous resident memory has grown by so many bytes within so long.
    WhenGrowing {
        bytes: u64,
        within_ns: u64,
    },
    /// One that has, so long after tracing began.
    Grew {
        pid: u32,
        comm: String,
        after_ns: u64,
        bytes: u64,
        within_ns: u64,
    },
    /// What tracing costs could not be measured.
    PriceUnknown {
        reason: String,
    },
    NoUnwindTable {
        reason: String,
    },
    /// Code mappings of a process beyond those that can have tables.
    MappingsWithoutTable {
        count: u64,
    },
    /// Calls whose stacks found no room in a table; what came of them is among what was lost.
    StacksNotKept {
        table: StackTable,
        count: u64,
    },
    /// Blocks that are in no class of sizes.
    UnclassedBlocks {
        count: u64,
    },
    /// A function or a file of which calls are not seen.
    NotProbed {
        what: String,
    },
    /// A program with an allocator inside, known by its messages, of whose functions there are no names.
    HiddenAllocator {
        path: String,
        allocator: String,
    },
    /// Probes of a process that could not be placed.
    ProbesNotPlaced {
        pid: u32,
        reason: String,
    },
    /// A process that is not traced, beyond those that are listed as untraceable.
    LeftOut {
        pid: u32,
        comm: String,
        reason: String,
    },
    /// Files that were mapped while tracing, so long before they were probed.
    ProbedLate {
        pid: u32,
        comm: String,
        files: Vec<String>,
        late_ns: u64,
    },
    /// A process that ended before it was looked at, with these files that it had mapped. `opened`: that they are
    /// allocators is known.
    EndedUnseen {
        pid: u32,
        comm: String,
        files: Vec<String>,
        opened: bool,
    },
    /// A process whose allocator tells of samples itself, from these files: its functions were not probed.
    OwnSamples {
        pid: u32,
        comm: String,
        files: Vec<String>,
    },
    /// Code of one file was mapped where stacks had been taken in another's.
    CodeReplaced {
        pid: u32,
        comm: String,
        before: String,
        after: String,
    },
    /// A function whose calls were not as its code says.
    Distrusted {
        function: String,
        path: String,
        after_ns: u64,
        reason: String,
        then: AfterDistrust,
    },
    /// A process that lost its probes for good when they were to be placed in another way.
    NotProbedAgain {
        pid: u32,
        reason: String,
    },
    /// The first thread ended, and breakpoints could not be held for the others.
    BreakpointsNotHeld {
        pid: u32,
        reason: String,
    },
    /// The first thread ended, and breakpoints were gone for so long.
    BreakpointsGone {
        pid: u32,
        missed_ns: u64,
    },
    /// The thread that probes were placed by ended, and they were placed again after so long, or never.
    ProbesMoved {
        pid: u32,
        first_thread: bool,
        missed_ns: Option<u64>,
    },
    EndedBlocksNotRemoved {
        reason: String,
    },
    /// Sites and stacks found no more room than there was until then.
    TablesNotGrown {
        reason: String,
    },
    /// A look at all mappings took too long.
    MappingsNotRead,
    LiveBlocksUnreadable {
        reason: String,
    },
    UnmappedBlocksUnknown {
        reason: String,
    },
    MappingsUnreadable {
        pid: u32,
        reason: String,
    },
    /// Where frees are not traced: blocks that are free in it count as live.
    HeapNotRead {
        pid: u32,
        reason: String,
    },
    MemoryNotMeasured {
        pid: u32,
        reason: String,
    },
    /// A name that somebody gave the moment of a saved state.
    Marked {
        at_ns: u64,
        name: String,
    },
    /// Files without names.
    NamesMissing {
        what: String,
    },
    /// The recording is damaged from here on.
    FileDamaged {
        block: u64,
        offset: u64,
        reason: String,
    },
    /// Parts of the recording that this version does not know.
    PartsSkipped {
        what: String,
    },
    /// A sentence of a recording that has no typed notes, or of a kind that only newer versions know.
    Told {
        text: String,
    },
}

/// What a stack takes room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackTable {
    Sites,
    Frames,
}

/// What became of the probes of a function that is distrusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterDistrust {
    /// Tracing had ended.
    Ended,
    NotProbed,
    /// Probed at its entry and returns.
    ProbedAtReturns,
}

impl Note {
    /// Name of the kind, as in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PerfEventProbes { .. } => "perf_event_probes",
            Self::GrowthOff => "growth_off",
            Self::GrowthUnavailable { .. } => "growth_unavailable",
            Self::FaultsUnavailable { .. } => "faults_unavailable",
            Self::MappingsFromProc { .. } => "mappings_from_proc",
            Self::MappingsLost { .. } => "mappings_lost",
            Self::TracepointsSkipped { .. } => "tracepoints_skipped",
            Self::TrapsForOthers { .. } => "traps_for_others",
            Self::Budget { .. } => "budget",
            Self::WhenGrowing { .. } => "when_growing",
            Self::Grew { .. } => "grew",
            Self::PriceUnknown { .. } => "price_unknown",
            Self::NoUnwindTable { .. } => "no_unwind_table",
            Self::MappingsWithoutTable { .. } => "mappings_without_table",
            Self::StacksNotKept { .. } => "stacks_not_kept",
            Self::UnclassedBlocks { .. } => "unclassed_blocks",
            Self::NotProbed { .. } => "not_probed",
            Self::HiddenAllocator { .. } => "hidden_allocator",
            Self::ProbesNotPlaced { .. } => "probes_not_placed",
            Self::LeftOut { .. } => "left_out",
            Self::ProbedLate { .. } => "probed_late",
            Self::EndedUnseen { .. } => "ended_unseen",
            Self::OwnSamples { .. } => "own_samples",
            Self::CodeReplaced { .. } => "code_replaced",
            Self::Distrusted { .. } => "distrusted",
            Self::NotProbedAgain { .. } => "not_probed_again",
            Self::BreakpointsNotHeld { .. } => "breakpoints_not_held",
            Self::BreakpointsGone { .. } => "breakpoints_gone",
            Self::ProbesMoved { .. } => "probes_moved",
            Self::EndedBlocksNotRemoved { .. } => "ended_blocks_not_removed",
            Self::TablesNotGrown { .. } => "tables_not_grown",
            Self::MappingsNotRead => "mappings_not_read",
            Self::LiveBlocksUnreadable { .. } => "live_blocks_unreadable",
            Self::UnmappedBlocksUnknown { .. } => "unmapped_blocks_unknown",
            Self::MappingsUnreadable { .. } => "mappings_unreadable",
            Self::HeapNotRead { .. } => "heap_not_read",
            Self::MemoryNotMeasured { .. } => "memory_not_measured",
            Self::Marked { .. } => "marked",
            Self::NamesMissing { .. } => "names_missing",
            Self::FileDamaged { .. } => "file_damaged",
            Self::PartsSkipped { .. } => "parts_skipped",
            Self::Told { .. } => "told",
        }
    }

    /// Whether numbers are incomplete where this is the case. What only makes them less certain, or leaves names out, is
    /// no loss.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::GrowthUnavailable { .. }
            | Self::FaultsUnavailable { .. }
            | Self::MappingsLost { .. }
            | Self::TracepointsSkipped { .. }
            | Self::StacksNotKept { .. }
            | Self::UnclassedBlocks { .. }
            | Self::NotProbed { .. }
            | Self::HiddenAllocator { .. }
            | Self::ProbesNotPlaced { .. }
            | Self::ProbedLate { .. }
            | Self::EndedUnseen { .. }
            | Self::CodeReplaced { .. }
            | Self::Distrusted { .. }
            | Self::NotProbedAgain { .. }
            | Self::BreakpointsNotHeld { .. }
            | Self::BreakpointsGone { .. }
            | Self::ProbesMoved { .. }
            | Self::FileDamaged { .. } => true,
            Self::PerfEventProbes { .. }
            | Self::GrowthOff
            | Self::MappingsFromProc { .. }
            | Self::TrapsForOthers { .. }
            | Self::Budget { .. }
            | Self::WhenGrowing { .. }
            | Self::Grew { .. }
            | Self::PriceUnknown { .. }
            | Self::NoUnwindTable { .. }
            | Self::MappingsWithoutTable { .. }
            | Self::LeftOut { .. }
            | Self::OwnSamples { .. }
            | Self::EndedBlocksNotRemoved { .. }
            | Self::TablesNotGrown { .. }
            | Self::MappingsNotRead
            | Self::LiveBlocksUnreadable { .. }
            | Self::UnmappedBlocksUnknown { .. }
            | Self::MappingsUnreadable { .. }
            | Self::HeapNotRead { .. }
            | Self::MemoryNotMeasured { .. }
            | Self::Marked { .. }
            | Self::NamesMissing { .. }
            | Self::PartsSkipped { .. }
            | Self::Told { .. } => false,
        }
    }

    /// How bad a case of its kind is: time or events missed. 0 where all are alike.
    pub fn weight(&self) -> u64 {
        match self {
            Self::ProbedLate { late_ns, .. } => *late_ns,
            Self::BreakpointsGone { missed_ns, .. } => *missed_ns,
            Self::ProbesMoved { missed_ns, .. } => missed_ns.unwrap_or(u64::MAX),
            Self::MappingsLost { count }
            | Self::TracepointsSkipped { count }
            | Self::MappingsWithoutTable { count }
            | Self::StacksNotKept { count, .. }
            | Self::UnclassedBlocks { count } => *count,
            Self::EndedUnseen { files, .. } => files.len() as u64,
            Self::Grew { bytes, .. } => *bytes,
            _ => 0,
        }
    }
}

/// The cases of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cases {
    count: u64,
    /// The worst first; never empty.
    kept: Vec<Note>,
}

impl Cases {
    /// The most that are kept of a kind: memory stays the same, however many processes there are.
    pub const KEPT: usize = 1_000;

    /// All there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those that are kept, the worst first.
    pub fn kept(&self) -> &[Note] {
        &self.kept
    }

    pub fn worst(&self) -> &Note {
        &self.kept[0]
    }

    /// How many are not kept.
    pub fn more(&self) -> u64 {
        self.count - self.kept.len() as u64
    }
}

/// All facts of a recording, by kind, in the order in which the kinds came up. A case that is kept and comes again is no
/// other one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(Vec<Cases>);

impl Notes {
    /// Takes a case.
    pub fn take(&mut self, note: Note) {
        let Some(cases) = self.of_kind(&note) else {
            return self.0.push(Cases { count: 1, kept: vec![note] });
        };
        let at = match cases.kept.binary_search_by(|kept| {
            Reverse(kept.weight()).cmp(&Reverse(note.weight())).then_with(|| kept.cmp(&note))
        }) {
            Ok(_) => return,
            Err(at) => at,
        };
        cases.count = cases.count.saturating_add(1);
        if at < Cases::KEPT {
            cases.kept.truncate(Cases::KEPT - 1);
            cases.kept.insert(at, note);
        }
    }

    /// Counts `more` cases like `note`, of which nothing else is known.
    pub fn count_more(&mut self, note: &Note, more: u64) {
        if let Some(cases) = self.of_kind(note) {
            cases.count = cases.count.saturating_add(more);
        }
    }

    /// Takes all that `other` has.
    pub fn merge(&mut self, other: &Self) {
        for cases in &other.0 {
            cases.kept.iter().for_each(|note| self.take(note.clone()));
            self.count_more(cases.worst(), cases.more());
        }
    }

    pub fn kinds(&self) -> &[Cases] {
        &self.0
    }

    /// How many cases there are of the kind of `note`.
    pub fn count_like(&self, note: &Note) -> u64 {
        self.0.iter().find(|cases| is_like(cases, note)).map_or(0, Cases::count)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first mark of this name was set.
    pub fn marked(&self, wanted: &str) -> Option<u64> {
        self.marks().find(|(_, name)| *name == wanted).map(|(at_ns, _)| at_ns)
    }

    /// All marks that are kept, in their order.
    pub fn marks(&self) -> impl Iterator<Item = (u64, &str)> {
        self.0.iter().flat_map(|cases| &cases.kept).filter_map(|note| match note {
            Note::Marked { at_ns, name } => Some((*at_ns, name.as_str())),
            _ => None,
        })
    }

    fn of_kind(&mut self, note: &Note) -> Option<&mut Cases> {
        self.0.iter_mut().find(|cases| is_like(cases, note))
    }
}

fn is_like(cases: &Cases, note: &Note) -> bool {
    discriminant(cases.worst()) == discriminant(note)
}

impl Extend<Note> for Notes {
    fn extend<I: IntoIterator<Item = Note>>(&mut self, notes: I) {
        notes.into_iter().for_each(|note| self.take(note));
    }
}

impl FromIterator<Note> for Notes {
    fn from_iter<I: IntoIterator<Item = Note>>(notes: I) -> Self {
        let mut all = Self::default();
        all.extend(notes);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(pid: u32, late_ns: u64) -> Note {
        Note::ProbedLate { pid, comm: "x".into(), files: vec!["/lib/a".into()], late_ns }
    }

    #[test]
    fn of_many_cases_the_worst_are_kept_and_all_are_counted() {
        let notes: Notes = (0..100_000).map(|pid| late(pid, u64::from(pid) * 7919 % 100_003)).collect();
        let [cases] = notes.kinds() else { panic!("one kind: {}", notes.kinds().len()) };
        assert_eq!((cases.count(), cases.kept().len(), cases.more()), (100_000, Cases::KEPT, 99_000));
        assert_eq!(cases.worst().weight(), 100_002);
        let weights: Vec<u64> = cases.kept().iter().map(Note::weight).collect();
        assert!(weights.is_sorted_by(|a, b| a >= b) && weights[999] >= 99_000, "{weights:?}");
    }

    #[test]
    fn a_case_that_comes_again_is_the_same_one() {
        let mut notes: Notes =
            [late(1, 5), late(2, 9), late(1, 5), Note::GrowthOff, Note::GrowthOff].into_iter().collect();
        let counts: Vec<(&str, u64)> =
            notes.kinds().iter().map(|cases| (cases.worst().kind(), cases.count())).collect();
        assert_eq!(counts, [("probed_late", 2), ("growth_off", 1)]);
        assert_eq!(notes.kinds()[0].worst(), &late(2, 9));
        let same = notes.clone();
        notes.merge(&same);
        assert_eq!(notes, same);
    }
}
