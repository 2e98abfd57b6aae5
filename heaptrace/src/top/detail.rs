//! The screen of one process as data: its sites, how large its blocks are, and how it came here.

use crate::verdicts::{Judgement, suspicion};
use std::cmp::Ordering;

/// What the sites are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SiteKind {
    /// Blocks of the allocator; the process has probes.
    Blocks,
    /// Calls of brk, mmap and mremap since top began; it has none.
    Growth,
    /// Neither is counted.
    #[default]
    None,
}

/// How sites are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SiteOrder {
    /// What looks most like a leak.
    #[default]
    Verdict,
    Bytes,
    Growth,
    Rate,
}

impl SiteOrder {
    pub fn next(self) -> Self {
        match self {
            Self::Verdict => Self::Growth,
            Self::Growth => Self::Rate,
            Self::Rate => Self::Bytes,
            Self::Bytes => Self::Verdict,
        }
    }

    /// What comes first, in words.
    pub fn name(self, kind: SiteKind) -> &'static str {
        match (self, kind) {
            // Calls that map memory are not judged.
            (Self::Bytes | Self::Verdict, SiteKind::Growth) => "bytes mapped",
            (Self::Verdict, _) => "leak-like",
            (Self::Bytes, _) => "live bytes",
            (Self::Growth, _) => "growth",
            (Self::Rate, SiteKind::Growth) => "calls/s",
            (Self::Rate, _) => "allocations/s",
        }
    }
}

/// One site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteRow {
    /// Stays the same.
    pub id: usize,
    /// Live, or mapped.
    pub bytes: u64,
    /// Blocks, or calls.
    pub count: u64,
    pub growth: Option<f64>,
    pub allocs_per_s: Option<f64>,
    pub frees_per_s: Option<f64>,
    /// Called.
    pub function: &'static str,
    /// Innermost first, never none.
    pub frames: Vec<String>,
    /// So many of them say nothing.
    pub inner: usize,
    pub judged: Option<Judgement>,
    /// The verdict with its evidence, in words.
    pub said: Option<String>,
}

/// The process at one moment of the past.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instant {
    /// Seconds.
    pub ago: f64,
    pub res: u64,
    pub live: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    pub pid: u32,
    pub kind: SiteKind,
    pub sites: Vec<SiteRow>,
    /// Counts of allocated blocks by class: see [`crate::model::SizeHistogram`]. `None` where they are not known: of samples.
    pub sizes: Option<Vec<u64>>,
    /// The oldest first.
    pub timeline: Vec<Instant>,
    /// What brk, mmap and munmap did since top began, in words.
    pub mapped: Option<String>,
    /// What its resident memory is made of, a line each; none if nobody looked yet. Shown in place of the charts.
    pub residency: Vec<String>,
    /// What the numbers do not cover.
    pub notes: Vec<String>,
}

/// Puts sites in order; equal ones stay where they are.
pub fn sort(sites: &mut [SiteRow], order: SiteOrder) {
    let number = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    let first = |a: &SiteRow, b: &SiteRow| match order {
        SiteOrder::Verdict => suspicion(a.judged.as_ref()).cmp(&suspicion(b.judged.as_ref())),
        SiteOrder::Bytes => Ordering::Equal,
        SiteOrder::Growth => number(a.growth, b.growth),
        SiteOrder::Rate => number(a.allocs_per_s, b.allocs_per_s),
    };
    sites.sort_by(|a, b| first(a, b).then(b.bytes.cmp(&a.bytes)).then(a.id.cmp(&b.id)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_leak_comes_first_however_little_it_is() {
        use crate::model::{COHORTS, Cohort, Cohorts};
        let part = Cohort { allocated: 9, freed: 6, live: 3, live_bytes: 3, held_bytes: 0 };
        let leak =
            crate::verdicts::judge(&Cohorts { span_ns: 60_000_000_000, parts: vec![part; COHORTS] }, true);
        let site = |id, bytes, judged| SiteRow { id, bytes, judged, ..SiteRow::default() };
        let mut sites = [site(0, 10, None), site(1, 30, None), site(2, 20, leak)];
        sort(&mut sites, SiteOrder::Verdict);
        assert_eq!(sites.map(|site| site.id), [2, 1, 0]);
    }

    #[test]
    fn sites_are_ordered_by_bytes_growth_or_rate() {
        let site = |id, bytes, growth, rate| SiteRow {
            id,
            bytes,
            growth: Some(growth),
            allocs_per_s: rate,
            ..SiteRow::default()
        };
        let mut sites = [site(0, 10, -5.0, Some(9.0)), site(1, 30, 0.0, None), site(2, 20, 7.0, Some(1.0))];
        let mut ids = |order| {
            sort(&mut sites, order);
            sites.iter().map(|site| site.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(SiteOrder::Verdict), [1, 2, 0], "none is judged");
        assert_eq!(ids(SiteOrder::Bytes), [1, 2, 0]);
        assert_eq!(ids(SiteOrder::Growth), [2, 1, 0]);
        assert_eq!(ids(SiteOrder::Rate), [0, 2, 1]);
    }
}
