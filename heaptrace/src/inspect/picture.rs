//! How densely an arena is used, in cells of one size each over its heaps, one heap behind the other.

use super::chunks::{Block, State};
use serde::Serialize;
use std::ops::Range;

/// How many cells: four lines of a terminal.
const CELLS: u64 = 256;

/// The smallest cell: two pages, so that a small heap makes one line or two.
const SMALLEST_CELL: u64 = 4096;

/// Used bytes of each cell. The rest of a cell is free or top.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Picture {
    pub cell_bytes: u64,
    /// The last cell can be shorter than the others.
    pub used: Vec<u64>,
    /// The heaps that the cells lie over, as addresses of their begin and end.
    pub heaps: Vec<(u64, u64)>,
    /// Bytes of the heaps before each.
    #[serde(skip)]
    before: Vec<u64>,
}

impl Picture {
    pub fn over(heaps: &[Range<u64>]) -> Self {
        let heaps: Vec<_> = heaps.iter().map(|heap| (heap.start, heap.end)).collect();
        let total =
            heaps.iter().fold(0u64, |sum, (start, end)| sum.saturating_add(end.saturating_sub(*start)));
        let cell_bytes = total.div_ceil(CELLS).next_multiple_of(16).max(SMALLEST_CELL);
        let cells = total.div_ceil(cell_bytes);
        let mut sum = 0u64;
        let before = heaps.iter().map(|(start, end)| {
            let before = sum;
            sum = sum.saturating_add(end.saturating_sub(*start));
            before
        });
        let before = before.collect();
        Self { cell_bytes, used: vec![0; cells as usize], heaps, before }
    }

    /// Bytes that the cells lie over.
    pub fn total(&self) -> u64 {
        self.heaps.iter().fold(0, |sum: u64, (start, end)| sum.saturating_add(end.saturating_sub(*start)))
    }

    pub fn add(&mut self, block: Block) {
        if block.state != State::InUse {
            return;
        }
        let behind = self.heaps.partition_point(|(start, _)| *start <= block.at);
        let Some(index) = behind.checked_sub(1) else { return };
        let ((start, end), before) = (self.heaps[index], self.before[index]);
        // Not so where the top has moved beyond what the picture is of.
        if block.at < end {
            self.mark(before.saturating_add(block.at - start), block.size.min(end - block.at));
        }
    }

    fn mark(&mut self, mut from: u64, size: u64) {
        let end = from.saturating_add(size);
        while from < end {
            let cell = from / self.cell_bytes;
            let next = end.min((cell + 1).saturating_mul(self.cell_bytes));
            let Some(used) = usize::try_from(cell).ok().and_then(|cell| self.used.get_mut(cell)) else {
                return;
            };
            *used = used.saturating_add(next - from);
            from = next;
        }
    }
}
