//! Holds a report against the ledgers of the programs it is about: to the byte, per process and per site.

use crate::{
    ledger::{Figures, ProcessLedger, Sizes},
    report::{Process, Report, Site},
    session::Outcome,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;

/// Which frames of a stack may name the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Only the direct caller of the allocation function.
    Caller,
    /// The innermost site of the whole stack: libraries lie between the site and the allocation function.
    AnyFrame,
}

/// What a comparison leaves out, beyond which everything is exact.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slack {
    /// Probes came late (threads at work while attaching, or a child that was followed): frees of unknown blocks,
    /// missed frees and unpaired returns are of an unknown number.
    pub attached_late: bool,
    /// A site that is in no ledger.
    pub unledgered_site: Option<&'static str>,
}

/// Fails with every difference between `outcome`'s report and ledgers.
pub fn exactly(outcome: &Outcome, find: Find) -> Result<()> {
    with_slack(outcome, find, Slack::default())
}

/// Like [`exactly`], but for what `slack` says.
pub fn with_slack(outcome: &Outcome, find: Find, slack: Slack) -> Result<()> {
    let Outcome { report, ledger, target, .. } = outcome;
    let mut problems = Problems::default();
    if report.schema != 1 || report.mode != "exact" {
        problems.add(format!("schema {} in mode {}", report.schema, report.mode));
    }
    losses(report, slack, &mut problems);
    if !report.coverage.finished {
        problems.add("the recording is not finished");
    }
    for process in &report.coverage.untraceable {
        problems.add(format!("process {} was left out: {}", process.pid, process.reason));
    }
    if let Some((pid, _)) = target
        && !ledger.0.contains_key(pid)
    {
        problems.add(format!("no ledger of process {pid}"));
    }
    for (&pid, process_ledger) in &ledger.0 {
        problems.scope = format!("process {pid}");
        let Some(process) = report.process(pid) else {
            problems.add("is not in the report");
            continue;
        };
        process_figures(process, process_ledger, slack, &mut problems);
        sums(process, report, &mut problems);
        sites(report, pid, process_ledger, find, slack, &mut problems);
    }
    problems.finish()
}

/// Fails if anything found no room.
pub fn nothing_lost(report: &Report) -> Result<()> {
    let mut problems = Problems::default();
    losses(report, Slack { attached_late: true, unledgered_site: None }, &mut problems);
    problems.finish()
}

/// Fails if what process `pid` did at any of its ledger's sites is not in the report as it is in the ledger. For reports of
/// a part of its life, which [`exactly`] is not for.
pub fn every_site(report: &Report, pid: u32, ledger: &ProcessLedger, find: Find) -> Result<()> {
    ledger.sites.keys().try_for_each(|name| one_site(report, pid, ledger, name, find))
}

/// The same for the site `name`.
pub fn one_site(report: &Report, pid: u32, ledger: &ProcessLedger, name: &str, find: Find) -> Result<()> {
    let expected = *ledger.sites.get(name).with_context(|| format!("{name} is not in the ledger"))?;
    let found = total(report.sites_of(pid).filter(|site| site_function(site, find) == Some(name)));
    ensure!(found == expected, "process {pid}, {name}\n    ledger {expected}\n    report {found}");
    Ok(())
}

/// Fails with every difference between what `outcome`'s report and ledgers say was allocated, by site. What is live may be
/// more than the ledgers say, and never less: for modes in which frees are not traced. What was `lost` beside is all the same.
pub fn allocations(outcome: &Outcome, find: Find, lost: &[&str]) -> Result<()> {
    let Outcome { report, ledger, .. } = outcome;
    let mut problems = Problems::default();
    for (reason, count) in &report.coverage.lost {
        if *count > 0 && !lost.contains(&reason.as_str()) {
            problems.add(format!("lost {count}: {reason}"));
        }
    }
    for (&pid, of_process) in &ledger.0 {
        problems.scope = format!("process {pid}");
        let Some(process) = report.process(pid) else {
            problems.add("is not in the report");
            continue;
        };
        problems.equal("failed calls", of_process.failed, process.failed_count);
        problems.equal("missed frees", 0, process.missed_frees);
        sums(process, report, &mut problems);
        for (name, expected) in of_process.sites.iter().filter(|(name, _)| name.starts_with("site_")) {
            let found = total(report.sites_of(pid).filter(|site| site_function(site, find) == Some(name)));
            problems.equal(&format!("{name}, bytes"), expected.alloc_bytes, found.alloc_bytes);
            problems.equal(&format!("{name}, blocks"), expected.alloc_count, found.alloc_count);
            if found.live_bytes < expected.live_bytes || found.live_count < expected.live_count {
                problems
                    .add(format!("{name}: less is live than is\n    ledger {expected}\n    report {found}"));
            }
        }
    }
    problems.finish()
}

