//! Free space of an array: ranges of elements, merged where they touch, except across a shard's end if asked.

use std::collections::BTreeMap;
use std::ops::Range;

/// Free ranges by start. Linear in the number of free ranges, which are few.
#[derive(Clone, Debug)]
pub(super) struct Space {
    free: BTreeMap<u32, u32>,
    /// No free range lies across a multiple of this.
    shard: u32,
}

impl Space {
    /// `count` free elements, in ranges that do not reach across multiples of `shard`.
    pub(super) fn new(count: u32, shard: u32) -> Self {
        let mut space = Self { free: BTreeMap::new(), shard };
        let mut at = 0;
        while at < count {
            let end = count.min(at.saturating_add(shard));
            space.free.insert(at, end);
            at = end;
        }
        space
    }

    /// Elements that are free.
    pub(super) fn free(&self) -> u64 {
        self.free.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// Takes `count` elements out of the first free range that has them.
    pub(super) fn take(&mut self, count: u32) -> Option<Range<u32>> {
        let (start, end) = self.free.iter().find(|(start, end)| *end - *start >= count)?;
        let (start, end) = (*start, *end);
        self.free.remove(&start);
        if start + count < end {
            self.free.insert(start + count, end);
        }
        Some(start..start + count)
    }

    /// Takes the first free range of `at_least` elements or more, whole, that begins at `from` or later.
    pub(super) fn take_range(&mut self, from: u32, at_least: u32) -> Option<Range<u32>> {
        let (start, end) = self.free.range(from..).find(|(start, end)| *end - *start >= at_least)?;
        let range = *start..*end;
        self.free.remove(&range.start);
        Some(range)
    }

    /// Gives elements back.
    pub(super) fn give(&mut self, range: Range<u32>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if !start.is_multiple_of(self.shard)
            && let Some((before, before_end)) = self.free.range(..start).next_back()
            && *before_end == start
        {
            start = *before;
            self.free.remove(&start);
        }
        if !end.is_multiple_of(self.shard)
            && let Some(after_end) = self.free.remove(&end)
        {
            end = after_end;
        }
        self.free.insert(start, end);
    }
}
