//! Notes in words: a sentence for a case, a line for a kind.

use super::counters;
use crate::model::{AfterDistrust, Cases, Note, Notes, StackTable};
use crate::printable::printable;
use crate::units::{counted, duration, human, seconds, thousands};
use serde::Serialize;

/// Milliseconds of nanoseconds.
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// One case, as a sentence without a full stop.
pub(super) fn sentence(note: &Note) -> String {
    match note {
        Note::PerfEventProbes { filter_by_thread: false } => {
            "this kernel has no uprobe multi links: perf-event probes are used, which cost more and take about 0.1 s \
             each to remove"
                .to_owned()
        }
        Note::PerfEventProbes { filter_by_thread: true } => {
            "this kernel's uprobe multi links filter by thread: perf-event probes are used, which cost more and take \
             about 0.1 s each to remove"
                .to_owned()
        }
        Note::GrowthOff => "brk and mmap were not traced (--no-growth)".to_owned(),
        Note::GrowthUnavailable { reason } => format!("brk and mmap were not traced: {reason}"),
        Note::FaultsUnavailable { reason } => format!("page faults were not traced: {reason}"),
        Note::MappingsFromProc { reason } => {
            format!("code mappings were read from /proc only ({reason}): short-lived processes may lack symbols")
        }
        Note::MappingsLost { count } => {
            let mappings = counted(*count, "code mapping was lost", "code mappings were lost");
            format!("{mappings}: some frames may have no module")
        }
        Note::TracepointsSkipped { count } => format!(
            "the kernel left programs of tracepoints out {} times, as another one ran on the CPU: calls of brk, mmap, \
             munmap and mremap, or processes' forks and ends, are missing",
            thousands(*count)
        ),
        Note::TrapsForOthers { files, more } => {
            let more = if *more > 0 { format!(" or {more} more") } else { String::new() };
            format!(
                "children were traced from their first call: every process that maps {}{more} took a trap at each of \
                 its calls meanwhile, 0.5 to 1 us (--no-exact-children spares them)",
                files.join(" or ")
            )
        }
        Note::Budget { per_million } => format!(
            "within a budget: a process of whose processor time tracing took more than {}% was traced for part of the \
             time (--budget)",
            *per_million as f64 / 1e4
        ),
        Note::WhenGrowing { bytes, within_ns } => format!(
            "only processes whose memory grew by {} within {} were traced, from then on (--when-growing)",
            human(*bytes),
            duration(*within_ns)
        ),
        Note::Grew { pid, comm, after_ns, bytes, within_ns } => format!(
            "{comm}:{pid}: traced from {} on, as long as it grew: by {} within {} at first",
            seconds(*after_ns),
            human(*bytes),
            duration(*within_ns)
        ),
        Note::PriceUnknown { reason } => format!("what tracing cost is not known: {reason}"),
        Note::NoUnwindTable { reason } => reason.clone(),
        Note::MappingsWithoutTable { count } => {
            let mappings = counted(*count, "code mapping", "code mappings");
            format!("{mappings} beyond those a process can have were walked without tables")
        }
        Note::StacksNotKept { table, count } => {
            let calls = counted(*count, "call", "calls");
            let name = match table {
                StackTable::Sites => "sites",
                StackTable::Frames => "frames",
            };
            format!("the table of {name} had no room for the stacks of {calls}{}", counters::raise_for(*table))
        }
        Note::UnclassedBlocks { count } => {
            let blocks = counted(*count, "block is", "blocks are");
            format!("{blocks} in no size class: the table of sizes that are allocated often had no room")
        }
        Note::NotProbed { what } => what.clone(),
        Note::HiddenAllocator { path, allocator } => format!(
            "{path} has {allocator} inside, as its messages are there, and no names of {allocator}'s functions: what it \
             allocates is not seen (a build with its symbols shows that; --trace growth and faults show the memory without)"
        ),
        Note::ProbesNotPlaced { pid, reason } => {
            format!("process {pid}: probes could not be placed: {reason}")
        }
        Note::LeftOut { pid, comm, reason } => format!("not traced: {comm}:{pid}: {reason}"),
        Note::ProbedLate { pid, comm, files, late_ns } => format!(
            "{comm}:{pid}: calls of the first {:.3} ms of {} were not seen: it was mapped while tracing",
            ms(*late_ns),
            files.join(" and ")
        ),
        Note::EndedUnseen { pid, comm, files, opened } => {
            let which = if *opened {
                ", where nothing was probed for it,"
            } else {
                ", if allocators are among them,"
            };
            format!(
                "{comm}:{pid}: it ended before it could be looked at: calls in {}{which} were not seen",
                files.join(" and ")
            )
        }
        Note::OwnSamples { pid, comm, files } => format!(
            "{comm}:{pid}: traced by samples that {} {} of itself; what other allocators in it do is not seen (--no-native \
             samples their functions)",
            files.join(" and "),
            if files.len() == 1 { "tells" } else { "tell" }
        ),
        Note::CodeReplaced { pid, comm, before, after } => {
            format!("{comm}:{pid}: {after} was mapped where {before} had been: stacks in one may bear names of the other")
        }
        Note::Distrusted { function, path, after_ns, reason, then } => {
            let after = *after_ns as f64 / 1e9;
            let trust = match then {
                AfterDistrust::Ended => "what was counted of it is not to be trusted",
                AfterDistrust::NotProbed => {
                    "what was counted of it before is not to be trusted; it is not probed any more, so its later blocks \
                     are in no total"
                }
                AfterDistrust::ProbedAtReturns => {
                    "what was counted of it before is not to be trusted; from then on it is probed at its entry and \
                     returns, which costs several times more for each call"
                }
            };
            format!("{function} in {path}: after {after:.1} s, {reason}: {trust}")
        }
        Note::NotProbedAgain { pid, reason } => {
            format!("process {pid} is not counted any more: it could not be probed again: {reason}")
        }
        Note::BreakpointsNotHeld { pid, reason } => format!(
            "process {pid}: its first thread ended, and its probes could not be held for the others ({reason}): calls \
             may be missing from then on"
        ),
        Note::BreakpointsGone { pid, missed_ns } => format!(
            "process {pid}: its first thread ended, and its probes went with another tracer's before they were held: \
             calls of {} ms may be missing",
            missed_ns / 1_000_000
        ),
        Note::ProbesMoved { pid, first_thread, missed_ns } => {
            let ended = if *first_thread { "its first thread" } else { "a further thread" };
            let what = match missed_ns {
                Some(ns) => format!("calls of the next {} ms were not seen", ns / 1_000_000),
                None => "later calls were not seen".to_owned(),
            };
            format!("process {pid}: {ended} ended, and on this kernel its probes with it: {what}")
        }
        Note::EndedBlocksNotRemoved { reason } => {
            format!("blocks of ended processes could not be removed from the live map: {reason}")
        }
        Note::TablesNotGrown { reason } => format!("tables could not grow further: {reason}"),
        Note::MappingsNotRead => {
            "the mappings of some processes were not looked at, as that took too long: what they have unmapped may count \
             as live"
                .to_owned()
        }
        Note::LiveBlocksUnreadable { reason } => format!("live blocks could not be read: {reason}"),
        Note::UnmappedBlocksUnknown { reason } => {
            format!("blocks that ended without a free could not be looked for: {reason}")
        }
        Note::MappingsUnreadable { pid, reason } => {
            format!("unmapped blocks of process {pid} count as live: {reason}")
        }
        Note::HeapNotRead { pid, reason } => {
            format!("freed blocks of process {pid} count as live until their addresses are handed out again, as its heap was \
                     not read: {reason}")
        }
        Note::MemoryNotMeasured { pid, reason } => {
            format!("the memory of process {pid} could not be measured: {reason}")
        }
        Note::Marked { at_ns, name } => format!("mark {name} at {}", seconds(*at_ns)),
        Note::NamesMissing { what } => what.clone(),
        Note::FileDamaged { block, offset, reason } => {
            format!("the file was read up to block {block} at offset {offset}, which is damaged: {reason}")
        }
        Note::PartsSkipped { what } => what.clone(),
        Note::Told { text } => text.clone(),
    }
}

