//! The coverage footer: what the numbers of a report do and do not cover, in words.

use super::{counters, notes, particulars};
use crate::model::{Coverage, Mode, Process, Profile, Sampling, SizeFilter};
use crate::printable::printable;
use crate::units::{counted, human, percent, seconds, thousands};
use heaptrace_common::{counter::Counter, function::Function, stack::StackEnd};
use std::collections::{BTreeSet, HashSet};

/// Mode, events, duration, and the losses: one line, for a title.
pub fn summary(profile: &Profile) -> String {
    let losses = losses(profile);
    format!(
        "{}, {} in {}; {}",
        mode(profile.mode),
        counted(profile.coverage.events, "event", "events"),
        seconds(profile.duration_ns),
        if losses.is_empty() { "no losses".to_owned() } else { losses.join("; ") }
    )
}

/// What is missing from the numbers, one item each; none if they are whole.
pub fn losses(profile: &Profile) -> Vec<String> {
    all_losses(profile, false)
}

/// The same. `verbose`: a line for each process and file, too.
pub(super) fn all_losses(profile: &Profile, verbose: bool) -> Vec<String> {
    let Coverage { counts, finished, notes: facts, .. } = &profile.coverage;
    let mut lines: Vec<String> = counters::lines(counts).collect();
    lines.extend(late(profile));
    lines.extend(paused(profile));
    lines.extend(particulars::unseen(&profile.processes, profile.mode, verbose));
    lines.extend(notes::lines(facts, true, verbose));
    if !finished {
        lines.push("the recorder did not finish: what happened after the last saved state is missing".into());
    }
    lines
}

/// What was not traced of processes that were: their beginnings, and what files were probed late.
fn late(profile: &Profile) -> Vec<String> {
    let late: Vec<&Process> =
        profile.processes.iter().filter(|process| process.attach_gap_ns.is_some()).collect();
    let (never_all, begun): (Vec<&Process>, Vec<&Process>) =
        late.into_iter().partition(|process| process.attached_ns == 0 && process.paused_ns == 0);
    // Where one of several files was not probed, calls of the others count.
    let (some, never): (Vec<&Process>, Vec<&Process>) =
        never_all.into_iter().partition(|process| process.totals.alloc_count > 0);
    let begun = |child| {
        let late = begun.iter().filter(move |process| process.parent_pid.is_some() == child);
        late.filter_map(|process| Some((*process, process.attach_gap_ns?))).collect::<Vec<_>>()
    };
    let later = profile.processes.iter().map(|process| (process, process.missed_later_ns()));
    let later = later.chain(some.into_iter().filter_map(|process| Some((process, process.attach_gap_ns?))));
    let later: Vec<_> = later.filter(|(_, missed_ns)| *missed_ns > 0).collect();
    [
        (
            begun(true),
            ["child was followed; its probes came", "children were followed; probes came"],
            " after the fork",
        ),
        (
            begun(false),
            [
                "process was found as it began; its probes came",
                "processes were found as they began; probes came",
            ],
            " later",
        ),
        (
            later,
            ["process was without some of its probes for", "processes were without some of their probes for"],
            "",
        ),
    ]
    .into_iter()
    .filter_map(|(late, words, since)| said_of(&late, words, since))
    .chain(untraced(&never))
    .collect()
}

/// Those that ended, or tracing did, before their probes came.
fn untraced(never: &[&Process]) -> Option<String> {
    if never.is_empty() {
        return None;
    }
    let (processes, they) = match never.len() {
        1 => ("process had none of its probes before it", "its blocks are"),
        _ => ("processes had none of their probes before they", "their blocks are"),
    };
    let count = thousands(never.len() as u64);
    Some(format!("{count} {processes} or tracing ended, and {they} in no total: {}", names(never)))
}

