//! From when to when calls count.

use super::monotonic_ns;
use crate::drain::Counted;
use std::time::{Duration, Instant};

/// From when to when calls count.
pub struct Counting {
    /// When the session was made, or later, when the first calls began to count.
    pub(super) started: Instant,
    pub(super) any_counts: bool,
    /// `CLOCK_MONOTONIC`; 0 where processes begin one by one.
    pub(super) from_ns: u64,
    pub(super) over: Option<(Instant, u64)>,
}

impl Counting {
    pub fn new() -> Self {
        Self { started: Instant::now(), any_counts: false, from_ns: 0, over: None }
    }

    /// Since calls count, until now or the end of counting.
    pub fn elapsed(&self) -> Duration {
        self.over.map_or_else(|| self.started.elapsed(), |(at, _)| at.duration_since(self.started))
    }

    /// `CLOCK_MONOTONIC` now, or when counting ended.
    pub fn now_ns(&self) -> u64 {
        self.over.map_or_else(monotonic_ns, |(_, at_ns)| at_ns)
    }

    /// Whether all processes' calls count by now.
    pub fn has_begun(&self) -> bool {
        self.from_ns != 0
    }

    /// Whether nothing counts any more.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    pub fn counted(&self, probes: bool) -> Counted {
        Counted { from_ns: self.from_ns, until_ns: self.now_ns(), probes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_once_counting_is_over() {
        let mut counting = Counting::new();
        counting.over = Some((counting.started + Duration::from_secs(3), 70));
        assert_eq!((counting.elapsed(), counting.now_ns()), (Duration::from_secs(3), 70));
        assert_eq!(counting.counted(true), Counted { from_ns: 0, until_ns: 70, probes: true });
    }
}
