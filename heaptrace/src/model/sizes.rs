//! Log2 histogram of allocation sizes.

/// Counts of allocations by size class: class 0 holds size 0, class k holds sizes in `[2^(k-1), 2^k)`; the last
/// holds everything larger. Trailing empty classes may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizeHistogram(pub Vec<u64>);

impl SizeHistogram {
    /// Adds `other`, class by class.
    pub fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// Counts on to `now`, counts of the same that are kept modulo 2^32.
    pub fn follow(&mut self, now: &[u32]) {
        let used = now.iter().rposition(|count| *count != 0).map_or(0, |last| last + 1);
        if self.0.len() < used {
            self.0.resize(used, 0);
        }
        for (sum, count) in self.0.iter_mut().zip(now) {
            *sum += u64::from(count.wrapping_sub(*sum as u32));
        }
    }

    /// The sizes of class `class`, in bytes, both ends included; the last class of the table is open-ended.
    pub fn range(class: usize) -> (u64, u64) {
        match class {
            0 => (0, 0),
            1..=63 => (1 << (class - 1), (1 << class) - 1),
            _ => (1 << 63, u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_go_round_are_followed() {
        let mut sizes = SizeHistogram::default();
        sizes.follow(&[0, u32::MAX, 0]);
        assert_eq!(sizes.0, [0, u64::from(u32::MAX)]);
        sizes.follow(&[1, 3, 0, 5]);
        assert_eq!(sizes.0, [1, u64::from(u32::MAX) + 4, 0, 5]);
        sizes.follow(&[1, 0, 0, 5]);
        assert_eq!(sizes.0[1], 2 << 32);
    }
}