/// Whose probes were away on purpose: those that were never traced, and those that were for a part of their time.
fn paused(profile: &Profile) -> Vec<String> {
    let paused = profile.processes.iter().filter(|process| process.paused_ns > 0);
    let (part, never): (Vec<&Process>, Vec<&Process>) = paused.partition(|process| process.attached_ns > 0);
    let mut lines = Vec::new();
    if !part.is_empty() {
        let shares: Vec<f64> = part.iter().map(|process| 100.0 * process.attached_fraction()).collect();
        let (least, most) =
            (shares.iter().copied().fold(100.0, f64::min), shares.iter().copied().fold(0.0, f64::max));
        let (least, most) = (format!("{least:.1}%"), format!("{most:.1}%"));
        let share = if least == most { most } else { format!("{least} to {most}") };
        let (traced, theirs) = match part.len() {
            1 => ("process was traced for", "its time, and what it allocated"),
            _ => ("processes were traced for", "their time, and what they allocated"),
        };
        let count = thousands(part.len() as u64);
        lines
            .push(format!("{count} {traced} {share} of {theirs} meanwhile is in no total: {}", names(&part)));
    }
    if !never.is_empty() {
        let processes = counted(never.len() as u64, "process was", "processes were");
        lines.push(format!("{processes} paused all the time, and are in no total: {}", names(&never)));
    }
    lines
}

/// The first few names.
fn names(of: &[&Process]) -> String {
    /// Few enough to read.
    const NAMES: usize = 5;
    let mut seen = HashSet::new();
    let mut names: Vec<&str> = of.iter().map(|process| process.comm.as_str()).collect();
    names.retain(|name| seen.insert(*name));
    let more = if names.len() > NAMES { format!(" and {} more", names.len() - NAMES) } else { String::new() };
    names.truncate(NAMES);
    let names: Vec<_> = names.into_iter().map(printable).collect();
    names.join(", ") + &more
}

/// What tracing cost.
fn overhead(profile: &Profile) -> Option<String> {
    let price = profile.coverage.hit_price?;
    let overhead = profile.overhead().filter(|overhead| overhead.hits > 0)?;
    let hits = counted(overhead.hits, "probe hit", "probe hits");
    let share = overhead.fraction().map_or_else(String::new, |fraction| {
        format!(", {:.1}% of the processor time of what was traced", 100.0 * fraction)
    });
    Some(format!(
        "cost: about {}{share}: {hits} of {} ns ({} ns the trap, {} ns in BPF)",
        seconds(overhead.ns),
        thousands(price.ns()),
        thousands(price.trap_ns),
        thousands(price.program_ns)
    ))
}

/// How many, for how long, and who.
fn said_of(late: &[(&Process, u64)], [one, many]: [&str; 2], since: &str) -> Option<String> {
    let least = late.iter().map(|(_, missed_ns)| *missed_ns).min()?;
    let most = late.iter().map(|(_, missed_ns)| *missed_ns).max()?;
    let time = if least == most {
        milliseconds(most)
    } else {
        format!("{:.2} to {}", least as f64 / 1e6, milliseconds(most))
    };
    let of: Vec<&Process> = late.iter().map(|(process, _)| *process).collect();
    Some(format!("{} {time}{since}: {}", counted(late.len() as u64, one, many), names(&of)))
}

/// Short times as they are said of processes.
fn milliseconds(ns: u64) -> String {
    format!("{:.2} ms", ns as f64 / 1e6)
}

pub(super) fn mode(mode: Mode) -> String {
    match mode {
        Mode::Exact => "exact mode (every block)".to_owned(),
        Mode::Allocs => "allocs mode (every allocation; no frees)".to_owned(),
        Mode::Sampled(Sampling { mean, frees }) => {
            let frees = if frees { "their frees too" } else { "no frees" };
            format!("sampled mode (one block in {} bytes; {frees})", thousands(mean))
        }
        Mode::Native => "native mode (samples that the allocators chose, and their frees)".to_owned(),
        Mode::Growth => "growth mode (calls that map memory; no blocks)".to_owned(),
        Mode::Faults => "faults mode (calls that map memory, and page faults; no blocks)".to_owned(),
    }
}

