//! Which addresses are mapped, and as what.

use std::collections::BTreeMap;

/// What a mapping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Below the program break.
    Heap,
    Anonymous,
    File,
    /// The first thread's, or one that was mapped to be a stack.
    Stack,
    /// Of huge pages that were asked for (MAP_HUGETLB).
    HugePages,
}

impl Kind {
    /// As the JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Anonymous => "anonymous",
            Self::File => "file",
            Self::Stack => "stack",
            Self::HugePages => "hugepages",
        }
    }
}

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed<T = Kind> {
    pub bytes: u64,
    /// That of the largest part, the first of equal ones; `None` if nothing was there.
    pub kind: Option<T>,
}

impl<T> Default for Removed<T> {
    fn default() -> Self {
        Self { bytes: 0, kind: None }
    }
}

/// Ranges that do not overlap, by address, each of a kind. Neighbours are not joined, but by [`Self::put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intervals<T = Kind> {
    /// Start -> (first address past it, kind).
    ranges: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { ranges: BTreeMap::new() }
    }
}

impl<T: Copy + PartialEq> Intervals<T> {
    /// Bytes that are mapped.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|(start, (end, _))| end - start).sum()
    }

    /// How many ranges there are.
    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    /// The mapped parts of a range, in order.
    pub fn parts(&self, start: u64, end: u64) -> Vec<(u64, u64, T)> {
        let before = self.ranges.range(..start).next_back();
        let within = self.ranges.range(start..end.max(start));
        before
            .into_iter()
            .chain(within)
            .map(|(&from, &(to, kind))| (from.max(start), to.min(end), kind))
            .filter(|(from, to, _)| from < to)
            .collect()
    }

    /// Takes a range away, as far as it is mapped.
    pub fn remove(&mut self, start: u64, end: u64) -> Removed<T> {
        let parts = self.parts(start, end);
        let Some(&(first, _, _)) = parts.first() else { return Removed::default() };
        // Only the first can begin before the range, and only the last can end after it.
        if let Some((&from, &(to, kind))) = self.ranges.range(..=first).next_back() {
            self.ranges.remove(&from);
            if from < start {
                self.ranges.insert(from, (start, kind));
            }
            if to > end {
                self.ranges.insert(end, (to, kind));
            }
        }
        for &(from, to, kind) in parts.iter().skip(1) {
            if let Some((whole_to, _)) = self.ranges.remove(&from)
                && whole_to > to
            {
                self.ranges.insert(to, (whole_to, kind));
            }
        }
        let mut removed = Removed::default();
        let mut largest = 0;
        for (from, to, kind) in parts {
            removed.bytes += to - from;
            let of_kind = to - from;
            if of_kind > largest {
                (largest, removed.kind) = (of_kind, Some(kind));
            }
        }
        removed
    }

    /// Maps a range in place of whatever was there, which is given back.
    pub fn insert(&mut self, start: u64, end: u64, kind: T) -> Removed<T> {
        let removed = self.remove(start, end);
        if start < end {
            self.ranges.insert(start, (end, kind));
        }
        removed
    }

    /// The same of a small range among very many, which is joined to neighbours of its kind.
    pub fn put(&mut self, start: u64, end: u64, kind: T) {
        if start >= end {
            return;
        }
        let after = self.ranges.range(start..).next().map(|(&from, &(to, of))| (from, to, of));
        let before = self.ranges.range_mut(..start).next_back();
        let covers = before.as_ref().is_some_and(|(_, (to, _))| *to > start);
        if covers || after.is_some_and(|(from, ..)| from < end) {
            self.remove(start, end);
            return self.put(start, end, kind);
        }
        let joined = after.filter(|(from, _, of)| *from == end && *of == kind);
        let until = joined.map_or(end, |(_, to, _)| to);
        match before {
            Some((_, (to, of))) if *to == start && *of == kind => *to = until,
            _ => _ = self.ranges.insert(start, (until, kind)),
        }
        if joined.is_some() {
            self.ranges.remove(&end);
        }
    }

    /// All ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, T)> + '_ {
        self.ranges.iter().map(|(&start, &(end, kind))| (start, end, kind))
    }

    /// Maps what of a range is not mapped yet.
    pub fn fill(&mut self, start: u64, end: u64, kind: T) {
        let mut at = start;
        for (from, to, _) in self.parts(start, end) {
            if at < from {
                self.ranges.insert(at, (from, kind));
            }
            at = to;
        }
        if at < end {
            self.ranges.insert(at, (end, kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGES: usize = 48;
    const KINDS: [Kind; 5] = [Kind::Heap, Kind::Anonymous, Kind::File, Kind::Stack, Kind::HugePages];

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert,
        Put,
        Remove,
        Fill,
    }

    fn step() -> impl Strategy<Value = (Step, usize, usize, usize)> {
        let which = prop_oneof![Just(Step::Insert), Just(Step::Put), Just(Step::Remove), Just(Step::Fill)];
        (which, 0..PAGES, 0..PAGES, 0..KINDS.len())
            .prop_map(|(which, a, b, kind)| (which, a.min(b), a.max(b), kind))
    }

    proptest! {
        /// Against an array of pages, which cannot be wrong in these ways.
        #[test]
        fn any_steps_leave_what_a_table_of_pages_has(steps in prop::collection::vec(step(), 0..40)) {
            let mut intervals = Intervals::default();
            let mut pages: [Option<Kind>; PAGES] = [None; PAGES];
            for (which, start, end, kind) in steps {
                let kind = KINDS[kind];
                let were = pages[start..end].iter().flatten().count() as u64;
                let (from, to) = (start as u64, end as u64);
                match which {
                    Step::Insert => {
                        prop_assert_eq!(intervals.insert(from, to, kind).bytes, were);
                        pages[start..end].fill(Some(kind));
                    }
                    Step::Put => {
                        intervals.put(from, to, kind);
                        pages[start..end].fill(Some(kind));
                        let joined = |at: u64| intervals.iter().all(|range| range.0 != at || range.2 != kind);
                        prop_assert!(start == end || joined(to));
                    }
                    Step::Remove => {
                        let removed = intervals.remove(from, to);
                        prop_assert_eq!(removed.bytes, were);
                        prop_assert_eq!(removed.kind.is_some(), were > 0);
                        prop_assert!(removed.kind.is_none_or(|kind| pages[start..end].contains(&Some(kind))));
                        pages[start..end].fill(None);
                    }
                    Step::Fill => {
                        intervals.fill(from, to, kind);
                        pages[start..end].iter_mut().for_each(|page| *page = page.or(Some(kind)));
                    }
                }
                prop_assert_eq!(intervals.bytes(), pages.iter().flatten().count() as u64);
                for (page, kind) in pages.iter().enumerate() {
                    let parts = intervals.parts(page as u64, page as u64 + 1);
                    prop_assert_eq!(parts.first().map(|part| part.2), *kind, "page {}", page);
                }
            }
        }
    }

    #[test]
    fn what_is_taken_has_the_kind_of_its_largest_part() {
        let mut intervals = Intervals::default();
        intervals.insert(0, 3, Kind::File);
        intervals.insert(3, 10, Kind::Anonymous);
        assert_eq!(intervals.remove(1, 6), Removed { bytes: 5, kind: Some(Kind::Anonymous) });
        assert_eq!(intervals.parts(0, 10), [(0, 1, Kind::File), (6, 10, Kind::Anonymous)]);
        assert_eq!(intervals.remove(2, 6), Removed::default());
    }
}
