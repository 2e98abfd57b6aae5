//! The churn view: what was allocated and freed again, by the line that is to blame: how many a second, of which sizes, and where
//! that was counted how long they lived.

use super::{
    Options, View,
    labels::{LabelId, Labels},
    select::{Weight, chosen, weight_of},
    table::{is_estimated, process_name},
};
use crate::{
    model::{LifetimeHistogram, Process, ProcessId, Profile, SizeHistogram},
    units::{counted, in_seconds, percent, thousands},
};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, Write},
};

#[derive(Default)]
struct Row {
    freed: Weight,
    allocated: u64,
    sizes: SizeHistogram,
    lifetimes: LifetimeHistogram,
}

/// Writes the table. `total`: what percentages are of.
pub(super) fn write(profile: &Profile, total: u64, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let labels = Labels::attributed(profile, &options.frames);
    let mut rows: BTreeMap<(ProcessId, Option<LabelId>), Row> = BTreeMap::new();
    for site in &profile.sites {
        if !profile.processes.get(site.process.index()).is_some_and(|process| chosen(process, options)) {
            continue;
        }
        let row = rows.entry((site.process, labels.walk_shown(Some(site.stack)).next())).or_default();
        row.freed.add(&weight_of(site, profile, View::Churn));
        row.allocated = row.allocated.saturating_add(site.totals.alloc_count);
        row.sizes.add(&site.sizes);
        row.lifetimes.add(&site.lifetimes);
    }
    let least = options.least(total);
    let mut rows: Vec<_> = rows.into_iter().filter(|(_, row)| row.freed.count() > 0).collect();
    rows.sort_by_key(|(key, row)| (Reverse((row.freed.bytes(), row.freed.count())), *key));
    let (rows, hidden): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.freed.bytes() >= least);
    let about = if is_estimated(profile.mode, View::Churn) { ", estimated" } else { "" };
    writeln!(
        out,
        "# A second of the time that each process was traced{about}. Freed: of what was allocated here, so much."
    )?;
    writeln!(
        out,
        "#\n# {:>7} {:>15} {:>12} {:>7} {:>10}  {:24} By",
        "Percent", "Bytes/s", "Blocks/s", "Freed", "Average", "Most are of (bytes)"
    )?;
    for ((process, label), row) in &rows {
        let of = profile.processes.get(process.index());
        let seconds = of.map_or(0.0, |of| traced_s(of, profile)).max(1e-9);
        let (bytes, count) = (row.freed.bytes(), row.freed.count());
        let by = label.map_or_else(String::new, |label| labels.describe(label));
        writeln!(
            out,
            "  {:>6.2}% {:>15} {:>12} {:>7} {:>10}  {:24} {by} in {}",
            percent(bytes, total),
            thousands((bytes as f64 / seconds).round() as u64),
            thousands((count as f64 / seconds).round() as u64),
            // In a part of the time, blocks from before are freed, too.
            if count > row.allocated {
                "-".to_owned()
            } else {
                format!("{:.1}%", percent(count, row.allocated))
            },
            thousands(bytes / count.max(1)),
            most_are_of(&row.sizes)
                .map_or_else(|| "-".to_owned(), |(of, share)| format!("{of} ({share:.0}%)")),
            of.map_or_else(String::new, process_name),
        )?;
        if row.lifetimes.total() > 0 {
            writeln!(out, "          lived: {}", lived(&row.lifetimes))?;
        }
    }
    if !profile.has_lifetimes {
        writeln!(
            out,
            "#\n# How long blocks lived was not counted: record with `heaptrace record --lifetimes`"
        )?;
    }
    if !hidden.is_empty() {
        let mut rest = Weight::default();
        hidden.iter().for_each(|(_, row)| rest.add(&row.freed));
        let (rows, blocks) =
            (counted(hidden.len() as u64, "row", "rows"), counted(rest.count(), "block", "blocks"));
        let (bytes, least) = (thousands(rest.bytes()), thousands(least));
        writeln!(out, "#\n# {rows} below {least} bytes not shown: {bytes} bytes in {blocks}")?;
    }
    Ok(())
}

/// How long what a process allocated was counted; of a part of the time at most so long.
pub(super) fn traced_s(process: &Process, profile: &Profile) -> f64 {
    let (_, whole_ns) = profile.time();
    in_seconds(if process.attached_ns > 0 { process.attached_ns.min(whole_ns) } else { whole_ns })
}

/// `under 20 ms 97.1%, 20 to 100 ms 2.9%`: classes that have blocks.
fn lived(of: &LifetimeHistogram) -> String {
    let all = of.total();
    let classes = of.0.iter().enumerate().filter(|(_, count)| **count > 0).map(|(class, count)| {
        let range = match LifetimeHistogram::range(class) {
            (0, Some(end)) => format!("under {}", round(end)),
            (least, Some(end)) => format!("{} to {}", round(least), round(end)),
            (least, None) => format!("{} and longer", round(least)),
        };
        format!("{range} {:.1}%", percent(*count, all))
    });
    classes.collect::<Vec<_>>().join(", ")
}

/// Bounds of classes are round.
fn round(ns: u64) -> String {
    if ns < 1_000_000_000 {
        format!("{} ms", ns / 1_000_000)
    } else {
        format!("{} s", thousands(ns / 1_000_000_000))
    }
}

/// The class that most blocks are of, in bytes, and their share.
pub(super) fn most_are_of(of: &SizeHistogram) -> Option<(String, f64)> {
    let (class, count) = of.0.iter().enumerate().max_by_key(|(class, count)| (**count, Reverse(*class)))?;
    let range = match SizeHistogram::range(class) {
        (least, Some(most)) if least == most => thousands(least),
        (least, Some(most)) => format!("{} to {}", thousands(least), thousands(most)),
        (least, None) => format!("{} and more", thousands(least)),
    };
    Some((range, percent(*count, of.total())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::full,
        report::{Format, render},
    };

    #[test]
    fn what_was_freed_again_is_told_by_the_second_and_by_size() {
        let mut profile = full();
        let totals = &mut profile.sites[1].totals;
        (totals.alloc_bytes, totals.alloc_count) = (50_000_000, 50_000);
        (totals.free_bytes, totals.free_count) = (49_999_000, 49_999);
        profile.processes[0].totals.alloc_bytes += 49_949_997;
        profile.processes[0].totals.alloc_count += 49_993;
        profile.processes[0].totals.free_bytes += 49_998_997;
        profile.processes[0].totals.free_count += 49_998;
        profile.has_lifetimes = true;
        profile.sites[1].lifetimes = LifetimeHistogram(vec![48_500, 0, 1_499, 0, 0, 0, 0]);
        let mut out = Vec::new();
        let options = Options { view: View::Churn, limit: 50, ..Options::default() };
        render(Format::Text, &profile, &options, &mut out).expect("writing to memory");
        insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"));
    }
}