/// The footer, one line a kind of fact. `verbose`: a line for each process and file, too.
pub(super) fn lines(profile: &Profile, verbose: bool) -> Vec<String> {
    let Coverage {
        events,
        counts,
        hit_price: _, // by `overhead`
        finished: _,  // by `losses`
        unknown_frees,
        untraceable,
        size_filter,
        notes: facts,
    } = &profile.coverage;
    let mut lines = vec![format!(
        "{}, {} in {}",
        mode(profile.mode),
        counted(*events, "event", "events"),
        seconds(profile.duration_ns)
    )];
    lines.extend(sampled(profile));
    lines.extend(overhead(profile));
    let losses = losses(profile);
    if losses.is_empty() {
        lines.push("no losses".into());
    }
    lines.extend(losses);
    lines.extend(stacks(profile));
    lines.extend(size_filter.map(|filter| filtered(profile, filter)));
    let late = profile.processes.iter().filter(|process| process.attach_gap_ns.is_some());
    let by_late = late.map(|process| process.unknown_frees).fold(0, u64::saturating_add).min(*unknown_frees);
    // What such a child frees is known as inherited only while its parent still has it.
    let others = || profile.processes.iter().filter(|process| process.attach_gap_ns.is_none());
    let paused = others().filter(|process| process.paused_ns > 0);
    let by_paused = paused.map(|process| process.unknown_frees).fold(0, u64::saturating_add);
    let by_paused = by_paused.min(*unknown_frees - by_late);
    let heirs = others().filter(|process| process.paused_ns == 0 && process.inherited_count > 0);
    let by_heirs = heirs.map(|process| process.unknown_frees).fold(0, u64::saturating_add);
    let by_heirs = by_heirs.min(*unknown_frees - by_late - by_paused);
    let unknown_frees = *unknown_frees - by_late - by_paused - by_heirs;
    let by_size = if size_filter.is_some() { ", or filtered by size" } else { "" };
    if by_late > 0 {
        let frees = counted(by_late, "free of an unknown block", "frees of unknown blocks");
        lines.push(format!(
            "{frees} in processes whose beginning was not traced: allocated then, or inherited at fork{by_size}"
        ));
    }
    if by_paused > 0 {
        let frees = counted(by_paused, "free of an unknown block", "frees of unknown blocks");
        lines.push(format!(
            "{frees} in processes that were not traced all the time: allocated meanwhile, or before tracing began{by_size}"
        ));
    }
    let is_any_lost = profile.processes.iter().any(|process| process.lost_count > 0);
    let by_room = if is_any_lost { ", or without room in the table of live blocks" } else { "" };
    if by_heirs > 0 {
        let frees = counted(by_heirs, "free of an unknown block", "frees of unknown blocks");
        lines.push(format!(
            "{frees} in forked children: allocated before tracing began, or inherited and freed by the parent since{by_size}{by_room}, \
             which cannot be told apart"
        ));
    }
    if unknown_frees > 0 {
        let frees = counted(unknown_frees, "free of an unknown block", "frees of unknown blocks");
        lines.push(match size_filter {
            None if is_any_lost => format!(
                "{frees}: allocated before tracing began, or without room in the table of live blocks, which cannot \
                 be told apart"
            ),
            None => format!("{frees}: allocated before tracing began, or by functions that are not traced"),
            Some(_) => format!(
                "{frees}: allocated before tracing began, or filtered by size, which cannot be told apart"
            ),
        });
    }
    for (counter, one, many) in [
        (Counter::MissedReturn, "call", "calls"),
        (Counter::UnpairedReturn, "return", "returns"),
        (Counter::Nested, "call", "calls"),
    ] {
        let count = counts.get(counter);
        if count > 0 {
            lines.push(format!("{} {}", counted(count, one, many), counters::what(counter)));
        }
    }
    lines.extend(particulars::of_processes(&profile.processes, profile.mode, verbose));
    if !profile.is_reduced {
        lines.extend(particulars::grew_unseen(&profile.processes, profile.mode, verbose));
    }
    lines.extend(particulars::untraceable(untraceable, verbose));
    lines.extend(notes::lines(facts, false, verbose));
    lines
}

