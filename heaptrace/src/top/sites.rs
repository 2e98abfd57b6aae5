//! What each site did since the last refreshes.

use crate::model::Site;
use std::collections::VecDeque;

/// States that growth is measured from: one every ten seconds of the last minute.
const STATES: usize = 7;
const STATE_NS: u64 = 10_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    allocs: u64,
    frees: u64,
    live: u64,
}

/// How fast a site works. `None` if it was seen once only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub allocs_per_s: Option<f64>,
    pub frees_per_s: Option<f64>,
    /// Of live bytes, a minute.
    pub growth: Option<f64>,
}

/// See the module. Sites are known by their index, which stays.
#[derive(Clone, Debug, Default)]
pub struct SiteHistory {
    now: (u64, Vec<Counted>),
    before: Option<(u64, Vec<Counted>)>,
    /// Live bytes, the oldest first.
    states: VecDeque<(u64, Vec<u64>)>,
}

impl SiteHistory {
    /// Adds a refresh: all sites there are, at `at_ns`.
    pub fn add(&mut self, at_ns: u64, sites: &[Site]) {
        let counted = |site: &Site| Counted {
            allocs: site.totals.alloc_count,
            frees: site.totals.free_count,
            live: site.totals.live_bytes(),
        };
        let now = (at_ns, sites.iter().map(counted).collect::<Vec<_>>());
        let before = std::mem::replace(&mut self.now, now);
        self.before = (before.0 > 0).then_some(before);
        if self.states.back().is_none_or(|(last, _)| at_ns.saturating_sub(*last) >= STATE_NS) {
            if self.states.len() == STATES {
                self.states.pop_front();
            }
            self.states.push_back((at_ns, self.now.1.iter().map(|counted| counted.live).collect()));
        }
    }

    /// What the site with this index does.
    pub fn rates(&self, site: usize) -> Rates {
        let (at_ns, now) = &self.now;
        let Some(now) = now.get(site) else { return Rates::default() };
        let elapsed = |since: u64| at_ns.checked_sub(since).filter(|elapsed| *elapsed > 0);
        // A site that was not there yet had done nothing.
        let recent = self.before.as_ref().and_then(|(since, sites)| {
            Some((elapsed(*since)? as f64 / 1e9, sites.get(site).copied().unwrap_or_default()))
        });
        let rate = |of: fn(&Counted) -> u64| {
            recent.map(|(seconds, before)| of(now).saturating_sub(of(&before)) as f64 / seconds)
        };
        let growth = self.states.front().and_then(|(since, live)| {
            let before = live.get(site).copied().unwrap_or(0);
            // Less than a second says nothing of a minute.
            let elapsed = elapsed(*since).filter(|elapsed| *elapsed >= 900_000_000)?;
            Some((now.live as f64 - before as f64) * 60e9 / elapsed as f64)
        });
        Rates {
            allocs_per_s: rate(|counted| counted.allocs),
            frees_per_s: rate(|counted| counted.frees),
            growth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::top_rows,
        model::{LifetimeHistogram, ProcessId, SizeHistogram, StackId, Totals},
    };
    use heaptrace_common::function::Function;

    fn site(alloc_bytes: u64, alloc_count: u64) -> Site {
        Site {
            process: ProcessId(0),
            stack: StackId(0),
            function: Function::Malloc,
            totals: Totals { alloc_bytes, alloc_count, ..Totals::default() },
            oldest_age_ns: None,
            sizes: SizeHistogram::default(),
            samples: None,
            thread: None,
            lifetimes: LifetimeHistogram::default(),
        }
    }

    #[test]
    fn rates_are_between_refreshes_and_growth_is_over_the_minute() {
        let mut history = SiteHistory::default();
        history.add(1_000_000_000, &[site(100, 1)]);
        assert_eq!(history.rates(0), Rates::default());
        history.add(3_000_000_000, &[site(700, 5), site(40, 2)]);
        let rates = history.rates(0);
        assert_eq!((rates.allocs_per_s, rates.frees_per_s), (Some(2.0), Some(0.0)));
        assert_eq!(rates.growth, Some(18_000.0));
        let new = history.rates(1);
        assert_eq!((new.allocs_per_s, new.growth), (Some(1.0), Some(1200.0)), "it began from nothing");
        assert_eq!(history.rates(2), Rates::default());
        for second in 4..=100 {
            history.add(second * 1_000_000_000, &[site(700, 5), site(40, 2)]);
        }
        assert_eq!(history.rates(0).growth, Some(0.0));
        assert!(!top_rows::rows().is_empty());
    }
}
