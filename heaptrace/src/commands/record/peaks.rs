//! When a recording is saved beside its regular times: when well more is live than in any state that was saved. Pure.

use std::time::Duration;

/// More by one part in so many. As only what is above all before is saved, this bounds how many states that are, however long a
/// recording is: 23 for each doubling of what is live.
const PART: u64 = 32;

/// Less than this more is no peak that anybody looks for.
const LEAST: u64 = 64 << 10;

/// One part in so many of the time is spent on this at most.
const SHARE: u32 = 50;

/// Time that may be spent at once: a few states of a program with very many stacks, and all of one that comes up quickly.
const AT_ONCE: Duration = Duration::from_millis(500);

/// See the module. Times are since the recording began.
#[derive(Debug)]
pub(super) struct Peaks {
    /// The most that was live in a state that was saved.
    saved: u64,
    /// Seconds that may be spent; less than none where a state took longer than it may.
    credit: f64,
    at: Duration,
}

impl Peaks {
    pub fn new() -> Self {
        Self { saved: 0, credit: AT_ONCE.as_secs_f64(), at: Duration::ZERO }
    }

    /// Whether a state in which so many bytes are live is to be saved.
    pub fn wants(&mut self, live: u64, now: Duration) -> bool {
        let earned = now.saturating_sub(self.at).as_secs_f64() / f64::from(SHARE);
        (self.credit, self.at) = ((self.credit + earned).min(AT_ONCE.as_secs_f64()), now);
        let above = (self.saved / PART).max(LEAST);
        live >= self.saved.saturating_add(above) && self.credit > 0.0
    }

    /// A state was saved in which so many bytes are live, whatever for.
    pub fn saved(&mut self, live: u64) {
        self.saved = self.saved.max(live);
    }

    /// To save it, as it was wanted, took so long.
    pub fn spent(&mut self, took: Duration) {
        self.credit -= took.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOOK: Duration = Duration::from_millis(100);

    /// What is saved of what is live at each look, where that takes so long; with the time that it took in all.
    fn saved(live: impl IntoIterator<Item = u64>, took: Duration) -> (Vec<u64>, Duration, Duration) {
        let mut peaks = Peaks::new();
        let (mut saved, mut spent, mut now) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        for live in live {
            if peaks.wants(live, now) {
                saved.push(live);
                peaks.saved(live);
                peaks.spent(took);
                spent += took;
                now += took;
            }
            now += LOOK;
        }
        (saved, spent, now)
    }

    #[test]
    fn a_peak_of_three_looks_is_saved_and_what_is_no_higher_is_not() {
        let rest = [1 << 20; 40];
        let peak = [5 << 20, 9 << 20, 9 << 20];
        let (all, ..) =
            saved(rest.into_iter().chain(peak).chain(rest).chain(peak).chain(rest), Duration::from_millis(3));
        assert_eq!(all, [1 << 20, 5 << 20, 9 << 20]);
    }

    #[test]
    fn regular_states_count_and_little_more_is_no_peak() {
        let mut peaks = Peaks::new();
        peaks.saved(100 << 20);
        assert!(!peaks.wants(102 << 20, LOOK), "2% more");
        assert!(peaks.wants(104 << 20, LOOK));
        let mut small = Peaks::new();
        assert!(!small.wants(LEAST - 1, LOOK) && small.wants(LEAST, LOOK));
    }

    #[test]
    fn however_long_something_grows_its_states_are_few_and_the_last_is_near() {
        // From nothing to 64 GiB by a 1,000th at a time: for hours.
        let growing: Vec<u64> = std::iter::successors(Some(4096_u64), |live| {
            Some(live + live / 1000 + 1).filter(|live| *live < 64 << 30)
        })
        .collect();
        let (all, ..) = saved(growing.iter().copied(), Duration::from_millis(1));
        assert!(all.len() <= 23 * 20 + 10, "{}", all.len());
        let (Some(last), Some(most)) = (all.last(), growing.last()) else { panic!("nothing") };
        assert!(last + last / PART >= *most, "{last} of {most}");
    }

    proptest! {
        /// Whatever is live, and however long it takes.
        #[test]
        fn it_takes_no_more_than_its_share_of_the_time(
            live in proptest::collection::vec(0_u64..1 << 40, 1..400), took_ms in 0_u64..4_000,
        ) {
            let took = Duration::from_millis(took_ms);
            let mut live = live;
            live.sort_unstable();
            let (all, spent, now) = saved(live, took);
            prop_assert!(spent <= AT_ONCE + took + now / SHARE, "{spent:?} of {now:?}");
            prop_assert!(all.is_sorted_by(|one, other| other - one >= LEAST.max(one / PART)), "{all:?}");
        }
    }
}
