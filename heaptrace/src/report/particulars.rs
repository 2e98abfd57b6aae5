//! What is particular to single processes, for the footer: of each kind of fact one line, with the worst process by name.

use super::table::process_name;
use crate::model::{Mode, Process, Untraceable};
use crate::printable::printable;
use crate::units::{counted, human, percent, seconds, thousands};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Processes that are told of one by one on demand; the JSON has all.
const EACH: usize = 1_000;

/// Names in a line.
const NAMES: usize = 4;

/// A kind of fact.
struct Kind {
    /// How much of it a process has; 0 for nothing.
    weight: fn(&Process) -> u64,
    /// The sentence on some processes, behind their name and a colon.
    say: fn(&[&Process], Mode) -> String,
}

const KINDS: [Kind; 6] = [
    Kind {
        weight: |process| process.lost_count,
        say: |of, _| {
            format!("{} found no room and are in no total", blocks(of, |p| p.lost_count, |p| p.lost_bytes))
        },
    },
    Kind {
        weight: |process| process.missed_frees,
        say: |of, _| {
            let blocks = counted(sum(of, |p| p.missed_frees), "block", "blocks");
            format!("{blocks} counted as freed, as the address was handed out again (no free was seen)")
        },
    },
    Kind {
        weight: |process| process.inherited_count.max(process.inherited_free_count),
        say: |of, mode| {
            // Where blocks are sampled, what stands for more is counted once.
            let (one, many) =
                if mode.sample_bytes() == 0 { ("block", "blocks") } else { ("sample", "samples") };
            let count = counted(sum(of, |p| p.inherited_count), one, many);
            let bytes = human(sum(of, |p| p.inherited_bytes));
            let freed = sum(of, |p| p.inherited_free_count);
            // Of samples it is not known.
            let freed = match mode {
                Mode::Exact => format!("; {} of them freed", thousands(freed)),
                _ => String::new(),
            };
            format!("{count} ({bytes}) inherited at fork, in no total{freed}")
        },
    },
    Kind {
        weight: |process| process.totals.released_count,
        say: |of, _| {
            let blocks = blocks(of, |p| p.totals.released_count, |p| p.totals.released_bytes);
            format!("{blocks} released by exec")
        },
    },
    Kind {
        weight: |process| process.totals.gone_count,
        say: |of, _| {
            let blocks = blocks(of, |p| p.totals.gone_count, |p| p.totals.gone_bytes);
            format!(
                "{blocks} ended without a free that was seen: unmapped, under a newer block, or free in the heap"
            )
        },
    },
    Kind {
        weight: |process| process.failed_count,
        say: |of, _| {
            let calls = counted(sum(of, |p| p.failed_count), "failed call", "failed calls");
            format!("{calls} (no memory was returned)")
        },
    },
];

/// A process whose beginning was not traced; footers tell of all in one line, as of other losses.
const LATE: Kind = Kind {
    // One of no time is none: see `Process::attach_gap_ns`.
    weight: |process| process.attach_gap_ns.map_or(0, |gap| gap.max(1)),
    say: |of, _| not_traced_at_first(of),
};

/// A process whose probes were away on purpose; as [`LATE`].
const PAUSED: Kind = Kind {
    weight: |process| process.paused_ns,
    say: |of, _| {
        let share = percent(sum(of, |p| p.attached_ns), sum(of, |p| p.life_ns));
        format!("paused for {}, traced for {share:.2}% of the time", seconds(sum(of, |p| p.paused_ns)))
    },
};

/// A process that ended heaps as a whole while it has blocks that count as live: a loss.
const HEAPS: Kind = Kind {
    weight: |process| if process.totals.live_count() > 0 { process.heaps_ended } else { 0 },
    say: |of, _| {
        let live = blocks(of, |p| p.totals.live_count(), |p| p.totals.live_bytes());
        let heaps = counted(
            sum(of, |p| p.heaps_ended),
            "heap was ended with all its blocks",
            "heaps were ended with all their blocks",
        );
        format!(
            "{heaps} at once, and no free of these is seen (mi_heap_destroy, arena.N.reset and the like): of what counts as \
             live, {live}, any block from before may be over"
        )
    },
};

/// A process that got blocks of which nothing is known: a loss.
const UNSEEN: Kind = Kind {
    weight: |process| process.unseen_calls,
    say: |of, _| {
        let calls = counted(sum(of, |p| p.unseen_calls), "call", "calls");
        format!(
            "{calls} of functions that give blocks of sizes that are not known (mi_strdup, pools' and the like): their blocks \
             are in no total"
        )
    },
};

/// A process that has mapped much, has it in memory, and allocated next to nothing by functions that are seen.
const GREW_UNSEEN: Kind = Kind {
    weight: grown_unseen,
    say: |of, _| {
        let (mapped, allocated) = (sum(of, grown_unseen), sum(of, |p| p.totals.alloc_bytes));
        format!(
            "{} was mapped and is resident, and {} was allocated by functions that are seen: by an allocator that is not \
             seen, or by mappings of its own (--view growth shows where)",
            human(mapped),
            human(allocated)
        )
    },
};

