//! From when to when calls count. And which files are probed for all processes for the sake of some.

use super::monotonic_ns;
use crate::drain::Counted;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

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

/// Files that are probed for all processes for the sake of some.
pub struct Shared {
    told: bool,
    files: BTreeSet<String>,
}

impl Shared {
    /// `told`: there are processes that have nothing to do with the session.
    pub fn new(told: bool) -> Self {
        Self { told, files: BTreeSet::new() }
    }

    pub fn add(&mut self, file: String) {
        self.files.insert(file);
    }

    /// The first of the files whose calls trap, if others' do, and how many more there are.
    pub(super) fn files(&self) -> Option<(Vec<String>, u64)> {
        /// Few enough to read.
        const SHOWN: usize = 3;
        if !self.told || self.files.is_empty() {
            return None;
        }
        let more = self.files.len().saturating_sub(SHOWN) as u64;
        Some((self.files.iter().take(SHOWN).cloned().collect(), more))
    }

    /// Whose calls trap, if others' do.
    pub(super) fn who(&self) -> Option<String> {
        let (files, more) = self.files()?;
        let more = if more > 0 { format!(" or {more} more") } else { String::new() };
        Some(format!("every process that maps {}{more}", files.join(" or ")))
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

    #[test]
    fn others_are_told_of_where_there_are_any() {
        let mut shared = Shared::new(true);
        assert_eq!(shared.who(), None);
        for file in ["/c", "/a", "/b", "/d", "/e"] {
            shared.add(file.to_owned());
        }
        assert_eq!(shared.who().as_deref(), Some("every process that maps /a or /b or /c or 2 more"));
        assert_eq!(Shared { told: false, ..shared }.who(), None);
    }
}