#[derive(Default)]
struct Problems {
    scope: String,
    all: Vec<String>,
}

impl Problems {
    fn add(&mut self, problem: impl AsRef<str>) {
        self.all.push(format!("{}: {}", self.scope, problem.as_ref()));
    }

    fn equal(&mut self, what: &str, expected: u64, found: u64) {
        if expected != found {
            self.add(format!("{what}: the ledger has {expected}, the report {found}"));
        }
    }

    fn finish(self) -> Result<()> {
        if self.all.is_empty() {
            return Ok(());
        }
        bail!("{} differences between report and ledger\n{}", self.all.len(), self.all.join("\n"))
    }
}

fn losses(report: &Report, slack: Slack, problems: &mut Problems) {
    problems.scope = "coverage".to_owned();
    for (reason, count) in report.coverage.lost.iter().filter(|(_, count)| **count > 0) {
        problems.add(format!("lost {count}: {reason}"));
    }
    for process in &report.processes {
        if process.lost_count > 0 || process.lost_bytes > 0 {
            let (count, bytes) = (process.lost_count, process.lost_bytes);
            problems.add(format!("process {} lost {count} blocks of {bytes} bytes", process.pid));
        }
    }
    if !slack.attached_late {
        problems.equal("missed returns", 0, report.coverage.missed_returns);
        problems.equal("unpaired returns", 0, report.coverage.unpaired_returns);
    }
}

fn process_figures(process: &Process, ledger: &ProcessLedger, slack: Slack, problems: &mut Problems) {
    problems.equal("failed calls", ledger.failed, process.failed_count);
    problems.equal("frees of inherited blocks", ledger.inherited_frees, process.inherited_free_count);
    if slack.attached_late {
        if process.unknown_frees < ledger.pre_attach_frees {
            let (expected, found) = (ledger.pre_attach_frees, process.unknown_frees);
            problems.add(format!("unknown frees: at least {expected}, the report has {found}"));
        }
    } else {
        problems.equal("frees of blocks from before", ledger.pre_attach_frees, process.unknown_frees);
        problems.equal("missed frees", 0, process.missed_frees);
    }
    if process.peak_live_bytes < process.live_bytes || process.live_bytes > process.alloc_bytes {
        problems.add(format!("live, peak and allocated do not fit: {process:?}"));
    }
    if !process.exited {
        problems.add("has ended, and the report does not say so");
    }
}

/// The sites of a process add up to its totals.
fn sums(process: &Process, report: &Report, problems: &mut Problems) {
    let sum = total(report.sites_of(process.pid));
    let whole = process.figures();
    if sum != whole {
        problems.add(format!("its sites do not add up to its totals\n    totals {whole}\n    sites  {sum}"));
    }
}

fn sites(
    report: &Report,
    pid: u32,
    ledger: &ProcessLedger,
    find: Find,
    slack: Slack,
    problems: &mut Problems,
) {
    let mut found: BTreeMap<&str, (Figures, Sizes)> = BTreeMap::new();
    for site in report.sites_of(pid) {
        for name in names(site, ledger, find) {
            let (sum, sizes) = found.entry(name).or_default();
            *sum += figures(site);
            add_sizes(site, sizes);
        }
    }
    for (name, &expected) in &ledger.sites {
        if name == "elsewhere" {
            continue;
        }
        let (mut actual, sizes) = found.remove(name.as_str()).unwrap_or_default();
        let mut expected = expected;
        if name.starts_with("live_from:") {
            only_live(&mut actual);
            only_live(&mut expected);
        }
        if actual != expected {
            problems.add(format!("{name}\n    ledger {expected}\n    report {actual}"));
        } else if !name.starts_with("live_from:") && ledger.sizes[name] != sizes {
            let known = &ledger.sizes[name];
            problems.add(format!(
                "{name}, blocks by bits of their sizes\n    ledger {known:?}\n    report {sizes:?}"
            ));
        }
    }
    for (name, (figures, _)) in found {
        if slack.unledgered_site != Some(name) {
            problems.add(format!("{name} is in no ledger\n    report {figures}"));
        }
    }
    if ledger.sites.contains_key("elsewhere") {
        let mut expected = Figures::default();
        ledger.sites.values().for_each(|&figures| expected += figures);
        let actual = total(report.sites_of(pid).filter(|site| ledgered(site)));
        if actual != expected {
            problems.add(format!("all ledgered calls\n    ledger {expected}\n    report {actual}"));
        }
    }
}

