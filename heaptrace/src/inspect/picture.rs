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
}

impl Picture {
    pub fn over(heaps: &[Range<u64>]) -> Self {
        let heaps: Vec<_> = heaps.iter().map(|heap| (heap.start, heap.end)).collect();
        let total =
            heaps.iter().fold(0u64, |sum, (start, end)| sum.saturating_add(end.saturating_sub(*start)));
        let cell_bytes = total.div_ceil(CELLS).next_multiple_of(16).max(SMALLEST_CELL);
        let cells = total.div_ceil(cell_bytes);
        Self { cell_bytes, used: vec![0; cells as usize], heaps }
    }

    /// Bytes that the cells lie over.
    pub fn total(&self) -> u64 {
        self.heaps.iter().map(|(start, end)| end.saturating_sub(*start)).sum()
    }

    pub fn add(&mut self, block: Block) {
        if block.state != State::InUse {
            return;
        }
        let mut before = 0u64;
        for (start, end) in &self.heaps {
            if (*start..*end).contains(&block.at) {
                before += block.at - start;
                self.mark(before, block.size.min(end - block.at));
                return;
            }
            before = before.saturating_add(end.saturating_sub(*start));
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
            *used += next - from;
            from = next;
        }
    }
}