/// What several cases of the kind of `note` are: a noun, and what is said of each.
const fn several(note: &Note) -> (&'static str, &'static str) {
    match note {
        Note::PerfEventProbes { .. } => ("reasons", "why perf-event probes are used"),
        Note::GrowthOff | Note::GrowthUnavailable { .. } => ("reasons", "why brk and mmap were not traced"),
        Note::FaultsUnavailable { .. } => ("reasons", "why page faults were not traced"),
        Note::MappingsFromProc { .. } => ("reasons", "why code mappings were read from /proc only"),
        Note::MappingsLost { .. } => ("times", "code mappings were lost"),
        Note::TracepointsSkipped { .. } => ("times", "the kernel skipped tracepoint events"),
        Note::TrapsForOthers { .. } => ("times", "processes that are not traced took traps"),
        Note::Budget { .. } => ("budgets", "processes were traced within"),
        Note::WhenGrowing { .. } => ("rates of growth", "from which on processes were traced"),
        Note::Grew { .. } => ("times", "a process was traced from then on, as it had grown"),
        Note::PriceUnknown { .. } => ("reasons", "why it is not known what tracing cost"),
        Note::NoUnwindTable { .. } => ("reasons", "why stacks were walked without unwind tables"),
        Note::MappingsWithoutTable { .. } => ("times", "code mappings were walked without tables"),
        Note::StacksNotKept { .. } => ("tables", "had no room for stacks"),
        Note::UnclassedBlocks { .. } => ("times", "blocks are in no size class"),
        Note::NotProbed { .. } => ("functions or files", "are not traced, or not wholly"),
        Note::HiddenAllocator { .. } => {
            ("programs", "have allocators inside without names, whose blocks are not seen")
        }
        Note::ProbesNotPlaced { .. } => ("times", "probes could not be placed in a process"),
        Note::LeftOut { .. } => ("more processes", "were not traced"),
        Note::ProbedLate { .. } => {
            ("times", "a process mapped files while tracing, whose first calls were not seen")
        }
        Note::EndedUnseen { .. } => (
            "processes",
            "ended before they could be looked at; calls in what they mapped last were not seen",
        ),
        Note::OwnSamples { .. } => (
            "processes",
            "traced by samples that their allocators tell of; what other allocators in them do is not seen (--no-native)",
        ),
        Note::CodeReplaced { .. } => (
            "times",
            "a library was mapped where another had been: stacks in one may bear names of the other",
        ),
        Note::Distrusted { .. } => ("times", "what was counted of a function is not to be trusted"),
        Note::NotProbedAgain { .. } => ("processes", "are not counted any more"),
        Note::BreakpointsNotHeld { .. } | Note::BreakpointsGone { .. } | Note::ProbesMoved { .. } => {
            ("times", "a thread ended and a process's probes went with it")
        }
        Note::EndedBlocksNotRemoved { .. } => ("times", "blocks of ended processes could not be removed"),
        Note::TablesNotGrown { .. } => ("times", "tables could not grow"),
        Note::MappingsNotRead => ("times", "mappings were not looked at"),
        Note::LiveBlocksUnreadable { .. } => ("times", "live blocks could not be read"),
        Note::UnmappedBlocksUnknown { .. } => {
            ("times", "blocks that ended without a free could not be looked for")
        }
        Note::MappingsUnreadable { .. } => {
            ("processes", "whose mappings could not be read: unmapped blocks count as live")
        }
        Note::HeapNotRead { .. } => (
            "times",
            "a heap was not read: freed blocks count as live until their addresses are handed out again",
        ),
        Note::MemoryNotMeasured { .. } => ("times", "a process's memory could not be measured"),
        Note::Marked { .. } => ("marks", "were set (--verbose lists them)"),
        Note::NamesMissing { .. } => ("reasons", "why names are missing"),
        Note::FileDamaged { .. } => ("places", "where the file is damaged"),
        Note::PartsSkipped { .. } => ("parts", "of the recording were skipped"),
        Note::Told { .. } => ("more notes", "of the version that recorded"),
    }
}

