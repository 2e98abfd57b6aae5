//! How many bytes of each page of an arena are in use: with which pages are in memory, that tells blocks' share of them.

use super::layout::PAGE;
use std::ops::Range;

/// The most pages of all arenas of a process, 128 GiB, which take 64 MB here: what a process says of its heaps can be of any
/// size.
pub const MOST_PAGES: u64 = 32 << 20;

/// Used bytes by page, over an arena's heaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedPages {
    heaps: Vec<HeapPages>,
    /// How many more pages may be counted.
    pub left: u64,
    /// Whether blocks lie behind the last page that is counted.
    pub cut: bool,
}

/// Pages from the first on, up to the last with a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct HeapPages {
    first: u64,
    /// Pages that the heap has.
    count: u64,
    used: Vec<u16>,
}

impl UsedPages {
    /// Nothing used, over `heaps` in order of address, of which at most `most` pages are counted.
    pub fn over(heaps: &[Range<u64>], most: u64) -> Self {
        let pages = heaps.iter().map(|heap| {
            let first = heap.start / PAGE;
            HeapPages { first, count: heap.end.div_ceil(PAGE).saturating_sub(first), used: Vec::new() }
        });
        Self { heaps: pages.collect(), left: most, cut: false }
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
        let pages = self.heaps.iter().flat_map(|heap| (heap.first..).zip(&heap.used));
        pages
            .filter(|(page, used)| **used > 0 && resident(page * PAGE))
            .map(|(_, used)| u64::from(*used))
            .sum()
    }

    fn each(&mut self, at: u64, size: u64, change: impl Fn(u16, u16) -> u16) {
        let behind = self.heaps.partition_point(|heap| heap.first <= at / PAGE);
        let Some(heap) = behind.checked_sub(1).and_then(|index| self.heaps.get_mut(index)) else { return };
        let end = at.saturating_add(size);
        let mut from = at;
        while from < end {
            let next = end.min((from / PAGE + 1).saturating_mul(PAGE));
            let page = from / PAGE - heap.first;
            if page >= heap.count {
                // Beyond the heap as it was when reading began.
                return;
            }
            let more = (page + 1).saturating_sub(heap.used.len() as u64);
            let Some(left) = self.left.checked_sub(more) else {
                self.cut = true;
                return;
            };
            self.left = left;
            let page = page as usize;
            if more > 0 {
                heap.used.resize(page + 1, 0);
            }
            heap.used[page] = change(heap.used[page], (next - from) as u16);
            from = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_on_each_page_that_it_lies_on() {
        let mut used = UsedPages::over(&[0x10000..0x13000, 0x40000..0x41000], MOST_PAGES);
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

    #[test]
    fn heaps_of_impossible_sizes_take_no_memory_for_their_pages() {
        let mut used = UsedPages::over(&[0x10000..0x40000, 0x50000..u64::MAX], 4);
        used.add(0x10000, 64);
        assert_eq!((used.resident(|_| true), used.left, used.cut), (64, 3, false));
        used.add(0x50000 + PAGE, 64);
        assert_eq!((used.resident(|_| true), used.left, used.cut), (128, 1, false));
        used.add(0x50000 + 3 * PAGE, 64);
        assert_eq!((used.resident(|_| true), used.left, used.cut), (128, 1, true));
    }
}
