//! How sites' old blocks become more or fewer from print to print.

use crate::model::{Change, Old, SiteId, Trend};
use std::{cmp::Reverse, collections::HashMap};

/// What was printed last.
#[derive(Default)]
pub(super) struct Trends {
    before: Option<HashMap<SiteId, Before>>,
}

struct Before {
    bytes: u64,
    count: u64,
    growing: u32,
}

impl Trends {
    /// The trends of `sites`, largest first. What is not among them has no old blocks any more.
    pub fn update(&mut self, sites: &[Old]) -> Vec<Trend> {
        let before = self.before.take();
        let mut trends: Vec<Trend> = sites.iter().map(|old| trend(*old, before.as_ref())).collect();
        self.before = Some(
            trends
                .iter()
                .map(|Trend { old, growing, .. }| {
                    (old.site, Before { bytes: old.bytes, count: old.count, growing: *growing })
                })
                .collect(),
        );
        trends.sort_by_key(|trend| (Reverse((trend.old.bytes, trend.old.count)), trend.old.site));
        trends
    }
}

fn trend(old: Old, before: Option<&HashMap<SiteId, Before>>) -> Trend {
    let Some(before) = before else { return Trend { old, change: None, growing: 0 } };
    let none = Before { bytes: 0, count: 0, growing: 0 };
    let Before { bytes, count, growing } = before.get(&old.site).unwrap_or(&none);
    // Sums of sizes that programs asked for and got: far from the largest i64.
    let change = Change {
        bytes: old.bytes.wrapping_sub(*bytes).cast_signed(),
        count: old.count.wrapping_sub(*count).cast_signed(),
    };
    let growing = match change.bytes {
        1.. => growing.saturating_add(1),
        0 => *growing,
        _ => 0,
    };
    Trend { old, change: Some(change), growing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(site: u32, bytes: u64, count: u64) -> Old {
        Old { site: SiteId(site), bytes, count, oldest_ns: 2, youngest_ns: 1, exited: false, samples: None }
    }

    #[test]
    fn the_first_print_has_nothing_to_compare_with() {
        let trends = Trends::default().update(&[old(0, 5, 1), old(1, 7, 2)]);
        let first: Vec<_> =
            trends.iter().map(|trend| (trend.old.site.0, trend.change, trend.growing)).collect();
        assert_eq!(first, [(1, None, 0), (0, None, 0)]);
    }

    #[test]
    fn growth_is_counted_until_it_shrinks_and_a_rest_does_not_end_it() {
        let mut trends = Trends::default();
        let seen: Vec<_> = [10, 20, 20, 30, 25, 26]
            .map(|bytes| {
                let trend = trends.update(&[old(0, bytes, 1)])[0];
                (trend.change.map(|change| change.bytes), trend.growing)
            })
            .into();
        let expected = [(None, 0), (Some(10), 1), (Some(0), 1), (Some(10), 2), (Some(-5), 0), (Some(1), 1)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_was_gone_begins_anew() {
        let mut trends = Trends::default();
        trends.update(&[old(0, 10, 1)]);
        trends.update(&[]);
        let trend = trends.update(&[old(0, 10, 2)])[0];
        assert_eq!((trend.change, trend.growing), (Some(Change { bytes: 10, count: 2 }), 1));
    }
}