/// One case, to be said while tracing.
pub fn said(note: &Note) -> String {
    printable(&sentence(note)).into_owned()
}

/// A kind, in one line: its only case, or how many there are and the worst.
fn line(cases: &Cases) -> String {
    let worst = sentence(cases.worst());
    let text = if cases.count() == 1 {
        worst
    } else {
        let (noun, what) = several(cases.worst());
        let which = if cases.worst().weight() > 0 { "worst:" } else { "e.g." };
        format!("{} {noun} {what}; {which} {worst}", thousands(cases.count()))
    };
    printable(&text).into_owned()
}

/// Programs whose allocators have no names, and who is most of what a report is not about: each in a line.
pub(super) fn hidden(notes: &Notes) -> Vec<String> {
    let kinds = notes.kinds().iter().filter(|cases| matches!(cases.worst(), Note::HiddenAllocator { .. }));
    kinds.map(line).collect()
}

/// Of kinds that are losses, or of those that are none, a line each. `verbose`: a line for each case that is kept.
pub(super) fn lines(notes: &Notes, losses: bool, verbose: bool) -> Vec<String> {
    let of = notes.kinds().iter().filter(|cases| cases.worst().is_loss() == losses);
    if !verbose {
        return of.map(line).collect();
    }
    of.flat_map(|cases| {
        let each = cases.kept().iter().map(|note| printable(&sentence(note)).into_owned());
        each.chain(more(cases))
    })
    .collect()
}

