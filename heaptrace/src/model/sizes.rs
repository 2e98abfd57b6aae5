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

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
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
