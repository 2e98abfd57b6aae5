//! How long blocks lived that were freed.

use super::classes;
use heaptrace_common::lifetimes::{CLASSES, ENDS_NS};

/// Counts of freed blocks by class of lifetime; none where that was not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifetimeHistogram(pub Vec<u64>);

impl LifetimeHistogram {
    /// Adds `other`, class by class.
    pub fn add(&mut self, other: &Self) {
        classes::add(&mut self.0, &other.0);
    }

    /// Takes `other` away, which it had before.
    pub fn subtract(&mut self, other: &Self) {
        classes::subtract(&mut self.0, &other.0);
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        classes::total(&self.0)
    }

    /// From when to when blocks of a class lived, in nanoseconds, the end left out; the last has none.
    pub fn range(class: usize) -> (u64, Option<u64>) {
        let least = class.min(CLASSES - 1).checked_sub(1).and_then(|before| ENDS_NS.get(before));
        (least.copied().unwrap_or(0), ENDS_NS.get(class).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_each_other_and_the_last_is_open() {
        let mut next = Some(0);
        for class in 0..CLASSES {
            let (least, end) = LifetimeHistogram::range(class);
            assert_eq!(Some(least), next);
            next = end;
        }
        assert_eq!(next, None);
    }
}
