//! What lies where in an arena, in cells of one size each over its heaps, one heap behind the other.

use serde::Serialize;
use std::ops::Range;

/// How many cells at most: eight lines of the SVG, and twice what the text shows.
const CELLS: u64 = 512;

/// Cells are whole pages, so that a small heap makes a line or two.
const PAGE: u64 = 4096;

/// What a piece of a heap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A block in use by its neighbour's word, so that parked ones are among them.
    Used,
    /// A free block in a thread's cache or a fastbin: used, too.
    Parked,
    /// A free block in a bin.
    Free,
    Top,
}

/// Bytes of each part in each cell. What is of no part is headers, or was not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Picture {
    pub cell_bytes: u64,
    /// The last cell can be shorter than the others.
    pub used: Vec<u64>,
    /// The heaps that the cells lie over, as addresses of their begin and end.
    pub heaps: Vec<(u64, u64)>,
    #[serde(skip)]
    pub parked: Vec<u64>,
    #[serde(skip)]
    pub free: Vec<u64>,
    #[serde(skip)]
    pub top: Vec<u64>,
    /// Bytes of the heaps before each.
    #[serde(skip)]
    before: Vec<u64>,
}

impl Picture {
    pub fn over(heaps: &[Range<u64>]) -> Self {
        let heaps: Vec<_> = heaps.iter().map(|heap| (heap.start, heap.end)).collect();
        let total =
            heaps.iter().fold(0u64, |sum, (start, end)| sum.saturating_add(end.saturating_sub(*start)));
        let cell_bytes = total.div_ceil(CELLS).next_multiple_of(PAGE).max(PAGE);
        let mut sum = 0u64;
        let before = heaps.iter().map(|(start, end)| {
            let before = sum;
            sum = sum.saturating_add(end.saturating_sub(*start));
            before
        });
        let before = before.collect();
        let none = vec![0; total.div_ceil(cell_bytes) as usize];
        Self {
            cell_bytes,
            used: none.clone(),
            heaps,
            parked: none.clone(),
            free: none.clone(),
            top: none,
            before,
        }
    }

    /// Bytes that the cells lie over.
    pub fn total(&self) -> u64 {
        self.heaps.iter().fold(0, |sum: u64, (start, end)| sum.saturating_add(end.saturating_sub(*start)))
    }

    /// Draws what lies from address `at` on, for `size` bytes.
    pub fn add(&mut self, part: Part, at: u64, size: u64) {
        let behind = self.heaps.partition_point(|(start, _)| *start <= at);
        let Some(index) = behind.checked_sub(1) else { return };
        let ((start, end), before) = (self.heaps[index], self.before[index]);
        // Not so where the top has moved beyond what the picture is of.
        if at < end {
            self.mark(part, before.saturating_add(at - start), size.min(end - at));
        }
    }

    fn mark(&mut self, part: Part, mut from: u64, size: u64) {
        let cells = match part {
            Part::Used => &mut self.used,
            Part::Parked => &mut self.parked,
            Part::Free => &mut self.free,
            Part::Top => &mut self.top,
        };
        let end = from.saturating_add(size);
        while from < end {
            let cell = from / self.cell_bytes;
            let next = end.min((cell + 1).saturating_mul(self.cell_bytes));
            let Some(bytes) = usize::try_from(cell).ok().and_then(|cell| cells.get_mut(cell)) else {
                return;
            };
            *bytes = bytes.saturating_add(next - from);
            from = next;
        }
    }

    /// The addresses behind `range`, which counts bytes over all heaps; more than one range where heaps meet.
    pub fn addresses(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let heaps = self.heaps.iter().zip(&self.before).filter_map(|((start, end), before)| {
            let from = range.start.max(*before) - before;
            let to = range.end.saturating_sub(*before).min(end - start);
            (from < to).then(|| start + from..start + to)
        });
        heaps.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_lie_over_one_heap_behind_the_other() {
        let mut picture = Picture::over(&[0x1_0000..0x1_1800, 0x8_0000..0x8_2000]);
        assert_eq!((picture.cell_bytes, picture.total(), picture.used.len()), (0x1000, 0x3800, 4));
        picture.add(Part::Used, 0x1_0000, 0x1100);
        picture.add(Part::Free, 0x1_1100, 0x700);
        picture.add(Part::Used, 0x8_0000, 0x900);
        picture.add(Part::Top, 0x8_0900, 0x1700);
        // Beyond its heap, and before all.
        picture.add(Part::Used, 0x1_1800, 0x10);
        picture.add(Part::Used, 0x100, 0x10);
        assert_eq!(picture.used, [0x1000, 0x900, 0x100, 0]);
        assert_eq!(picture.free, [0, 0x700, 0, 0]);
        assert_eq!(picture.top, [0, 0, 0xf00, 0x800]);
        assert_eq!(picture.addresses(0x1000..0x2000), [0x1_1000..0x1_1800, 0x8_0000..0x8_0800]);
        assert_eq!(picture.addresses(0x1400..0x3800), [0x1_1400..0x1_1800, 0x8_0000..0x8_2000]);
    }
}
