//! The sizes view: log2 histograms of allocated blocks, of all, of each process, and of the largest sites.

use super::labels::Labels;
use super::select::chosen;
use super::table::process_name;
use super::{Options, View, quantity::Quantity, select};
use crate::model::{Profile, Site, SizeHistogram};
use crate::units::{counted, percent, thousands};
use std::io::{self, Write};

/// Sites whose histogram is shown, by allocated bytes.
const TOP_SITES: usize = 10;

/// Characters of the longest bar.
const BAR: u64 = 40;

/// `allocated` is how many blocks there are in all.
pub(super) fn write(
    profile: &Profile,
    allocated: u64,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut whole = SizeHistogram::default();
    let mut by_process = vec![SizeHistogram::default(); profile.processes.len()];
    let mut sites: Vec<&Site> = Vec::new();
    for site in &profile.sites {
        if profile.processes.get(site.process.index()).is_some_and(|process| chosen(process, options)) {
            whole.add(&site.sizes);
            by_process[site.process.index()].add(&site.sizes);
            sites.push(site);
        }
    }
    histogram("All processes", &whole, out)?;
    let without = allocated.saturating_sub(whole.total());
    if without > 0 {
        writeln!(
            out,
            "# {} of a size that was not kept\n",
            counted(without, "further block", "further blocks")
        )?;
    }
    let shown: Vec<_> =
        profile.processes.iter().zip(&by_process).filter(|(_, sizes)| sizes.total() > 0).collect();
    // One process alone would only repeat the whole.
    if shown.len() > 1 {
        for (process, sizes) in shown {
            histogram(&process_name(process), sizes, out)?;
        }
    }

    let mut hidden = Quantity::default();
    let mut hidden_sites = 0;
    sites.retain(|site| {
        let keep = site.totals.alloc_bytes >= options.min_bytes;
        if !keep {
            hidden_sites += 1;
            hidden.add(&select::weight_of(site, profile, View::Sizes).quantity);
        }
        keep
    });
    sites.sort_by_key(|site| std::cmp::Reverse((site.totals.alloc_bytes, site.totals.alloc_count)));
    let labels = Labels::attributed(profile, &options.frames);
    for site in sites.iter().take(TOP_SITES) {
        let innermost = labels.walk_shown(Some(site.stack)).next();
        let place = innermost.map_or_else(String::new, |label| labels.describe(label));
        let process = profile.processes.get(site.process.index()).map_or_else(String::new, process_name);
        let bytes = thousands(site.totals.alloc_bytes);
        let title = format!("{} in {place} ({process}), {bytes} bytes", site.function.name());
        histogram(&title, &site.sizes, out)?;
    }
    if sites.len() > TOP_SITES {
        let rest = &sites[TOP_SITES..];
        let bytes = rest.iter().fold(0_u64, |sum, site| sum.saturating_add(site.totals.alloc_bytes));
        let count = counted(rest.len() as u64, "further site", "further sites");
        writeln!(out, "# {count} not shown: {} bytes", thousands(bytes))?;
    }
    if hidden_sites > 0 {
        let count = counted(hidden_sites, "site", "sites");
        let (least, bytes) = (thousands(options.min_bytes), thousands(hidden.amount().bytes));
        let blocks = counted(hidden.amount().count, "block", "blocks");
        writeln!(out, "# {count} below {least} bytes not shown: {bytes} bytes in {blocks}")?;
    }
    Ok(())
}

/// Rows from the first class that has blocks to the last, empty ones between them included.
pub(super) fn histogram(title: &str, sizes: &SizeHistogram, out: &mut dyn Write) -> io::Result<()> {
    let label = |class| {
        let (from, to) = SizeHistogram::range(class);
        match to {
            Some(to) if from == to => thousands(from),
            Some(to) => format!("{} - {}", thousands(from), thousands(to)),
            None => format!("{} or more", thousands(from)),
        }
    };
    bars(title, "Bytes", &sizes.0, label, out)
}

/// The same for classes of another kind: `unit` heads their labels.
pub(super) fn bars(
    title: &str,
    unit: &str,
    counts: &[u64],
    label: impl Fn(usize) -> String,
    out: &mut dyn Write,
) -> io::Result<()> {
    let all = counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
    writeln!(out, "{title}: {}", counted(all, "block", "blocks"))?;
    let used = |count: &u64| *count > 0;
    let (Some(first), Some(last)) = (counts.iter().position(used), counts.iter().rposition(used)) else {
        return writeln!(out);
    };
    let rows: Vec<(String, u64)> = (first..=last).map(|class| (label(class), counts[class])).collect();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or_default();
    let label_width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or_default().max(unit.len());
    let count_width = thousands(most).len().max("Blocks".len());
    writeln!(out, "  {unit:>label_width$}  {:>count_width$}  Percent", "Blocks")?;
    for (label, count) in rows {
        // A class with any block has a bar to be seen.
        let bar = (u128::from(count) * u128::from(BAR)).div_ceil(u128::from(most.max(1))) as usize;
        let share = percent(count, all);
        let line = format!(
            "  {label:>label_width$}  {:>count_width$}  {share:>6.2}%  {}",
            thousands(count),
            "#".repeat(bar)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
}
