//! Work that comes back at an interval and leaves others their share of the time.

use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at};

/// See the module.
pub struct Pace {
    interval: Interval,
    every: Duration,
    /// How many times as long as the work takes is the least time from one to the next.
    share: u32,
}

impl Pace {
    /// Due at once, then every so often. Must be called within a runtime.
    pub fn now(every: Duration, share: u32) -> Self {
        Self::of(interval(every), every, share)
    }

    /// Due after the first interval. Must be called within a runtime.
    pub fn later(every: Duration, share: u32) -> Self {
        Self::of(interval_at(Instant::now() + every, every), every, share)
    }

    fn of(mut interval: Interval, every: Duration, share: u32) -> Self {
        // What was missed is not made up for: the work is about how things are now.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { interval, every, share }
    }

    /// Until it is due. It still is where this is not waited for to the end.
    pub async fn due(&mut self) {
        self.interval.tick().await;
    }

    /// The work was done just now, and `took` so long.
    pub fn rest(&mut self, took: Duration) {
        self.interval.reset_after(wait(self.every, self.share, took));
    }
}

/// From the end of work that took so long to the next.
fn wait(every: Duration, share: u32, took: Duration) -> Duration {
    every.max(took.saturating_mul(share)).saturating_sub(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_work_keeps_to_the_interval_and_long_work_leaves_others_their_share() {
        let of =
            |share, took| wait(Duration::from_millis(1000), share, Duration::from_millis(took)).as_millis();
        assert_eq!((of(2, 0), of(2, 300), of(2, 500)), (1000, 700, 500));
        assert_eq!((of(2, 3000), of(10, 300), of(10, 3000)), (3000, 2700, 27_000));
        assert_eq!((of(0, 300), of(0, 3000)), (700, 0));
    }

    #[test]
    fn what_is_due_stays_so_when_nobody_waits_to_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut pace = Pace::later(Duration::from_millis(5), 0);
            let mut waits = 0;
            loop {
                waits += 1;
                tokio::select! {
                    biased;
                    () = pace.due() => break,
                    () = tokio::task::yield_now() => {}
                }
            }
            assert!(waits > 1);
        });
    }
}
