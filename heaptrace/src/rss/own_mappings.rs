//! Finds the blocks to which glibc gave a mapping of their own: only their number and sum are in malloc's state, so
//! they are known by their headers.

use super::pages::Pages;
use crate::{allocators::memory::Memory, model::Extent, process::pagemap::PAGE};
use std::ops::Range;

/// `IS_MMAPPED` in a block's size word, the only flag that such a block has.
const IS_MMAPPED: u64 = 2;
const FLAGS: u64 = 7;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub count: u64,
    pub extent: Extent,
    /// Of it on huge pages that were set aside.
    pub hugetlb_bytes: u64,
}

/// Looks for `count` such blocks at the begins of pages in memory outside of `arenas` (in order of address), and at no
/// more than `most` pages. A mapping can hold several of them, and other memory beside: the kernel joins neighbours.
/// Pages that are not there are not read, which would make them so.
pub fn find(memory: &dyn Memory, pages: &Pages, arenas: &[Range<u64>], count: u64, mut most: u64) -> Found {
    let mut found = Found::default();
    // What else is large (a JIT's heap, a cache) comes last.
    let mut mappings: Vec<_> = pages.looked_up().collect();
    mappings.sort_by_key(|mapping| mapping.end - mapping.start);
    for mapping in mappings {
        let mut at = mapping.start;
        while at < mapping.end {
            if found.count >= count || most == 0 {
                return found;
            }
            let behind = arenas.partition_point(|arena| arena.end <= at);
            if let Some(arena) = arenas.get(behind).filter(|arena| arena.start <= at) {
                at = arena.end.next_multiple_of(PAGE);
                continue;
            }
            let size = if pages.holds(at) {
                most -= 1;
                size_at(memory, at).filter(|size| *size <= mapping.end - at)
            } else {
                None
            };
            if let Some(size) = size {
                found.count += 1;
                found.extent.add(pages.extent(at..at + size));
                found.hugetlb_bytes += pages.hugetlb(at..at + size);
            }
            at += size.unwrap_or(PAGE);
        }
    }
    found
}

/// The size of the block at the page `at`, if its first words are those of a mapped block.
fn size_at(memory: &dyn Memory, at: u64) -> Option<u64> {
    let mut header = [0; 16];
    memory.read(at, &mut header).ok()?;
    let [before, size] =
        [0, 8].map(|at| header[at..].first_chunk::<8>().map_or(0, |word| u64::from_ne_bytes(*word)));
    // Nothing lies before it in its mapping, but for blocks of large alignments, which are not found.
    let is_one = before == 0 && size & FLAGS == IS_MMAPPED && (size & !FLAGS).is_multiple_of(PAGE);
    is_one.then_some(size & !FLAGS).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, collections::BTreeMap, io};

    /// Headers by address; everything else is zeros. Counts reads.
    #[derive(Default)]
    struct Headers(BTreeMap<u64, [u64; 2]>, Cell<u64>);

    impl Memory for Headers {
        fn read(&self, address: u64, into: &mut [u8]) -> io::Result<()> {
            self.1.set(self.1.get() + 1);
            let words = self.0.get(&address).copied().unwrap_or_default();
            into.copy_from_slice(&[words[0].to_ne_bytes(), words[1].to_ne_bytes()].concat());
            Ok(())
        }
    }

    const START: u64 = 0x10_0000;

    #[test]
    fn blocks_in_a_row_and_behind_other_memory_are_found_and_untouched_pages_are_not_read() {
        // Other memory, a block of four pages (two resident), one of two (one resident), an arena's page that looks like
        // one, other memory.
        let pages = Pages::of_bits(START..START + 10 * PAGE, 7 * PAGE, vec![0b11_1011_0011]);
        let mut memory = Headers::default();
        memory.0.insert(START, [0, 0x1234_5678]);
        memory.0.insert(START + PAGE, [0, 4 * PAGE + IS_MMAPPED]);
        memory.0.insert(START + 5 * PAGE, [0, 2 * PAGE + IS_MMAPPED]);
        memory.0.insert(START + 7 * PAGE, [0, PAGE + IS_MMAPPED]);
        memory.0.insert(START + 8 * PAGE, [16, PAGE + IS_MMAPPED]);
        let arena = START + 7 * PAGE..START + 8 * PAGE;
        let found = find(&memory, &pages, std::slice::from_ref(&arena), 9, 100);
        let resident = pages.resident(START + PAGE..START + 7 * PAGE).0;
        assert_eq!((found.count, found.extent.virtual_bytes), (2, 6 * PAGE));
        assert_eq!(found.extent.resident_bytes, resident);
        assert_eq!(memory.1.get(), 5, "pages 0, 1, 5, 8 and 9");
    }

    #[test]
    fn blocks_on_huge_pages_that_were_set_aside_are_found() {
        let huge = 512 * PAGE;
        let pages = Pages::of_huge_bits(START..START + 3 * huge, huge, vec![u64::MAX; 8]);
        let mut memory = Headers::default();
        memory.0.insert(START, [0, 3 * huge + IS_MMAPPED]);
        let extent = Extent { virtual_bytes: 3 * huge, resident_bytes: 0 };
        assert_eq!(find(&memory, &pages, &[], 1, 100), Found { count: 1, extent, hugetlb_bytes: huge });
    }

    #[test]
    fn the_search_ends_when_all_are_found_or_too_much_was_read() {
        let pages = Pages::of_bits(START..START + 64 * PAGE, 64 * PAGE, vec![u64::MAX]);
        let mut memory = Headers::default();
        memory.0.insert(START, [0, PAGE + IS_MMAPPED]);
        assert_eq!(find(&memory, &pages, &[], 1, 100).count, 1);
        assert_eq!(memory.1.take(), 1);
        assert_eq!(find(&memory, &pages, &[], 2, 10).count, 1);
        assert_eq!(memory.1.take(), 10);
    }

    #[test]
    fn a_block_that_reaches_beyond_its_mapping_is_none() {
        let pages = Pages::of_bits(START..START + 2 * PAGE, 2 * PAGE, vec![0b11]);
        let mut memory = Headers::default();
        memory.0.insert(START, [0, 3 * PAGE + IS_MMAPPED]);
        assert_eq!(find(&memory, &pages, &[], 1, 100), Found::default());
    }
}