/// What a process has mapped without allocating an eighth of it, if that is more than programs map to begin with.
fn grown_unseen(process: &Process) -> u64 {
    const MUCH: u64 = 32 << 20;
    let mapped = process.mmap_bytes.saturating_sub(process.munmap_bytes);
    let grown = mapped.saturating_add_signed(process.brk_bytes.max(0)).min(process.rss_bytes);
    let allocated = process.totals.alloc_bytes.saturating_add(process.filtered_bytes);
    // While probes were away, anything may have been allocated.
    if grown >= MUCH && process.paused_ns == 0 && allocated < grown / 8 { grown } else { 0 }
}

/// Of processes that grew without allocating, as [`unseen`].
pub(super) fn grew_unseen(processes: &[Process], mode: Mode, verbose: bool) -> Vec<String> {
    if mode.has_blocks() { of_one_kind(&GREW_UNSEEN, processes, mode, verbose) } else { Vec::new() }
}

/// Of processes that did with blocks what is not seen: a line for each kind, or, where `verbose`, one for each process.
pub(super) fn unseen(processes: &[Process], mode: Mode, verbose: bool) -> Vec<String> {
    [&HEAPS, &UNSEEN].into_iter().flat_map(|kind| of_one_kind(kind, processes, mode, verbose)).collect()
}

fn of_one_kind(kind: &Kind, processes: &[Process], mode: Mode, verbose: bool) -> Vec<String> {
    if verbose { each(kind, processes, mode) } else { of_kind(kind, processes, mode).into_iter().collect() }
}

fn not_traced_at_first(of: &[&Process]) -> String {
    let gap = of.iter().filter_map(|process| process.attach_gap_ns).max().unwrap_or_default() as f64 / 1e6;
    let share = percent(sum(of, |p| p.attached_ns), sum(of, |p| p.life_ns));
    let how = match of {
        [process] if process.parent_pid.is_some() => "followed from its parent",
        [_] => "found when it began",
        _ => "found late",
    };
    if sum(of, |p| p.attached_ns) == 0 {
        return format!("{how}: not all probes were there at any time");
    }
    let most = if of.len() > 1 { "at most " } else { "" };
    format!("{how}, probes {most}{gap:.3} ms late: all of them were there for {share:.2}% of the time")
}

fn sum(of: &[&Process], what: fn(&Process) -> u64) -> u64 {
    of.iter().fold(0, |sum, process| sum.saturating_add(what(process)))
}

fn blocks(of: &[&Process], count: fn(&Process) -> u64, bytes: fn(&Process) -> u64) -> String {
    format!("{} ({})", counted(sum(of, count), "block", "blocks"), human(sum(of, bytes)))
}

/// A line for each kind, or, where `verbose`, for each process.
pub(super) fn of_processes(processes: &[Process], mode: Mode, verbose: bool) -> Vec<String> {
    if verbose {
        KINDS.iter().chain([&LATE, &PAUSED]).flat_map(|kind| each(kind, processes, mode)).collect()
    } else {
        KINDS.iter().filter_map(|kind| of_kind(kind, processes, mode)).collect()
    }
}

fn of_kind(Kind { weight, say }: &Kind, processes: &[Process], mode: Mode) -> Option<String> {
    let of: Vec<&Process> = processes.iter().filter(|process| weight(process) > 0).collect();
    let worst = of.iter().rev().max_by_key(|process| weight(process))?;
    let name = process_name(worst);
    Some(match of.as_slice() {
        [process] => format!("{name}: {}", say(&[process], mode)),
        of => {
            let whole = thousands(of.len() as u64);
            format!("{whole} processes: {}; most in {name}: {}", say(of, mode), thousands(weight(worst)))
        }
    })
}

fn each(Kind { weight, say }: &Kind, processes: &[Process], mode: Mode) -> Vec<String> {
    let mut of: Vec<&Process> = processes.iter().filter(|process| weight(process) > 0).collect();
    of.sort_by_key(|process| Reverse(weight(process)));
    let (shown, rest) = of.split_at(of.len().min(EACH));
    let mut lines: Vec<_> =
        shown.iter().map(|process| format!("{}: {}", process_name(process), say(&[process], mode))).collect();
    if !rest.is_empty() {
        lines.push(format!("{} more processes: {}", thousands(rest.len() as u64), say(rest, mode)));
    }
    lines
}

/// Why processes were not traced: in one line, or, where `verbose`, in one for each process.
pub(super) fn untraceable(processes: &[Untraceable], verbose: bool) -> Vec<String> {
    if verbose {
        let all = processes.iter();
        return all.map(|process| not_traced(&name(process), &process.reason)).collect();
    }
    let mut by_reason: BTreeMap<&str, Vec<&Untraceable>> = BTreeMap::new();
    for process in processes {
        by_reason.entry(&process.reason).or_default().push(process);
    }
    let Some((reason, of)) = by_reason.iter().rev().max_by_key(|(_, of)| of.len()) else { return Vec::new() };
    let mut names = of.iter().take(NAMES).map(|process| name(process)).collect::<Vec<_>>().join(", ");
    if of.len() > NAMES {
        names += &format!(" and {} more", thousands((of.len() - NAMES) as u64));
    }
    let others = match processes.len() - of.len() {
        0 => String::new(),
        others => format!("; {} for other reasons", counted(others as u64, "process", "processes")),
    };
    vec![not_traced(&names, reason) + &others]
}