/// Says that not all cases are kept.
fn more(cases: &Cases) -> Option<String> {
    let (noun, what) = several(cases.worst());
    (cases.more() > 0).then(|| format!("{} more {noun} {what}", thousands(cases.more())))
}

/// Every case that is kept as a sentence, and how many more there were.
pub(super) fn sentences(notes: &Notes) -> Vec<String> {
    let kinds = notes.kinds().iter();
    kinds.flat_map(|cases| cases.kept().iter().map(sentence).chain(more(cases))).collect()
}

/// A kind in JSON.
#[derive(Serialize)]
pub(super) struct Fact<'a> {
    kind: &'static str,
    count: u64,
    /// Numbers are missing where this is so.
    incomplete: bool,
    /// The worst cases, each with its data.
    worst: &'a [Note],
}

/// Each kind, with the worst cases.
pub(super) fn facts(notes: &Notes) -> Vec<Fact<'_>> {
    /// The others are among the sentences.
    const WORST: usize = 4;
    notes
        .kinds()
        .iter()
        .map(|cases| Fact {
            kind: cases.worst().kind(),
            count: cases.count(),
            incomplete: cases.worst().is_loss(),
            worst: &cases.kept()[..cases.kept().len().min(WORST)],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(pid: u32, late_ns: u64) -> Note {
        Note::ProbedLate { pid, comm: "cc1".into(), files: vec!["/lib/libc.so.6".into()], late_ns }
    }

    #[test]
    fn many_cases_are_one_line_with_the_worst_and_each_is_told_on_demand() {
        let notes: Notes = (1..=3_000).map(|pid| late(pid, u64::from(pid) * 1_000)).collect();
        let worst = "cc1:3000: calls of the first 3.000 ms of /lib/libc.so.6 were not seen: it was mapped while tracing";
        let what = "a process mapped files while tracing, whose first calls were not seen";
        assert_eq!(lines(&notes, true, false), [format!("3,000 times {what}; worst: {worst}")]);
        assert_eq!(lines(&notes, false, false), [] as [String; 0]);
        let all = lines(&notes, true, true);
        assert_eq!((all.len(), all[0].as_str()), (Cases::KEPT + 1, worst));
        assert_eq!(all[Cases::KEPT], format!("2,000 more times {what}"));
    }

    #[test]
    fn a_single_case_is_its_sentence_and_names_the_kind_in_json() {
        let notes: Notes = [late(7, 1_500_000), Note::GrowthOff].into_iter().collect();
        let [sentence] = &lines(&notes, true, false)[..] else { panic!("one loss") };
        assert!(sentence.starts_with("cc1:7: calls of the first 1.500 ms"), "{sentence}");
        assert_eq!(lines(&notes, false, false), ["brk and mmap were not traced (--no-growth)"]);
        let json = serde_json::to_value(facts(&notes)).expect("JSON");
        assert_eq!(json[0]["kind"], json[0]["worst"][0]["kind"]);
        assert_eq!((&json[0]["count"], &json[0]["incomplete"]), (&1.into(), &true.into()));
        assert_eq!(json[0]["worst"][0]["late_ns"], 1_500_000);
    }
}
