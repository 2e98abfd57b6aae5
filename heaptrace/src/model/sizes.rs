//! Log2 histogram of allocation sizes.

use super::classes;
use heaptrace_common::sizes::SIZE_CLASSES;

/// Counts of allocations by size class: class 0 holds size 0, class k holds sizes in `[2^(k-1), 2^k)`; the last
/// holds everything larger. Trailing empty classes may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizeHistogram(pub Vec<u64>);

impl SizeHistogram {
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

    /// The sizes of class `class`, in bytes, both ends included; the kernel's last class has no upper one.
    pub fn range(class: usize) -> (u64, Option<u64>) {
        const LAST: usize = SIZE_CLASSES - 1;
        match class {
            0 => (0, Some(0)),
            1..LAST => (1 << (class - 1), Some((1 << class) - 1)),
            _ => (1 << (LAST - 1), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_each_other_and_the_last_is_open() {
        let mut next = 0;
        for class in 0..SIZE_CLASSES {
            let (least, most) = SizeHistogram::range(class);
            assert_eq!(least, next);
            assert_eq!(most.is_none(), class == SIZE_CLASSES - 1);
            next = most.map_or(u64::MAX, |most| most + 1);
        }
        assert_eq!(SizeHistogram::range(SIZE_CLASSES - 1), (1 << 30, None));
    }
}