/// Of all processes together.
fn sum(profile: &Profile, of: fn(&Process) -> u64) -> u64 {
    profile.processes.iter().fold(0, |sum, process| sum.saturating_add(of(process)))
}

/// Of how much the samples are, where blocks are sampled.
fn sampled(profile: &Profile) -> Vec<String> {
    const ERROR: &str = "± is what a number is off at most, 95 times in 100";
    let mut lines = Vec::new();
    let sum = |of| sum(profile, of);
    let (bytes, count) = (sum(|process| process.seen_bytes), sum(|process| process.seen_count));
    let chosen = samples(profile, |function| function == Function::Sampled);
    if let Mode::Sampled(Sampling { mean, .. }) = profile.mode
        && (count > 0 || chosen == 0)
    {
        lines.push(format!(
            "{} seen ({}), {} of them sampled, one in {} bytes on average; {ERROR}",
            counted(count, "allocation", "allocations"),
            human(bytes),
            thousands(samples(profile, |function| function != Function::Sampled)),
            thousands(mean)
        ));
    }
    if chosen > 0 || profile.mode == Mode::Native {
        let of = profile.processes.iter().filter(|process| process.chooses_samples(profile.mode));
        let means: BTreeSet<u64> =
            of.clone().map(|process| process.own_sample_bytes).filter(|mean| *mean > 0).collect();
        let means = match (means.first(), means.last()) {
            (Some(least), Some(most)) if least != most => {
                format!(", one in {} to {} bytes on average", thousands(*least), thousands(*most))
            }
            (Some(mean), _) => format!(", one in {} bytes on average", thousands(*mean)),
            _ => String::new(),
        };
        let error = if lines.is_empty() { format!("; {ERROR}") } else { String::new() };
        lines.push(format!(
            "{} chosen by the allocators of {}{means}: how much was allocated in all is not known{error}",
            counted(chosen, "sample", "samples"),
            counted(of.count() as u64, "process", "processes"),
        ));
    }
    lines
}

/// Samples of sites of these functions.
fn samples(profile: &Profile, of: impl Fn(Function) -> bool) -> u64 {
    let sites = profile.sites.iter().filter(|site| of(site.function));
    let samples = sites.filter_map(|site| site.samples.as_ref());
    samples.fold(0, |sum, samples| sum.saturating_add(samples.allocated.samples))
}

/// What a filter by size left out.
fn filtered(profile: &Profile, SizeFilter { min, max }: SizeFilter) -> String {
    let sum = |of| sum(profile, of);
    let sizes = match (min, max) {
        (min, u64::MAX) => format!("of {} bytes and more", thousands(min)),
        (0, max) => format!("of up to {} bytes", thousands(max)),
        (min, max) => format!("of {} to {} bytes", thousands(min), thousands(max)),
    };
    let blocks = counted(sum(|process| process.filtered_count), "block", "blocks");
    let bytes = human(sum(|process| process.filtered_bytes));
    format!("only blocks {sizes} were traced: {blocks} ({bytes}) filtered, in no total")
}

/// How the stack walks ended, by allocations.
fn stacks(profile: &Profile) -> Option<String> {
    let ends = profile.stack_ends();
    let all = ends.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    if all == 0 {
        return None;
    }
    if ends.get(&StackEnd::NotWalked) == Some(&all) {
        return Some("stacks were not walked".into());
    }
    let complete = ends.get(&StackEnd::Complete).copied().unwrap_or_default();
    let what = match profile.mode {
        Mode::Exact | Mode::Allocs => "allocations",
        Mode::Sampled(_) | Mode::Native => "samples",
        Mode::Growth => "calls",
        Mode::Faults => "calls and faults",
    };
    let mut text = format!("stacks: {:.2}% of {what} complete", percent(complete, all));
    for (end, count) in ends {
        if end != StackEnd::Complete && count > 0 {
            text += &format!(", {:.2}% {} ({})", percent(count, all), end.name(), thousands(count));
        }
    }
    Some(text)
}
