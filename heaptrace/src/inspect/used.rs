//! How many bytes of each page of an arena are in use: with which pages are in memory, that tells blocks' share of them.

use std::ops::Range;

/// The page of x86_64.
const PAGE: u64 = 4096;

/// Used bytes by page, over an arena's heaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedPages(Vec<HeapPages>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct HeapPages {
    first: u64,
    used: Vec<u16>,
}

impl UsedPages {
    /// Nothing used, over `heaps` in order of address.
    pub fn over(heaps: &[Range<u64>]) -> Self {
        let pages = heaps.iter().map(|heap| {
            let first = heap.start / PAGE;
            let count = heap.end.div_ceil(PAGE).saturating_sub(first);
            HeapPages { first, used: vec![0; usize::try_from(count).unwrap_or(0)] }
        });
        Self(pages.collect())
    }

    /// A block at `at` is in use.
    pub fn add(&mut self, at: u64, size: u64) {
        self.each(at, size, |used, bytes| used.saturating_add(bytes));
    }

    /// It is not, after all.
    pub fn remove(&mut self, at: u64, size: u64) {
        self.each(at, size, |used, bytes| used.saturating_sub(bytes));
    }

    /// The bytes in use on pages for which `resident` holds, given a page's address.
    pub fn resident(&self, resident: impl Fn(u64) -> bool) -> u64 {
        let pages = self.0.iter().flat_map(|heap| (heap.first..).zip(&heap.used));
        pages
            .filter(|(page, used)| **used > 0 && resident(page * PAGE))
            .map(|(_, used)| u64::from(*used))
            .sum()
    }

    fn each(&mut self, at: u64, size: u64, change: impl Fn(u16, u16) -> u16) {
        let behind = self.0.partition_point(|heap| heap.first <= at / PAGE);
        let Some(heap) = behind.checked_sub(1).and_then(|index| self.0.get_mut(index)) else { return };
        let end = at.saturating_add(size);
        let mut from = at;
        while from < end {
            let next = end.min((from / PAGE + 1).saturating_mul(PAGE));
            // Beyond the heap as it was when reading began.
            let Some(used) =
                usize::try_from(from / PAGE - heap.first).ok().and_then(|i| heap.used.get_mut(i))
            else {
                return;
            };
            *used = change(*used, (next - from) as u16);
            from = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_on_each_page_that_it_lies_on() {
        let mut used = UsedPages::over(&[0x10000..0x13000, 0x40000..0x41000]);
        used.add(0x10ff0, 0x1020);
        used.add(0x40000, 0x1000);
        // Outside of all heaps, and beyond one's end.
        used.add(0x1000, 64);
        used.add(0x13000, 64);
        assert_eq!(used.resident(|_| true), 0x2020);
        assert_eq!(used.resident(|page| page == 0x10000), 0x10);
        assert_eq!(used.resident(|page| page == 0x11000), 0x1000);
        used.remove(0x10ff0, 0x1020);
        assert_eq!(used.resident(|page| page < 0x40000), 0);
    }
}
