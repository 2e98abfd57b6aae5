//! When a process's probes were away on purpose: for a budget's sake, or until it grows.

use std::{collections::VecDeque, ops::Range};

/// Pauses that are kept one by one. Of those before, only how long they were together.
const KEPT: usize = 256;

/// The pauses of one process, in order. Times are of one clock.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    first_ns: Option<u64>,
    kept: VecDeque<Range<u64>>,
    before_ns: u64,
    /// The one that goes on.
    since_ns: Option<u64>,
}

impl Pauses {
    /// The probes go. Nothing changes where they are away.
    pub fn begin(&mut self, now_ns: u64) {
        self.first_ns.get_or_insert(now_ns);
        self.since_ns.get_or_insert(now_ns);
    }

    /// The probes are back.
    pub fn end(&mut self, now_ns: u64) {
        let Some(since_ns) = self.since_ns.take() else { return };
        self.kept.push_back(since_ns..now_ns);
        if self.kept.len() > KEPT
            && let Some(Range { start, end }) = self.kept.pop_front()
        {
            self.before_ns = self.before_ns.saturating_add(end.saturating_sub(start));
        }
    }

    /// When the first began.
    pub fn first_ns(&self) -> Option<u64> {
        self.first_ns
    }

    /// How long they were within `life`.
    pub fn within(&self, life: &Range<u64>) -> u64 {
        let known = self.ranges(life.end).map(|pause| {
            let (from, to) = (pause.start.max(life.start), pause.end.min(life.end));
            to.saturating_sub(from)
        });
        known.sum::<u64>().saturating_add(self.before_ns).min(life.end.saturating_sub(life.start))
    }

    /// What is left of `gap` where there was no pause.
    pub fn outside(&self, gap: Range<u64>) -> Vec<Range<u64>> {
        let mut rest = Vec::new();
        let mut from = gap.start;
        for pause in self.ranges(gap.end) {
            if pause.start > from && from < gap.end {
                rest.push(from..pause.start.min(gap.end));
            }
            from = from.max(pause.end);
        }
        if from < gap.end {
            rest.push(from..gap.end);
        }
        rest
    }

    /// Those that are kept, the last until `until_ns` if it goes on.
    fn ranges(&self, until_ns: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let last = self.since_ns.map(|since_ns| since_ns..until_ns.max(since_ns));
        self.kept.iter().cloned().chain(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(of: &[Range<u64>], since_ns: Option<u64>) -> Pauses {
        let mut pauses = Pauses::default();
        for pause in of {
            pauses.begin(pause.start);
            pauses.end(pause.end);
        }
        since_ns.into_iter().for_each(|since_ns| pauses.begin(since_ns));
        pauses
    }

    #[test]
    fn they_count_within_a_life() {
        let pauses = pauses(&[10..20, 40..50], Some(90));
        assert_eq!(pauses.first_ns(), Some(10));
        assert_eq!(
            (pauses.within(&(0..100)), pauses.within(&(15..45)), pauses.within(&(60..80))),
            (30, 10, 0)
        );
    }

    #[test]
    fn what_was_missed_by_the_way_is_what_lies_outside() {
        let pauses = pauses(&[10..20, 40..50], Some(90));
        assert_eq!(pauses.outside(0..100), [0..10, 20..40, 50..90]);
        assert_eq!(pauses.outside(12..18), []);
        assert_eq!(pauses.outside(15..45), vec![(20..40)]);
        assert_eq!(pauses.outside(60..80), vec![(60..80)]);
        assert_eq!(pauses.outside(95..u64::MAX), []);
        assert_eq!(Pauses::default().outside(3..5), vec![(3..5)]);
    }

    #[test]
    fn a_pause_begins_once_and_ends_once() {
        let mut pauses = pauses(&[], Some(10));
        pauses.begin(15);
        pauses.end(20);
        pauses.end(30);
        assert_eq!(pauses.within(&(0..100)), 10);
    }

    #[test]
    fn a_million_take_no_more_room_than_some_hundred() {
        let mut pauses = Pauses::default();
        for n in 0..1_000_000 {
            pauses.begin(n * 10);
            pauses.end(n * 10 + 4);
        }
        assert_eq!((pauses.kept.len(), pauses.within(&(0..20_000_000))), (KEPT, 4_000_000));
    }
}
