//! Whose turn it is to be measured: everyone's, a few at a time, with rests that keep measuring a small part of the time.

use std::time::Duration;

/// How many times as long as measuring took nothing is measured: 2 % of one CPU at most. Reading smaps holds the lock of
/// the process's memory while a mapping is gone through, tens of milliseconds for 1 GiB, and its mmap and brk wait.
const REST: u32 = 50;

/// What a round takes at most, but for its last process: heaptrace keeps up with forks between rounds.
const ROUND: Duration = Duration::from_millis(50);

/// See the module. Times are since some fixed moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// The last record that was measured.
    last: Option<u32>,
    not_before: Duration,
}

impl Rounds {
    /// The records to be measured at `now`, in order, of those that `run`: from the one behind the last on. None while it
    /// is time to rest.
    pub fn due(&self, now: Duration, run: &[u32]) -> Vec<u32> {
        if now < self.not_before {
            return Vec::new();
        }
        let from = self.last.map_or(0, |last| run.partition_point(|record| *record <= last));
        let (before, behind) = run.split_at(from);
        behind.iter().chain(before).copied().collect()
    }

    /// Whether a round that began `elapsed` ago goes on.
    pub fn goes_on(elapsed: Duration) -> bool {
        elapsed < ROUND
    }

    /// A round is over at `now`; it took `took` and ended with `last`.
    pub fn over(&mut self, now: Duration, took: Duration, last: Option<u32>) {
        self.last = last.or(self.last);
        self.not_before = now.saturating_add(took.saturating_mul(REST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn everyone_has_a_turn_whoever_comes_and_goes() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.due(Duration::ZERO, &[2, 5, 9]), [2, 5, 9]);
        rounds.over(Duration::ZERO, Duration::ZERO, Some(5));
        assert_eq!(rounds.due(Duration::ZERO, &[2, 5, 9, 11]), [9, 11, 2, 5]);
        assert_eq!(rounds.due(Duration::ZERO, &[2, 4, 9]), [9, 2, 4]);
        rounds.over(Duration::ZERO, Duration::ZERO, Some(9));
        assert_eq!(rounds.due(Duration::ZERO, &[2, 5, 9]), [2, 5, 9]);
        rounds.over(Duration::ZERO, Duration::ZERO, None);
        assert_eq!(rounds.due(Duration::ZERO, &[2, 12]), [12, 2]);
        assert!(rounds.due(Duration::ZERO, &[]).is_empty());
    }

    #[test]
    fn a_rest_is_fifty_times_as_long_as_the_work() {
        let mut rounds = Rounds::default();
        rounds.over(100 * MS, 7 * MS, Some(1));
        assert!(rounds.due(449 * MS, &[1]).is_empty());
        assert_eq!(rounds.due(450 * MS, &[1]), [1]);
    }
}
