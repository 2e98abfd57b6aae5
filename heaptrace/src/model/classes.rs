//! Counts by class, as histograms have them. Trailing classes that are empty may be absent.

pub(super) fn add(sums: &mut Vec<u64>, more: &[u64]) {
    if sums.len() < more.len() {
        sums.resize(more.len(), 0);
    }
    for (sum, count) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*count);
    }
}

/// Takes away what there was before.
pub(super) fn subtract(counts: &mut [u64], had: &[u64]) {
    for (count, had) in counts.iter_mut().zip(had) {
        *count = count.saturating_sub(*had);
    }
}

pub(super) fn total(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}
