//! The rss view: what each process's resident memory is made of, as a table for people and a section of the JSON.

use super::Options;
use super::select::chosen;
use super::table::process_name;
use crate::model::{Process, ProcessId, Profile, Residency};
use crate::printable::printable;
use crate::rss::{How, Part, PartKind, Reconciliation, reconcile};
use crate::units::{counted, human, in_seconds, percent, sized, thousands};
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// The section `rss` of a process; parts sum to `rss_bytes`.
#[derive(Serialize)]
pub(super) struct Section {
    /// Since tracing began.
    at_s: f64,
    before_end_s: f64,
    took_s: f64,
    #[serde(flatten)]
    reconciliation: Reconciliation,
}

/// The section of process number `index`, if it was measured.
pub(super) fn section(profile: &Profile, index: usize) -> Option<Section> {
    let residency = measured(profile, index)?;
    Some(Section {
        at_s: in_seconds(residency.at_ns),
        before_end_s: in_seconds(age(profile, residency)),
        took_s: in_seconds(residency.took_ns),
        reconciliation: reconciled(profile.processes.get(index)?, residency),
    })
}

/// What a process's memory is made of. What one that was traced from its beginning on, or nearly, holds and was not
/// seen allocated is not from before tracing.
fn reconciled(process: &Process, residency: &Residency) -> Reconciliation {
    let mut found = reconcile(residency);
    if process.attach_gap_ns.is_some() {
        for part in &mut found.parts {
            if part.part == PartKind::BeforeAttach {
                part.name = "allocated while it was not traced";
            }
            part.why = part.why.replace("blocks from before tracing", "blocks of when it was not traced");
            part.why = part.why.replace("blocks from before", "of those blocks");
        }
    }
    found
}

fn measured(profile: &Profile, index: usize) -> Option<&Residency> {
    profile.residency.get(&ProcessId(u32::try_from(index).ok()?))
}

fn age(profile: &Profile, residency: &Residency) -> u64 {
    profile.duration_ns.saturating_sub(residency.at_ns)
}

/// What process number `index` is made of, a line each, the total first; none if it was not measured.
pub fn residency_lines(profile: &Profile, index: usize) -> Vec<String> {
    let Some(residency) = measured(profile, index) else { return Vec::new() };
    residency_lines_of(residency, Duration::from_nanos(age(profile, residency)))
}

/// The same of a measurement that is so old.
pub fn residency_lines_of(residency: &Residency, age: Duration) -> Vec<String> {
    let found = reconcile(residency);
    let line = |part: &Part| {
        format!(
            "{:>5.1}% {:>10}  {:8}  {}{}",
            percent(part.resident_bytes, found.rss_bytes),
            human(part.resident_bytes),
            how(part.how),
            part.name,
            bounds(part)
        )
    };
    let age = crate::units::seconds(age.as_nanos() as u64);
    let mut lines = vec![format!("{} resident, measured {age} ago", human(found.rss_bytes))];
    let mut parts: Vec<&Part> = found.parts.iter().filter(|part| !is_nothing(part)).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.resident_bytes));
    lines.extend(parts.into_iter().map(line));
    lines
}

/// Resident bytes of the chosen processes, and how many were measured.
pub(super) fn total(profile: &Profile, options: &Options) -> (u64, u64) {
    let measured = profile
        .residency
        .iter()
        .filter(|(id, _)| profile.processes.get(id.index()).is_some_and(|process| chosen(process, options)));
    measured.fold((0, 0), |(bytes, count), (_, residency)| {
        (u64::saturating_add(bytes, residency.mappings.total().resident_bytes), count + 1)
    })
}

