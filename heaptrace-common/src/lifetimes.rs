//! How long the freed blocks of a site lived, in classes. Times are known to a tick of the kernel's clock and the live table's
//! unit, together 12 ms at most, so that there are none shorter.

/// Classes, and so many words of a site. A power of two, so that the BPF side can mask an index.
pub const CLASSES: usize = 8;

/// Where each class but the last ends, in nanoseconds: 20 ms, 100 ms, 1 s, 10 s, and so on.
pub const ENDS_NS: [u64; CLASSES - 1] = [
    20_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    100_000_000_000,
    1_000_000_000_000,
    10_000_000_000_000,
];

/// An element of `LIFETIMES`, by the number of its site.
pub type Lifetimes = [u64; CLASSES];

/// The class of a block that lived for `ns`.
#[inline(always)]
pub const fn class(ns: u64) -> u64 {
    let mut class = 0;
    // Most blocks live shortly: few rounds.
    while class < CLASSES - 1 && ns >= ENDS_NS[class] {
        class += 1;
    }
    class as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_ends_where_the_next_begins() {
        assert_eq!(class(0), 0);
        for (at, end) in ENDS_NS.into_iter().enumerate() {
            assert_eq!((class(end - 1), class(end)), (at as u64, at as u64 + 1));
        }
        assert_eq!(class(u64::MAX), CLASSES as u64 - 1);
    }
}
