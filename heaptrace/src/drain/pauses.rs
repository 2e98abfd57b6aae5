//! How long a process's probes were away on purpose: for a budget's sake, or until it grows.

use std::ops::Range;

/// The pauses of one process. Times are of one clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pauses {
    /// Of those that are over.
    over_ns: u64,
    since_ns: Option<u64>,
}

impl Pauses {
    /// The probes go. Nothing changes where they are away.
    pub fn begin(&mut self, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
    }

    /// The probes are back.
    pub fn end(&mut self, now_ns: u64) {
        if let Some(since_ns) = self.since_ns.take() {
            self.over_ns = self.over_ns.saturating_add(now_ns.saturating_sub(since_ns));
        }
    }

    /// Whether one goes on.
    pub fn goes_on(&self) -> bool {
        self.since_ns.is_some()
    }

    /// How long they were, of a process that lived through `life`.
    pub fn within(&self, life: &Range<u64>) -> u64 {
        let last_ns = self.since_ns.map_or(0, |since_ns| life.end.saturating_sub(since_ns.max(life.start)));
        self.over_ns.saturating_add(last_ns).min(life.end.saturating_sub(life.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_begin_once_and_end_once() {
        let mut pauses = Pauses::default();
        pauses.end(5);
        pauses.begin(10);
        pauses.begin(15);
        pauses.end(20);
        pauses.end(30);
        assert_eq!((pauses.within(&(0..100)), pauses.goes_on()), (10, false));
        pauses.begin(90);
        assert_eq!((pauses.within(&(0..100)), pauses.within(&(0..95)), pauses.goes_on()), (20, 15, true));
    }

    #[test]
    fn no_pause_is_longer_than_the_life() {
        let mut pauses = Pauses::default();
        pauses.begin(10);
        assert_eq!(pauses.within(&(40..60)), 20);
        pauses.end(100);
        assert_eq!(pauses.within(&(40..60)), 20);
    }
}
