//! When tracing began, and for how long targets were followed.

use crate::process::system::now_ns;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Default)]
pub(super) struct Clock {
    /// Since the Unix epoch.
    started_ns: Option<i64>,
    from: Option<Instant>,
    until: Option<Instant>,
}

impl Clock {
    /// Targets are there: the first ones are the start.
    pub fn have_targets(&mut self) {
        self.started_ns.get_or_insert_with(now_ns);
    }

    /// When the first targets were there, or now.
    pub fn started_ns(&self) -> i64 {
        self.started_ns.unwrap_or_else(now_ns)
    }

    pub fn begin(&mut self) {
        self.from = Some(Instant::now());
    }

    pub fn end(&mut self) {
        self.until = Some(Instant::now());
    }

    /// `None` if nobody said when that began.
    pub fn followed(&self) -> Option<Duration> {
        let until = self.until.unwrap_or_else(Instant::now);
        Some(until.duration_since(self.from?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_targets_are_the_start() {
        let mut clock = Clock::default();
        clock.have_targets();
        let started_ns = clock.started_ns();
        std::thread::sleep(Duration::from_millis(1));
        clock.have_targets();
        assert_eq!(clock.started_ns(), started_ns);
    }

    #[test]
    fn time_stands_still_once_following_has_ended() {
        let mut clock = Clock::default();
        assert_eq!(clock.followed(), None);
        clock.begin();
        clock.end();
        let followed = clock.followed();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(clock.followed(), followed);
        assert!(followed.is_some());
    }
}