/// Whether a wrapper that keeps the ledger is the direct caller.
fn ledgered(site: &Site) -> bool {
    site.caller()
        .iter()
        .filter_map(|frame| frame.symbol.as_deref())
        .any(|symbol| symbol.contains("ledgered_"))
}

/// The names under which `site` may be in the ledger: its site function, or one of the other ways to look.
fn names<'a>(site: &'a Site, ledger: &'a ProcessLedger, find: Find) -> Vec<&'a str> {
    if let Some(name) = site_function(site, find) {
        return vec![name];
    }
    let caller = |name: &str| {
        let symbols = site.caller().iter().filter_map(|frame| frame.symbol.as_deref());
        // glibc's own debug information calls its functions by their hidden names (__GI___strdup).
        let plain = |symbol: &str| symbol.trim_start_matches("__GI_").trim_start_matches('_') == name;
        symbols.into_iter().any(plain)
    };
    let of_library = |name: &str| site.module().rsplit('/').next() == Some(name);
    let listed = || ledger.sites.keys().map(String::as_str);
    let by = |kind: &'static str| listed().filter_map(move |name| Some((name, name.strip_prefix(kind)?)));
    let mut names: Vec<&str> =
        by("function:").filter(|(_, rest)| site.function == *rest).map(|(n, _)| n).collect();
    names.extend(by("caller:").filter(|(_, rest)| caller(rest)).map(|(name, _)| name));
    if names.is_empty() {
        names.extend(by("live_from:").filter(|(_, rest)| of_library(rest)).map(|(name, _)| name));
    }
    names
}

/// The name of the site function that made this call, if there is one in the frames that `find` allows.
pub fn site_function(site: &Site, find: Find) -> Option<&str> {
    let frames = match find {
        Find::Caller => site.caller(),
        Find::AnyFrame => &site.stack,
    };
    frames.iter().filter_map(|frame| frame.symbol.as_deref()).find_map(site_name)
}

/// The identifier that begins with `site_` in a demangled name.
fn site_name(symbol: &str) -> Option<&str> {
    let identifier = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let start =
        symbol.match_indices("site_").map(|(at, _)| at).find(|&at| !symbol[..at].ends_with(identifier))?;
    let rest = &symbol[start..];
    Some(&rest[..rest.find(|c| !identifier(c)).unwrap_or(rest.len())])
}

/// The figures of one site of a report.
pub fn figures(site: &Site) -> Figures {
    Figures {
        alloc_bytes: site.alloc_bytes,
        alloc_count: site.alloc_count,
        free_bytes: site.free_bytes,
        free_count: site.free_count,
        live_bytes: site.live_bytes,
        live_count: site.live_count,
    }
}

/// The sum over `sites`.
pub fn total<'a>(sites: impl Iterator<Item = &'a Site>) -> Figures {
    let mut sum = Figures::default();
    sites.for_each(|site| sum += figures(site));
    sum
}

/// The classes of a report's sizes begin at each power of two.
fn add_sizes(site: &Site, sizes: &mut Sizes) {
    for (least, _, count) in &site.sizes {
        *sizes.entry(u64::BITS - least.leading_zeros()).or_default() += count;
    }
}

fn only_live(figures: &mut Figures) {
    let Figures { live_bytes, live_count, .. } = *figures;
    *figures = Figures { live_bytes, live_count, ..Figures::default() };
}

#[cfg(test)]
mod tests {
    use super::site_name;

    #[test]
    fn a_site_is_found_in_plain_and_demangled_names() {
        assert_eq!(site_name("site_malloc_a"), Some("site_malloc_a"));
        assert_eq!(site_name("site_new(unsigned long)"), Some("site_new"));
        assert_eq!(site_name("collections::site_vec::{{closure}}"), Some("site_vec"));
    }

    #[test]
    fn a_name_that_merely_contains_the_prefix_is_no_site() {
        assert_eq!(site_name("ledger_site_of"), None);
        assert_eq!(site_name("main"), None);
    }
}
