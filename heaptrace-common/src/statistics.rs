//! What `stat` has counted beside the totals.

/// Room for functions, by their number. A power of two, so that the BPF side can mask an index.
pub const FUNCTION_SLOTS: usize = 32;

/// Room for classes of lifetime; a power of two for the same reason. [`LIFETIMES`] of them are used.
pub const LIFETIME_SLOTS: usize = 16;

/// Classes of lifetime: decades. Class 0 is below a microsecond, class k below 10^k microseconds, the last one is
/// everything longer (1,000 s and more).
pub const LIFETIMES: usize = 11;

/// The class of a block that lived for `ns`.
pub const fn lifetime_class(ns: u64) -> u32 {
    let mut class = 0;
    let mut bound = 1_000;
    // Most blocks live shortly: few rounds.
    while class < LIFETIMES as u32 - 1 && ns >= bound {
        class += 1;
        bound *= 10;
    }
    class
}

/// An element of `STATISTICS`, by process record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatisticsRecord {
    /// Freed blocks by class of lifetime.
    pub lifetimes: [u64; LIFETIME_SLOTS],
    /// Blocks freed, by the function that freed them; those that were not known to be live among them.
    pub frees: [u64; FUNCTION_SLOTS],
    /// Bytes of those that were known.
    pub free_bytes: [u64; FUNCTION_SLOTS],
    /// Calls that returned no memory, by function.
    pub failed: [u64; FUNCTION_SLOTS],
}

const _: () = {
    assert!(size_of::<StatisticsRecord>() == 8 * (LIFETIME_SLOTS + 3 * FUNCTION_SLOTS));
    assert!(crate::function::Function::ALL.len() <= FUNCTION_SLOTS && LIFETIMES <= LIFETIME_SLOTS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_classed_by_decades_of_microseconds() {
        let classes =
            [0, 999, 1_000, 9_999, 10_000, 1_000_000_000, 999_999_999_999, 1_000_000_000_000, u64::MAX]
                .map(lifetime_class);
        assert_eq!(classes, [0, 0, 1, 1, 2, 7, 9, 10, 10]);
    }
}
