//! Which live blocks are over although no free was seen: those whose memory was unmapped, and those that a newer block
//! lies over. Pure. What cannot be told from a block that lives on stays alive.

use crate::process::maps::Mapping;
use heaptrace_common::live::{LiveBlock, LiveKey, TIME_UNIT_NS};
use std::{collections::VecDeque, ops::Range};

/// A block that is unmapped now must be older than this to be taken for the one that was unmapped before: whoever frees
/// and allocates in a loop gets one address again and again, from one site, of one size. Block times lag by a tick, 10 ms at
/// most, and by as long as a virtual machine's processor that keeps the time is held up.
const SURE_NS: u64 = 100_000_000;

/// A block that seems older than another by less than this may be the newer one: a block's time is that of the last tick, and
/// of two CPUs' readings of one tick the earlier can be stored last.
const SURELY_OLDER_NS: u64 = 10_000_000 + TIME_UNIT_NS;

/// Addresses from here on are in no program's memory as mappings tell it: tagged pointers. Linear addresses have 57 bits with
/// five-level page tables, half of which are the kernel's (Documentation/arch/x86/x86_64/5level-paging.rst).
const USER_END: u64 = 1 << 56;

/// The memory that a process has mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped(Vec<Range<u64>>);

impl Mapped {
    /// Of mappings in any order.
    pub fn new(mappings: &[Mapping]) -> Self {
        Self::of(mappings.iter().map(|mapping| mapping.start..mapping.end).collect())
    }

    fn of(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        Self(joined)
    }

    /// Whether nothing of the block is mapped. A block of size 0 has a byte, whose address its program knows.
    pub fn lacks(&self, address: u64, size: u64) -> bool {
        let end = address.saturating_add(size.max(1));
        let after = self.0.partition_point(|range| range.end <= address);
        end <= USER_END && self.0.get(after).is_none_or(|range| range.start >= end)
    }
}

/// Whether a block that is in no mapping read since `now_ns` may be told from one that has its address later.
pub fn is_old_enough(block: &LiveBlock, now_ns: u64) -> bool {
    !block.is_held() && block.time_ns.saturating_add(SURE_NS) < now_ns
}

/// Of `blocks`, which are in order of process and address, those (by index) whose beginning lies in a newer block of
/// their process that begins before them and that `may_end` others.
///
/// What begins inside of an older block may be part of it: an allocator can take its chunks from another one's blocks, and a
/// chunk can be larger than the block that was asked for. So it ends nothing.
pub fn overlaid(
    blocks: impl Iterator<Item = (LiveKey, LiveBlock)>,
    mut may_end: impl FnMut(&LiveBlock) -> bool,
) -> Vec<usize> {
    let mut over = Vec::new();
    let mut covering = Covering::default();
    let mut process = None;
    for (index, (key, block)) in blocks.enumerate() {
        if process != Some(key.process) {
            process = Some(key.process);
            covering.0.clear();
        }
        let newest = covering.newest_at(key.address);
        if newest.is_some_and(|newest| block.time_ns.saturating_add(SURELY_OLDER_NS) <= newest) {
            over.push(index);
        }
        if !block.is_held() && may_end(&block) {
            covering.add(key.address.saturating_add(block.size), block.time_ns);
        }
    }
    over
}

/// Ends and times of the blocks that may lie over what follows: ends rise and times fall, as a block that ends no later than
/// a newer one tells nothing. Where nothing overlaps there is one.
#[derive(Default)]
struct Covering(VecDeque<(u64, u64)>);

impl Covering {
    fn newest_at(&mut self, address: u64) -> Option<u64> {
        while self.0.front().is_some_and(|(end, _)| *end <= address) {
            self.0.pop_front();
        }
        self.0.front().map(|(_, time)| *time)
    }

