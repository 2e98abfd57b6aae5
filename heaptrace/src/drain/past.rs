//! What was counted of each site at moments of its past, so that it is known what of its blocks came and went when.

use crate::model::SiteId;
use std::collections::HashMap;

/// Moments that are kept of a site: where there are more, every other one goes, so that it is at least half of them.
const MOMENTS: usize = 32;

/// The closest together that moments are: as often as the tables are read.
const APART_NS: u64 = 900_000_000;

/// What was counted of a site. Where blocks are sampled, counts are of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub allocated: u64,
    pub freed: u64,
    pub held_bytes: u64,
}

/// The same, at a moment (`CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moment {
    at_ns: u64,
    counted: Counted,
}

/// The past of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    kept: Vec<Moment>,
    /// When it had changed, and until when it has not changed since.
    last: Moment,
    still_ns: u64,
    apart_ns: u64,
}

impl Past {
    /// Of a site that had nothing at `before_ns`.
    fn new(before_ns: u64) -> Self {
        let last = Moment { at_ns: before_ns, ..Moment::default() };
        Self { kept: Vec::new(), last, still_ns: before_ns, apart_ns: APART_NS }
    }

    fn note(&mut self, at_ns: u64, counted: Counted) {
        if counted == self.last.counted {
            self.still_ns = at_ns;
            return;
        }
        if at_ns > self.last.at_ns {
            self.keep(self.last);
            self.keep(Moment { at_ns: self.still_ns, ..self.last });
        }
        self.last = Moment { at_ns, counted };
        self.still_ns = at_ns;
    }

    fn keep(&mut self, moment: Moment) {
        if self.kept.last().is_some_and(|last| moment.at_ns.saturating_sub(last.at_ns) < self.apart_ns) {
            return;
        }
        // Before there is one more, for which there would be room for twice as many.
        if self.kept.len() == MOMENTS {
            self.apart_ns *= 2;
            let mut place = 0;
            self.kept.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.kept.push(moment);
    }

    /// What had been counted by `at_ns`, in equal steps between two moments.
    pub fn at(&self, at_ns: u64) -> Counted {
        let after = self.kept.partition_point(|moment| moment.at_ns <= at_ns);
        let later = self.kept.get(after).unwrap_or(&self.last);
        let Some(earlier) = after.checked_sub(1).and_then(|before| self.kept.get(before)) else {
            return if at_ns < later.at_ns { Counted::default() } else { later.counted };
        };
        let span = later.at_ns.saturating_sub(earlier.at_ns);
        let passed = (at_ns - earlier.at_ns).min(span);
        let between = |of: fn(&Counted) -> u64| {
            let (from, to) = (of(&earlier.counted), of(&later.counted));
            let part = |change: u64| match span {
                0 => change,
                span => u64::try_from(u128::from(change) * u128::from(passed) / u128::from(span))
                    .unwrap_or(change),
            };
            if to >= from { from + part(to - from) } else { from - part(from - to) }
        };
        Counted {
            allocated: between(|of| of.allocated),
            freed: between(|of| of.freed),
            held_bytes: between(|of| of.held_bytes),
        }
    }
}

/// The pasts of all sites.
#[derive(Default)]
pub(super) struct Pasts {
    now_ns: u64,
    before_ns: u64,
    of: HashMap<SiteId, Past>,
}

impl Pasts {
    /// Says when sites are read next.
    pub fn reads_at(&mut self, now_ns: u64) {
        if now_ns > self.now_ns {
            self.before_ns = std::mem::replace(&mut self.now_ns, now_ns);
        }
    }

    /// Takes what a site had when it was read.
    pub fn note(&mut self, site: SiteId, counted: Counted) {
        self.of.entry(site).or_insert_with(|| Past::new(self.before_ns)).note(self.now_ns, counted);
    }

    pub fn of(&self, site: SiteId) -> Option<&Past> {
        self.of.get(&site)
    }

    pub fn forget(&mut self, site: SiteId) {
        self.of.remove(&site);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn counted(allocated: u64, freed: u64) -> Counted {
        Counted { allocated, freed, held_bytes: (allocated - freed) * 10 }
    }

    #[test]
    fn what_comes_after_a_rest_was_not_there_before() {
        let mut past = Past::new(10 * SECOND);
        past.note(11 * SECOND, counted(100, 0));
        for second in 12..=40 {
            past.note(second * SECOND, counted(100, 0));
        }
        past.note(41 * SECOND, counted(200, 50));
        let at = |half_seconds: u64| past.at(half_seconds * SECOND / 2);
        assert_eq!(at(20), Counted::default());
        assert_eq!(at(21), counted(50, 0));
        assert_eq!(at(80), counted(100, 0));
        assert_eq!(at(81), counted(150, 25));
        assert_eq!((at(82), at(1_000)), (counted(200, 50), counted(200, 50)));
        assert_eq!(at(0), Counted::default());
    }

    #[test]
    fn however_long_it_takes_moments_are_few_and_spread_over_it() {
        let mut past = Past::new(0);
        for second in 1..=10_000 {
            past.note(second * SECOND, counted(second, 0));
        }
        assert!((MOMENTS / 2..=MOMENTS).contains(&past.kept.len()), "{}", past.kept.len());
        for second in (0..=10_000).step_by(977) {
            assert!(past.at(second * SECOND).allocated.abs_diff(second) <= 1);
        }
    }

    proptest! {
        #[test]
        fn what_was_counted_never_falls_and_ends_with_the_last(steps in proptest::collection::vec((1_u64..9, 0_u64..9), 1..200)) {
            let mut past = Past::new(0);
            let (mut at, mut all) = (0, 0);
            for (seconds, more) in steps {
                (at, all) = (at + seconds * SECOND, all + more);
                past.note(at, counted(all, 0));
            }
            let seen: Vec<u64> = (0..=50).map(|part| past.at(at * part / 50).allocated).collect();
            prop_assert!(seen.is_sorted());
            prop_assert_eq!(seen.last().copied(), Some(all));
        }
    }
}
