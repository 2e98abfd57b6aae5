//! Ranges of code.

use std::ops::Range;

/// In order, those joined that lie no more than `between` bytes apart.
pub(super) fn merged(mut ranges: Vec<Range<u64>>, between: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(between) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}