    fn add(&mut self, end: u64, time: u64) {
        let at = self.0.partition_point(|(other, _)| *other < end);
        if self.0.get(at).is_some_and(|(_, other)| *other >= time) {
            return;
        }
        if self.0.get(at).is_some_and(|(other, _)| *other == end) {
            self.0.remove(at);
        }
        self.0.insert(at, (end, time));
        let kept = self.0.iter().take(at).take_while(|(_, other)| *other > time).count();
        self.0.drain(kept..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;

    /// Time in units that tell which of two blocks is older.
    fn block(process: u32, address: u64, size: u64, time: u64, site: u32) -> (LiveKey, LiveBlock) {
        let block = LiveBlock { size, time_ns: time * SURELY_OLDER_NS, site, marks: 0 };
        (LiveKey { address, process, _pad: 0 }, block)
    }

    fn ended(blocks: &[(LiveKey, LiveBlock)]) -> Vec<usize> {
        overlaid(blocks.iter().copied(), |_| true)
    }

    #[test]
    fn a_block_lacks_memory_only_if_no_byte_of_it_is_mapped() {
        let mapped = Mapped::of(vec![0x5000..0x6000, 0x1000..0x2000, 0x2000..0x3000, 0x1800..0x1900]);
        assert_eq!(mapped.0, [0x1000..0x3000, 0x5000..0x6000]);
        for (address, size, lacks) in [
            (0x0, 0x1000, true),
            (0x0, 0x1001, false),
            (0x1fff, 2, false),
            (0x2fff, 0x1000, false),
            (0x3000, 0x2000, true),
            (0x3000, 0x2001, false),
            (0x3000, 0, true),
            (0x2fff, 0, false),
            (0x5000, 0, false),
            (0x800, 0x9000, false),
            (0x6000, u64::MAX, false),
        ] {
            assert_eq!(mapped.lacks(address, size), lacks, "{address:#x} {size:#x}");
        }
    }

    #[test]
    fn a_tagged_address_says_nothing_about_memory() {
        assert!(Mapped::default().lacks(USER_END - PAGE, PAGE));
        assert!(!Mapped::default().lacks(USER_END, 16));
        assert!(!Mapped::default().lacks(0x3f00_7fff_1234_5670, 16));
    }

    #[test]
    fn what_is_young_or_resized_is_left_alone() {
        let old = LiveBlock { size: 1, time_ns: 5, site: 0, marks: 0 };
        assert!(is_old_enough(&old, SURE_NS + 6));
        assert!(!is_old_enough(&old, SURE_NS + 5));
        assert!(!is_old_enough(&LiveBlock { marks: LiveBlock::HELD, ..old }, u64::MAX));
    }

    #[test]
    fn the_older_of_two_is_over_where_the_newer_begins_before_it() {
        assert_eq!(ended(&[block(0, 0x1000, 0x100, 5, 0), block(0, 0x1080, 0x100, 3, 0)]), [1]);
        assert_eq!(ended(&[block(0, 0x1000, 0x1000, 5, 0), block(0, 0x1080, 8, 3, 0)]), [1]);
        // One of size 0 too, but it lies over nothing.
        assert_eq!(ended(&[block(0, 0x1000, 0x100, 5, 0), block(0, 0x1010, 0, 3, 0)]), [1]);
        assert_eq!(ended(&[block(0, 0x1000, 0, 5, 0), block(0, 0x1000, 8, 3, 0)]), [0; 0]);
    }

    #[test]
    fn parts_of_a_block_end_nothing() {
        assert_eq!(ended(&[block(0, 0x1000, 0x1000, 3, 0), block(0, 0x1080, 0x100, 5, 0)]), [0; 0]);
        // Beyond its end, too: it may be larger than what was asked for.
        assert_eq!(ended(&[block(0, 0x1000, 0x100, 3, 0), block(0, 0x1080, 0x100, 5, 0)]), [0; 0]);
    }

    #[test]
    fn neighbours_other_processes_and_blocks_of_one_moment_end_nothing() {
        assert_eq!(ended(&[block(0, 0x1000, 0x100, 5, 0), block(0, 0x1100, 0x100, 3, 0)]), [0; 0]);
        assert_eq!(ended(&[block(0, 0x1000, 0x100, 5, 0), block(1, 0x1080, 0x100, 3, 0)]), [0; 0]);
        assert_eq!(ended(&[block(0, 0x1000, 0x100, 3, 0), block(0, 0x1080, 0x100, 3, 0)]), [0; 0]);
    }

    #[test]
    fn what_may_end_nothing_does_not() {
        let mut blocks = [block(0, 0x1000, 0x100, 5, 7), block(0, 0x1080, 0x100, 3, 0)];
        assert_eq!(overlaid(blocks.iter().copied(), |block| block.site != 7), [0; 0]);
        blocks[0].1.marks = LiveBlock::HELD;
        assert_eq!(ended(&blocks), [0; 0]);
    }

    /// The definition, pair by pair.
    fn slowly(blocks: &[(LiveKey, LiveBlock)]) -> Vec<usize> {
        let covers = |(newer, n): &(LiveKey, LiveBlock), (older, o): &(LiveKey, LiveBlock)| {
            newer.process == older.process
                && newer.address < older.address
                && older.address < newer.address + n.size
                && o.time_ns + SURELY_OLDER_NS <= n.time_ns
                && n.site != 0
        };
        (0..blocks.len()).filter(|at| blocks.iter().any(|newer| covers(newer, &blocks[*at]))).collect()
    }

    proptest! {
        #[test]
        fn sweeping_finds_what_comparing_all_pairs_finds(
            blocks in proptest::collection::btree_map(
                (0_u32..2, 0_u64..60), (0_u64..20, 0_u64..6, 0_u32..3), 0..40
            )
        ) {
            let blocks: Vec<_> = blocks
                .into_iter()
                .map(|((process, address), (size, time, site))| block(process, address, size, time, site))
                .collect();
            prop_assert_eq!(overlaid(blocks.iter().copied(), |block| block.site != 0), slowly(&blocks));
        }

        /// Blocks of an allocator that works, one that keeps to the frees it sees, overlap with nothing but what they are
        /// parts of, whatever the times are told as: none is ever over.
        #[test]
        fn disjoint_and_nested_blocks_live_on(
            sizes in proptest::collection::vec((1_u64..50, 0_u64..50, any::<bool>()), 0..30)
        ) {
            let mut at = 0x1000;
            let mut blocks = Vec::new();
            for (size, time, parts) in sizes {
                blocks.push(block(0, at, size, time, 1));
                if parts && size > 2 {
                    blocks.push(block(0, at + 1, 1, time + 1, 1));
                    blocks.push(block(0, at + 2, size, time + 2, 1));
                    at += 2;
                }
                at += size;
            }
            prop_assert_eq!(ended(&blocks), Vec::<usize>::new());
        }

        #[test]
        fn lacking_is_what_looking_at_every_byte_says(
            ranges in proptest::collection::vec((0_u64..60, 1_u64..9), 0..6), address in 0_u64..70, size in 0_u64..20
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| start..start + length).collect();
            let any = (address..address + size.max(1)).any(|byte| ranges.iter().any(|range| range.contains(&byte)));
            prop_assert_eq!(Mapped::of(ranges).lacks(address, size), !any);
        }
    }
}
