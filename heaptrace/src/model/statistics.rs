//! What `stat` counts of a process beside what a [`super::Profile`] holds.

use heaptrace_common::{function::Function, statistics::LIFETIMES};
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Freed blocks by how long they lived; see `heaptrace_common::statistics`.
    pub lifetimes: [u64; LIFETIMES],
    pub functions: BTreeMap<Function, FunctionStatistics>,
}

/// Frees and failures of one function. Successful allocations are the sites' to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionStatistics {
    /// Blocks it freed, known or unknown.
    pub frees: u64,
    /// Bytes of the known ones.
    pub free_bytes: u64,
    /// Calls that returned no memory.
    pub failed: u64,
}

impl Statistics {
    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.lifetimes.iter_mut().zip(other.lifetimes) {
            *sum = sum.saturating_add(count);
        }
        for (function, other) in &other.functions {
            let FunctionStatistics { frees, free_bytes, failed } =
                self.functions.entry(*function).or_default();
            *frees = frees.saturating_add(other.frees);
            *free_bytes = free_bytes.saturating_add(other.free_bytes);
            *failed = failed.saturating_add(other.failed);
        }
    }

    /// The lifetimes of class `class`, in nanoseconds: from, and below; the last class has no end.
    pub fn lifetime_range(class: usize) -> (u64, Option<u64>) {
        let bound = |class: u32| 100 * 10_u64.pow(class);
        let class = class.min(LIFETIMES - 1) as u32;
        let from = if class == 0 { 0 } else { bound(class) };
        (from, (class < LIFETIMES as u32 - 1).then(|| bound(class + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptrace_common::statistics::lifetime_class;

    #[test]
    fn ranges_are_those_that_the_classes_are_made_by() {
        for class in 0..LIFETIMES {
            let (from, below) = Statistics::lifetime_range(class);
            assert_eq!(lifetime_class(from) as usize, class);
            if let Some(below) = below {
                assert_eq!(lifetime_class(below - 1) as usize, class);
                assert_eq!(lifetime_class(below) as usize, class + 1);
            }
        }
    }
}
