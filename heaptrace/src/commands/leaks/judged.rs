//! Verdicts on the sites of a print, and what comes first by them.

use crate::{
    model::{SiteId, Trend},
    verdicts::{Judgement, suspicion},
};
use std::collections::BTreeMap;

/// The most suspicious first, and of those that do not grow the one with most old bytes.
pub(super) fn order(trends: &mut [Trend], judged: &BTreeMap<SiteId, Judgement>) {
    trends.sort_by_key(|trend| suspicion(judged.get(&trend.old.site)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{COHORTS, Cohort, Cohorts, Mode, Old},
        verdicts::judge_all,
    };

    fn cohorts(of: impl Fn(usize) -> Cohort) -> Cohorts {
        Cohorts { span_ns: 60_000_000_000, parts: (0..COHORTS).map(of).collect() }
    }

    #[test]
    fn what_leaks_comes_before_what_is_large() {
        let one = Cohort { allocated: 10, freed: 10, held_bytes: 1_000, ..Cohort::default() };
        let cache =
            cohorts(|at| if at < 20 { one } else { Cohort { live: 10, live_bytes: 1_000_000, ..one } });
        let leak = |bytes| cohorts(move |_| Cohort { freed: 5, live: 5, live_bytes: bytes, ..one });
        let all = BTreeMap::from([(SiteId(0), cache), (SiteId(2), leak(10)), (SiteId(3), leak(20))]);
        let judged = judge_all(&all, Mode::Exact);
        let trend = |site: u32| Trend {
            old: Old {
                site: SiteId(site),
                bytes: 9,
                count: 1,
                oldest_ns: 2,
                youngest_ns: 1,
                exited: false,
                samples: None,
            },
            change: None,
            growing: 0,
        };
        let mut trends = [trend(1), trend(0), trend(2), trend(3)];
        order(&mut trends, &judged);
        assert_eq!(trends.map(|trend| trend.old.site.0), [3, 2, 1, 0]);
    }
}
