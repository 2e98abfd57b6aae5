//! Holds what is estimated of a process against its ledger.

use crate::{
    compare::{Find, figures, site_function},
    ledger::{Figures, ProcessLedger},
    report::Report,
};
use anyhow::{Context as _, Result, ensure};

/// One figure of a site: what the ledger says, the report, and its interval.
pub struct Judged {
    pub what: String,
    pub truth: u64,
    pub value: u64,
    pub interval: (u64, u64),
    /// It may be more.
    pub is_bound: bool,
}

impl Judged {
    /// Whether the truth is within `widths` intervals on its side.
    pub fn holds(&self, widths: f64) -> bool {
        let (low, high) = self.interval;
        let (truth, value) = (self.truth as f64, self.value as f64);
        let above = truth <= value + widths * (high as f64 - value);
        let below = truth >= value - widths * (value - low as f64);
        above && (below || self.is_bound)
    }
}

/// All figures of a process's sites.
///
/// # Errors
/// If a site with much has no sample, or one is there twice.
pub fn judged(report: &Report, pid: u32, ledger: &ProcessLedger, find: Find) -> Result<Vec<Judged>> {
    let mut all = Vec::new();
    for (name, truth) in ledger.sites.iter().filter(|(name, _)| name.starts_with("site_")) {
        let mut sites = report.sites_of(pid).filter(|site| site_function(site, find) == Some(name));
        let Some(site) = sites.next() else {
            // So little that it may well have no sample.
            ensure!(truth.alloc_bytes < 32 << 14, "{name} has no sample: {truth}");
            continue;
        };
        ensure!(sites.next().is_none(), "{name} is there twice");
        let estimate = site.estimate.context("a site without an interval")?;
        let Figures { alloc_bytes, alloc_count, live_bytes, live_count, .. } = figures(site);
        let mut add = |what: &str, truth, value, interval, is_bound| {
            all.push(Judged { what: format!("{name}, {what}"), truth, value, interval, is_bound });
        };
        add("bytes", truth.alloc_bytes, alloc_bytes, estimate.alloc_bytes, false);
        add("blocks", truth.alloc_count, alloc_count, estimate.alloc_count, false);
        // So few may well have no sample.
        if live_count > 0 || truth.live_bytes > 32 << 14 {
            let is_bound = report.live_is_bound;
            add("live bytes", truth.live_bytes, live_bytes, estimate.live_bytes, is_bound);
            add("live blocks", truth.live_count, live_count, estimate.live_count, is_bound);
        }
    }
    Ok(all)
}
