//! The view of leaks: what of the live blocks stays and grows, the most suspicious first, each with what it looks like and why.

use super::{
    Options, View,
    labels::Labels,
    select::{Weight, chosen, weight_of},
    table::{error, process_name},
    verdicts,
};
use crate::{
    model::{Amount, Estimate, Profile, Site, SiteId},
    units::{counted, duration, percent, thousands},
    verdicts::{Judgement, suspicion},
};
use std::{
    cmp::Reverse,
    io::{self, Write},
};

/// Sites that read the same.
struct Row<'a> {
    /// The one with most bytes.
    site: &'a Site,
    stacks: u64,
    weight: Weight,
    judged: Option<Judgement>,
}

/// Writes the rows. `total`: what percentages are of.
pub(super) fn write(profile: &Profile, total: u64, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    if profile.cohorts.is_empty() {
        let why = match (profile.part, profile.coverage.finished) {
            (Some(_), _) => "they are of its end only, and this is an earlier state",
            (None, true) => "it is of an older heaptrace",
            (None, false) => "it did not finish",
        };
        writeln!(out, "# The recording has no verdicts, as {why}; rows are by size.\n#")?;
    }
    let labels = Labels::attributed(profile, &options.frames);
    let mut rows = rows(profile, options, &labels);
    rows.sort_by_key(|row| (suspicion(row.judged.as_ref()), Reverse(row.weight.bytes())));
    let least = options.least(total);
    let (mut place, mut hidden, mut rest) = (0, 0, Weight::default());
    for row in &rows {
        // A leak that begins is small.
        let grows = suspicion(row.judged.as_ref()) != suspicion(None);
        if row.weight.bytes() < if grows { options.min_bytes } else { least } {
            hidden += 1;
            rest.add(&row.weight);
            continue;
        }
        place += 1;
        write_row(place, row, profile, total, &labels, out)?;
    }
    if hidden > 0 {
        let (rows, blocks) = (counted(hidden, "row", "rows"), counted(rest.count(), "block", "blocks"));
        let (bytes, least) = (thousands(rest.bytes()), thousands(least));
        writeln!(out, "# {rows} below {least} bytes not shown: {bytes} bytes in {blocks}")?;
    }
    Ok(())
}

fn rows<'a>(profile: &'a Profile, options: &Options, labels: &Labels<'_>) -> Vec<Row<'a>> {
    let live: Vec<(SiteId, &'a Site)> = (0..)
        .map(SiteId)
        .zip(&profile.sites)
        .filter(|(_, site)| site.totals.live_count() > 0)
        .filter(|(_, site)| profile.processes.get(site.process.index()).is_some_and(|of| chosen(of, options)))
        .collect();
    let row = |verdicts::Alike { site, members, judged, .. }: verdicts::Alike<'a>| {
        let mut weight = Weight::default();
        members.iter().for_each(|site| weight.add(&weight_of(site, profile, View::Live)));
        Row { site, stacks: members.len() as u64, weight, judged }
    };
    verdicts::judged(profile, labels, &live).into_iter().map(row).collect()
}

fn write_row(
    place: usize,
    row: &Row<'_>,
    profile: &Profile,
    total: u64,
    labels: &Labels<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Row { site, stacks, weight, judged } = row;
    let said = judged.as_ref().map_or_else(
        || "no verdict".to_owned(),
        |judged| verdicts::in_words(judged, profile.mode.sample_bytes() != 0),
    );
    writeln!(out, "{place:>3}. {said}")?;
    let Amount { bytes, count } = weight.quantity.amount();
    let off = |of: fn(&super::select::Estimated) -> Estimate| {
        weight.quantity.estimated().map_or_else(String::new, |sure| format!(" (±{})", error(of(sure))))
    };
    writeln!(
        out,
        "     {} bytes{} in {}{} live, {:.2}%{}",
        thousands(bytes),
        off(|of| of.bytes),
        counted(count, "block", "blocks"),
        off(|of| of.count),
        percent(bytes, total),
        weight.oldest_ns.map_or_else(String::new, |oldest| format!("; oldest {}", duration(oldest))),
    )?;
    let process = profile.processes.get(site.process.index()).map_or_else(String::new, process_name);
    let through = labels.left_out(site.stack, *stacks);
    writeln!(out, "     {} in {process}{through}, called from", site.function.name())?;
    for label in labels.walk_shown(Some(site.stack)) {
        writeln!(out, "         {}", labels.in_line(label))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::full,
        model::{COHORTS, Cohort, Cohorts},
        report::{Format, render},
    };

    fn text(profile: &Profile, options: &Options) -> String {
        let mut out = Vec::new();
        render(Format::Text, profile, options, &mut out).expect("writing to memory");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_leaks_comes_before_what_is_large_with_its_evidence() {
        let mut profile = full();
        let part = Cohort { allocated: 10, freed: 5, held_bytes: 1_000, live: 5, live_bytes: 500 };
        let cohorts = Cohorts { span_ns: 60_000_000_000, parts: vec![part; COHORTS] };
        profile.cohorts = [(SiteId(4), cohorts)].into();
        profile.coverage.finished = true;
        let options = Options { view: View::Leaks, limit: 500, ..Options::default() };
        insta::assert_snapshot!(text(&profile, &options));
        let mut out = Vec::new();
        render(Format::Json, &profile, &options, &mut out).expect("writing to memory");
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json["sites"][0]["verdict"]["verdict"], "leak-like");
        assert_eq!(json["sites"][1]["live_bytes"], 800_000);
    }

    #[test]
    fn why_there_are_no_verdicts_is_said() {
        let text = text(&full(), &Options { view: View::Leaks, ..Options::default() });
        assert!(
            text.contains("# The recording has no verdicts, as it did not finish; rows are by size."),
            "{text}"
        );
        assert!(text.contains("  1. no verdict\n     800,000 bytes in 10 blocks live, "), "{text}");
    }
}