/// Writes a table for each chosen process that was measured, largest first, and names the others.
pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let (total, _) = total(profile, options);
    let mut shown: Vec<(&Process, &Residency, Reconciliation)> = Vec::new();
    let (mut unmeasured, mut hidden) = (Vec::new(), (0_u64, 0_u64));
    for (index, process) in
        profile.processes.iter().enumerate().filter(|(_, process)| chosen(process, options))
    {
        match measured(profile, index) {
            Some(residency) => {
                let found = reconciled(process, residency);
                if found.rss_bytes < options.least(total) {
                    hidden = (hidden.0 + 1, hidden.1.saturating_add(found.rss_bytes));
                } else {
                    shown.push((process, residency, found));
                }
            }
            None => unmeasured.push(process),
        }
    }
    shown.sort_by_key(|(process, _, found)| (std::cmp::Reverse(found.rss_bytes), process.pid));
    for (process, residency, found) in shown {
        one(profile, process, residency, &found, out)?;
    }
    if hidden.0 > 0 {
        let (count, least) = (counted(hidden.0, "process", "processes"), thousands(options.least(total)));
        writeln!(out, "# {count} below {least} bytes not shown: {} bytes resident", thousands(hidden.1))?;
    }
    if !unmeasured.is_empty() {
        let names: Vec<String> = unmeasured.iter().take(8).map(|process| process_name(process)).collect();
        let more = unmeasured.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(
            out,
            "# Not measured: {}{more} (ended too soon, could not be read, or recorded with --no-rss)",
            names.join(", ")
        )?;
    }
    Ok(())
}

fn one(
    profile: &Profile,
    process: &Process,
    residency: &Residency,
    found: &Reconciliation,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Reconciliation {
        rss_bytes,
        swap_bytes,
        hugetlb_bytes,
        heap_hugetlb_bytes,
        untouched_bytes,
        allocator,
        allocator_read,
        parts,
    } = found;
    let age = crate::units::seconds(age(profile, residency));
    let when = if process.exited { "ended since" } else { "was running" };
    writeln!(
        out,
        "{}: {} resident, {age} before the end; it {when}",
        process_name(process),
        sized(*rss_bytes)
    )?;
    let mut heap = match (allocator.as_str(), allocator_read) {
        ("", _) => "no allocator was found".to_owned(),
        (name, true) => format!("{}'s heap was read", printable(name)),
        (name, false) => format!("{}'s heap could not be read", printable(name)),
    };
    if *untouched_bytes > 0 {
        let of = if *allocator_read { "it" } else { "the traced blocks" };
        heap.push_str(&format!(
            "; {} of {of} are not in memory: never touched, given back, or swapped out",
            human(*untouched_bytes)
        ));
    }
    if *swap_bytes > 0 {
        heap.push_str(&format!("; {} of the process are swapped out", human(*swap_bytes)));
    }
    if *hugetlb_bytes > 0 {
        heap.push_str(&format!(
            "; {} of the process are on huge pages that were set aside (hugetlb), which are in no RSS",
            human(*hugetlb_bytes)
        ));
        if *heap_hugetlb_bytes > 0 {
            let of = if allocator == "glibc" && *allocator_read { "the heap" } else { "the traced blocks" };
            heap.push_str(&format!(", {} of them with {of}", human(*heap_hugetlb_bytes)));
        }
    }
    writeln!(out, "  ({heap})")?;
    let shown: Vec<(&Part, String)> = parts
        .iter()
        .filter(|part| !is_nothing(part))
        .map(|part| (part, format!("{}{}", part.name, bounds(part))))
        .collect();
    let width = shown.iter().map(|(_, name)| name.len()).max().unwrap_or_default();
    writeln!(out, "  Percent          Resident           Virtual  How       {:<width$}  Where from", "Part")?;
    for (part, name) in shown {
        let virtual_bytes = part.virtual_bytes.map_or_else(|| "-".to_owned(), thousands);
        writeln!(
            out,
            "  {:>6.2}%  {:>16}  {virtual_bytes:>16}  {:<8}  {name:<width$}  {}",
            percent(part.resident_bytes, *rss_bytes),
            thousands(part.resident_bytes),
            how(part.how),
            printable(&part.why)
        )?;
    }
    writeln!(out)
}

/// Parts of which there is nothing would only be read in vain.
fn is_nothing(part: &Part) -> bool {
    part.resident_bytes == 0 && part.virtual_bytes.unwrap_or_default() == 0 && part.most_bytes == 0
}

fn how(how: How) -> &'static str {
    match how {
        How::Measured => "measured",
        How::Inferred => "inferred",
        How::Bound => "bound",
    }
}

/// Between what it lies, where that is worth telling apart.
fn bounds(part: &Part) -> String {
    let Part { least_bytes, most_bytes, resident_bytes, .. } = *part;
    match most_bytes.saturating_sub(least_bytes) {
        spread if spread <= resident_bytes / 100 => String::new(),
        _ => format!(" ({} to {})", human(least_bytes), human(most_bytes)),
    }
}
