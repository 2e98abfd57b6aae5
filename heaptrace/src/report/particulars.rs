//! What is particular to single processes, for the footer: of each kind of fact the worst cases by name, and the rest in
//! one line.

use super::table::process_name;
use crate::model::{Process, Untraceable};
use crate::printable::printable;
use crate::units::{counted, human, percent, thousands};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Lines for one kind of fact; the JSON has all.
const LINES: usize = 5;

/// A kind of fact.
struct Kind {
    /// How much of it a process has; 0 for nothing.
    weight: fn(&Process) -> u64,
    /// The sentence on some processes, behind their name and a colon.
    say: fn(&[&Process]) -> String,
}

const KINDS: [Kind; 7] = [
    Kind {
        weight: |process| process.lost_count,
        say: |of| {
            format!("{} found no room and are in no total", blocks(of, |p| p.lost_count, |p| p.lost_bytes))
        },
    },
    Kind {
        weight: |process| process.missed_frees,
        say: |of| {
            let blocks = counted(sum(of, |p| p.missed_frees), "block", "blocks");
            format!("{blocks} counted as freed, as the address was handed out again (no free was seen)")
        },
    },
    Kind {
        weight: |process| process.inherited_count.max(process.inherited_free_count),
        say: |of| {
            let blocks = blocks(of, |p| p.inherited_count, |p| p.inherited_bytes);
            let freed = thousands(sum(of, |p| p.inherited_free_count));
            format!("{blocks} inherited at fork, in no total; {freed} of them freed")
        },
    },
    Kind {
        weight: |process| process.totals.released_count,
        say: |of| {
            let blocks = blocks(of, |p| p.totals.released_count, |p| p.totals.released_bytes);
            format!("{blocks} released by exec")
        },
    },
    Kind {
        weight: |process| process.totals.gone_count,
        say: |of| {
            let blocks = blocks(of, |p| p.totals.gone_count, |p| p.totals.gone_bytes);
            format!("{blocks} ended without a free that was seen: unmapped, or under a newer block")
        },
    },
    Kind {
        weight: |process| process.failed_count,
        say: |of| {
            let calls = counted(sum(of, |p| p.failed_count), "failed call", "failed calls");
            format!("{calls} (no memory was returned)")
        },
    },
    Kind {
        // One of no time is none: see `Process::attach_gap_ns`.
        weight: |process| process.attach_gap_ns.map_or(0, |gap| gap.max(1)),
        say: not_traced_at_first,
    },
];

fn not_traced_at_first(of: &[&Process]) -> String {
    let gap = of.iter().filter_map(|process| process.attach_gap_ns).max().unwrap_or_default() as f64 / 1e6;
    let share = percent(sum(of, |p| p.attached_ns), sum(of, |p| p.life_ns));
    let [process] = of else {
        return format!(
            "not traced for their first moments, at most {gap:.3} ms: all their probes were there for {share:.2}% of \
             their lives"
        );
    };
    let how = if process.parent_pid.is_some() { "followed from its parent" } else { "found when it began" };
    format!(
        "{how}, not traced for its first {gap:.3} ms: all its probes were there for {share:.2}% of its life"
    )
}

fn sum(of: &[&Process], what: fn(&Process) -> u64) -> u64 {
    of.iter().fold(0, |sum, process| sum.saturating_add(what(process)))
}

fn blocks(of: &[&Process], count: fn(&Process) -> u64, bytes: fn(&Process) -> u64) -> String {
    format!("{} ({})", counted(sum(of, count), "block", "blocks"), human(sum(of, bytes)))
}

/// How many of so many are named: all, or room is left for the rest.
const fn named(of: usize) -> usize {
    if of > LINES { LINES - 1 } else { LINES }
}

/// One sentence a line.
pub(super) fn of_processes(processes: &[Process]) -> Vec<String> {
    KINDS.iter().flat_map(|kind| of_kind(kind, processes)).collect()
}

fn of_kind(Kind { weight, say }: &Kind, processes: &[Process]) -> Vec<String> {
    let mut of: Vec<&Process> = processes.iter().filter(|process| weight(process) > 0).collect();
    let named = named(of.len());
    if of.len() > named {
        of.sort_by_key(|process| Reverse(weight(process)));
    }
    let (worst, rest) = of.split_at(of.len().min(named));
    let mut lines: Vec<_> =
        worst.iter().map(|process| format!("{}: {}", process_name(process), say(&[process]))).collect();
    if !rest.is_empty() {
        lines.push(format!("{} more processes: {}", thousands(rest.len() as u64), say(rest)));
    }
    lines
}

/// Why processes were not traced.
pub(super) fn untraceable(processes: &[Untraceable]) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<&Untraceable>> = BTreeMap::new();
    let mut reasons = Vec::new();
    for process in processes {
        let of = by_reason.entry(&process.reason).or_default();
        if of.is_empty() {
            reasons.push(&process.reason);
        }
        of.push(process);
    }
    let mut lines = Vec::new();
    for reason in reasons {
        let of = &by_reason[reason.as_str()];
        let names: Vec<_> = of
            .iter()
            .take(named(of.len()))
            .map(|process| format!("{}:{}", printable(&process.comm), process.pid))
            .collect();
        let more = match of.len() - names.len() {
            0 => String::new(),
            more => format!(" and {} more", thousands(more as u64)),
        };
        lines.push(format!("not traced: {}{more}: {}", names.join(", "), printable(reason)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, lost_count: u64) -> Process {
        Process { pid, comm: "x".into(), lost_count, lost_bytes: 10 * lost_count, ..Process::default() }
    }

    #[test]
    fn five_have_a_line_each_and_of_more_the_worst_and_the_rest() {
        let mut processes: Vec<_> = (1..=5).map(|pid| process(pid, pid.into())).collect();
        assert_eq!(of_processes(&processes).len(), 5);
        assert_eq!(of_processes(&processes)[0], "x:1: 1 block (10 B) found no room and are in no total");
        processes.extend((6..=1000).map(|pid| process(pid, 1)));
        processes.push(process(1001, 700));
        let lines = of_processes(&processes);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], "x:1001: 700 blocks (6.8 KiB) found no room and are in no total");
        assert_eq!(lines[1], "x:5: 5 blocks (50 B) found no room and are in no total");
        let rest = "997 more processes: 998 blocks (9.7 KiB) found no room and are in no total";
        assert_eq!(lines[4], rest);
    }

    #[test]
    fn who_was_left_out_for_one_reason_is_in_one_line() {
        let of = |pid, reason: &str| Untraceable { pid, comm: "x".into(), reason: reason.into() };
        let mut processes: Vec<_> = (1..=200).map(|pid| of(pid, "too many")).collect();
        processes.insert(0, of(9, "gone"));
        let lines = untraceable(&processes);
        assert_eq!(lines, ["not traced: x:9: gone", "not traced: x:1, x:2, x:3, x:4 and 196 more: too many"]);
    }
}
