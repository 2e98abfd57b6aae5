//! The lists that free blocks are kept in: fastbins, the unsorted bin, and the tcaches of threads.

use super::{
    chunks::{SMALLEST, size_at},
    layout::{Layout, state},
};
use crate::allocators::{
    broken::Broken,
    memory::{Reader, offset},
};
use std::ops::Range;

/// The most nodes of one list that are followed: 32 MiB of addresses, and no list of a program that works.
pub const MOST_NODES: usize = 4 << 20;

/// `sizeof (tcache_perthread_struct)` with its header: 64 counts of two bytes, 64 pointers.
pub const TCACHE_BLOCK: u64 = 0x290;
const TCACHE_BINS: u64 = 64;
const TCACHE_ENTRIES: u64 = TCACHE_BINS * 2;

/// How many blocks `ranges` can hold, and no more than are followed: a list that runs in a circle ends soon.
fn most(ranges: &[Range<u64>]) -> usize {
    let total =
        ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.end.saturating_sub(range.start)));
    usize::try_from(total / SMALLEST).unwrap_or(MOST_NODES).min(MOST_NODES)
}

/// Whether a block at `at` is in `ranges`, which are sorted.
pub fn holds(ranges: &[Range<u64>], at: u64) -> bool {
    let behind = ranges.partition_point(|range| range.start <= at);
    behind.checked_sub(1).is_some_and(|index| ranges[index].contains(&at))
}

/// A link as it is stored at `place`.
fn link(reader: &mut Reader<'_>, layout: &Layout, place: u64) -> Result<u64, Broken> {
    let value = reader.word(place)?;
    Ok(if layout.masks_links { value ^ (place >> 12) } else { value })
}

/// Tells when a list runs in a circle, after some rounds of it at most: each node is compared with one before (Brent's way).
struct Circle {
    before: Option<u64>,
    steps: u64,
    /// After so many the node is the one to compare with.
    next: u64,
}

impl Circle {
    fn new() -> Self {
        Self { before: None, steps: 0, next: 1 }
    }

    fn is_closed_by(&mut self, at: u64) -> bool {
        if self.before == Some(at) {
            return true;
        }
        self.steps += 1;
        if self.steps == self.next {
            (self.before, self.steps, self.next) = (Some(at), 0, self.next.saturating_mul(2));
        }
        false
    }
}

/// The addresses of the blocks in the fastbins of the arena at `arena`, sorted.
pub fn fastbins(
    reader: &mut Reader<'_>,
    layout: &Layout,
    arena: u64,
    ranges: &[Range<u64>],
) -> Result<Vec<u64>, Broken> {
    let (mut blocks, most) = (Vec::new(), most(ranges));
    for bin in 0..state::FASTBIN_COUNT {
        let size = SMALLEST + 16 * bin;
        let mut at = reader.word(offset(arena, state::FASTBINS + 8 * bin)?)?;
        let mut circle = Circle::new();
        while at != 0 {
            let fits = at.is_multiple_of(16) && holds(ranges, at);
            if !fits || size_at(reader, at)? != size {
                return Err(Broken::List { list: "of a fastbin", at });
            }
            if blocks.len() >= most || circle.is_closed_by(at) {
                return Err(Broken::Endless("of a fastbin"));
            }
            blocks.push((at, size));
            at = link(reader, layout, offset(at, 16)?)?;
        }
    }
    Ok(distinct(blocks, "of a fastbin")?.into_iter().map(|(at, _)| at).collect())
}

/// The addresses of the blocks in the unsorted bin, sorted.
pub fn unsorted(reader: &mut Reader<'_>, arena: u64, ranges: &[Range<u64>]) -> Result<Vec<u64>, Broken> {
    const NAME: &str = "of unsorted blocks";
    let head = offset(arena, state::UNSORTED)?;
    let (mut previous, mut at) = (head, reader.word(offset(head, 16)?)?);
    let (mut blocks, most) = (Vec::new(), most(ranges));
    while at != head {
        let fits = at.is_multiple_of(16) && holds(ranges, at);
        if !fits || reader.word(offset(at, 24)?)? != previous {
            return Err(Broken::List { list: NAME, at });
        }
        if blocks.len() >= most {
            return Err(Broken::Endless(NAME));
        }
        blocks.push((at, 0));
        (previous, at) = (at, reader.word(offset(at, 16)?)?);
    }
    Ok(distinct(blocks, NAME)?.into_iter().map(|(at, _)| at).collect())
}

/// Sorted, if no block is in the list twice.
fn distinct(mut blocks: Vec<(u64, u64)>, list: &'static str) -> Result<Vec<(u64, u64)>, Broken> {
    blocks.sort_unstable();
    if blocks.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Broken::Endless(list));
    }
    Ok(blocks)
}

/// The blocks that the block at `at` holds if it is a thread's tcache, with their sizes. `None` if it is not one,
/// or was changed while it was read; an empty one cannot be told from a block of zeros, and holds nothing either way.
/// Follows at most `left` nodes, and takes those away from it that it has.
pub fn tcache(
    reader: &mut Reader<'_>,
    layout: &Layout,
    at: u64,
    ranges: &[Range<u64>],
    left: &mut usize,
) -> Option<Vec<(u64, u64)>> {
    let content = offset(at, 16).ok()?;
    let counts = reader.words(content, TCACHE_ENTRIES / 8).ok()?;
    let counts: Vec<u16> =
        counts.iter().flat_map(|word| (0..4).map(move |part| (word >> (16 * part)) as u16)).collect();
    let entries = reader.words(offset(content, TCACHE_ENTRIES).ok()?, TCACHE_BINS).ok()?;
    if counts.iter().zip(&entries).any(|(count, entry)| (*count == 0) != (*entry == 0)) {
        return None;
    }
    let mut blocks = Vec::new();
    let mut key = (!layout.random_key).then_some(content);
    for ((count, entry), bin) in counts.into_iter().zip(entries).zip(0..) {
        let mut user = entry;
        let mut circle = Circle::new();
        for _ in 0..count {
            *left = left.checked_sub(1)?;
            if circle.is_closed_by(user) {
                return None;
            }
            let block =
                user.checked_sub(16).filter(|block| block.is_multiple_of(16) && holds(ranges, *block))?;
            let size = size_at(reader, block).ok()?;
            let found = reader.word(offset(user, 8).ok()?).ok()?;
            if size != SMALLEST + 16 * bin || *key.get_or_insert(found) != found || found == 0 {
                return None;
            }
            blocks.push((block, size));
            user = link(reader, layout, user).ok()?;
        }
        if user != 0 {
            return None;
        }
    }
    distinct(blocks, "of a tcache").ok()
}