fn name(process: &Untraceable) -> String {
    format!("{}:{}", printable(&process.comm), process.pid)
}

fn not_traced(names: &str, reason: &str) -> String {
    format!("not traced: {names}: {}", printable(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Totals;

    fn process(pid: u32, lost_count: u64) -> Process {
        Process { pid, comm: "x".into(), lost_count, lost_bytes: 10 * lost_count, ..Process::default() }
    }

    #[test]
    fn a_kind_is_one_line_with_the_worst_and_each_process_one_on_demand() {
        let mut processes = vec![process(1, 1)];
        let one = "x:1: 1 block (10 B) found no room and are in no total";
        assert_eq!(of_processes(&processes, Mode::Exact, false), [one]);
        processes.extend((2..=5).map(|pid| process(pid, pid.into())));
        processes.extend((6..=1_000).map(|pid| process(pid, 1)));
        processes.push(process(1_001, 700));
        assert_eq!(
            of_processes(&processes, Mode::Exact, false),
            [
                "1,001 processes: 1,710 blocks (16.7 KiB) found no room and are in no total; most in x:1001: 700"
            ]
        );
        let lines = of_processes(&processes, Mode::Exact, true);
        assert_eq!(lines.len(), EACH + 1);
        assert_eq!(lines[0], "x:1001: 700 blocks (6.8 KiB) found no room and are in no total");
        assert_eq!(lines[1], "x:5: 5 blocks (50 B) found no room and are in no total");
        assert_eq!(lines[EACH], "1 more processes: 1 block (10 B) found no room and are in no total");
    }

    #[test]
    fn heaps_that_ended_matter_where_blocks_count_as_live() {
        let totals = Totals { alloc_bytes: 2_000, alloc_count: 2, ..Totals::default() };
        let live = Process { heaps_ended: 1, totals, ..process(1, 0) };
        let none = Process { heaps_ended: 7, ..process(2, 0) };
        assert_eq!(
            unseen(&[live, none], Mode::Exact, false),
            [
                "x:1: 1 heap was ended with all its blocks at once, and no free of these is seen (mi_heap_destroy, \
                 arena.N.reset and the like): of what counts as live, 2 blocks (2.0 KiB), any block from before may be over"
            ]
        );
    }

    #[test]
    fn calls_whose_blocks_are_not_known_are_said() {
        let of = Process { unseen_calls: 3, ..process(1, 0) };
        assert_eq!(
            unseen(&[of], Mode::Exact, false),
            [
                "x:1: 3 calls of functions that give blocks of sizes that are not known (mi_strdup, pools' and the like): \
                 their blocks are in no total"
            ]
        );
    }

    #[test]
    fn what_grows_without_allocating_is_said() {
        let grown = |mmap_bytes, rss_bytes, alloc_bytes| Process {
            mmap_bytes,
            rss_bytes,
            totals: Totals { alloc_bytes, ..Totals::default() },
            ..process(1, 0)
        };
        let mib = 1 << 20;
        let said = |of| grew_unseen(&[of], Mode::Exact, false);
        assert_eq!(
            said(grown(200 * mib, 100 * mib, mib)),
            [
                "x:1: 100.0 MiB was mapped and is resident, and 1.0 MiB was allocated by functions that are seen: by an \
                 allocator that is not seen, or by mappings of its own (--view growth shows where)"
            ]
        );
        // Stacks that were not used, a program that allocates, and one that is small.
        for other in
            [grown(200 * mib, mib, 0), grown(200 * mib, 100 * mib, 90 * mib), grown(mib, 100 * mib, 0)]
        {
            assert!(said(other).is_empty());
        }
        assert!(grew_unseen(&[grown(200 * mib, 100 * mib, 0)], Mode::Growth, false).is_empty());
    }

    #[test]
    fn who_was_left_out_is_in_one_line_with_the_reason_of_most() {
        let of = |pid, reason: &str| Untraceable { pid, comm: "x".into(), reason: reason.into() };
        let mut processes: Vec<_> = (1..=200).map(|pid| of(pid, "too many")).collect();
        assert_eq!(untraceable(&processes, false), ["not traced: x:1, x:2, x:3, x:4 and 196 more: too many"]);
        processes.insert(0, of(900, "gone"));
        assert_eq!(
            untraceable(&processes, false),
            ["not traced: x:1, x:2, x:3, x:4 and 196 more: too many; 1 process for other reasons"]
        );
        let each = untraceable(&processes, true);
        assert_eq!((each.len(), each[0].as_str()), (201, "not traced: x:900: gone"));
    }
}
