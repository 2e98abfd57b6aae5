//! The tree of stacks: a node is a frame under its caller's frame, so stacks share their outer frames. A stack is the
//! number of its innermost node.
//!
//! A node lies in a line of eight, which its caller and its address choose. The table grows by doubling: each level adds as
//! many chunks as there are, in which all nodes are made from then on; what was made stays where it is. So a node is looked
//! for at all levels so far, in one chunk each.
//!
//! Nodes that no site has any more are taken out by userspace, first out of sight ([`DYING`]). One that lay behind such a
//! place may not be found again, and is made a second time: that costs room only.

/// Nodes in a line: two cache lines.
pub const WAYS: usize = 8;

/// Lines of a chunk that a node may be in, one after the other: the first that is not full. A node without a place costs
/// all stacks that have it; with two thirds of the nodes in use eight full lines in a row are not to be expected.
pub const LINES: u32 = 8;

/// Lines in a chunk, which has 2 MiB.
pub const CHUNK_LINES: u32 = 1 << 14;

/// Nodes in a chunk.
pub const CHUNK_NODES: u32 = CHUNK_LINES * WAYS as u32;

/// The highest level: 1 GiB.
pub const MAX_LEVEL: u32 = 9;

/// The caller of outermost frames; no node has this number.
pub const ROOT: u32 = 0;

/// In a node's link: nothing refers to it as far as is known, and nobody finds it; its place is free soon.
pub const DYING: u64 = 4;

/// One frame under its caller's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub address: u64,
    /// [`link`] and whose share it is of ([`with_share`]); 0 for a place that is free, [`BEING_MADE`] while the node is.
    pub link: u64,
}

/// One line.
pub type Line = [Node; WAYS];

/// What a place's `link` is while its node is being made.
pub const BEING_MADE: u64 = 1;

/// What a node says of its caller's node.
#[inline(always)]
pub const fn link(caller: u32) -> u64 {
    (caller as u64) << 32 | 3
}

/// A link with the share that paid for the node.
#[inline(always)]
pub const fn with_share(link: u64, share: u32) -> u64 {
    link | ((share as u64) << SHARE_SHIFT) & SHARE_BITS
}

/// A link without its share: [`link`] of its caller's node, unless it is dying.
#[inline(always)]
pub const fn without_share(link: u64) -> u64 {
    link & !SHARE_BITS
}

/// The share of a link.
pub const fn share(link: u64) -> u32 {
    ((link & SHARE_BITS) >> SHARE_SHIFT) as u32
}

const SHARE_SHIFT: u32 = 3;
const SHARE_BITS: u64 = 0xffff_fff8;

/// The caller's node, of a node that is made.
pub const fn caller(link: u64) -> Option<u32> {
    if link & 3 == 3 { Some((link >> 32) as u32) } else { None }
}

/// What decides where the node of `address` under `caller` lies.
#[inline(always)]
pub const fn hash(caller: u32, address: u64) -> u64 {
    let mut mixed = (address ^ ((caller as u64) << 40 | caller as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 32;
    mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The line of a hash in its chunk.
#[inline(always)]
pub const fn line(hash: u64) -> u32 {
    (hash >> 16) as u32 & (CHUNK_LINES - 1)
}

/// The `n`th line behind one in its chunk.
#[inline(always)]
pub const fn after(line: u32, n: u32) -> u32 {
    line.wrapping_add(n) & (CHUNK_LINES - 1)
}

/// The chunk of a hash among those of a level: the first, or the upper half of all that there are then.
#[inline(always)]
pub const fn chunk(hash: u64, level: u32) -> u32 {
    let half = (1_u32 << level) >> 1;
    half | (hash >> 32) as u32 & half.saturating_sub(1)
}

/// Nodes at which a table of so many chunks is to grow. Early, as each chunk costs the kernel a grace period.
pub const fn low(chunks: u32) -> u64 {
    chunks as u64 * CHUNK_NODES as u64 / 2
}

/// The number of a node.
#[inline(always)]
pub const fn number(chunk: u32, line: u32, way: u32) -> u32 {
    (chunk * CHUNK_LINES + line) * WAYS as u32 + way + 1
}

/// Where a node is: chunk, line, and place in the line. `None` for [`ROOT`].
pub const fn place(number: u32) -> Option<(u32, u32, usize)> {
    let Some(index) = number.checked_sub(1) else { return None };
    let line = index / WAYS as u32;
    Some((line / CHUNK_LINES, line % CHUNK_LINES, (index % WAYS as u32) as usize))
}

/// Chunks at the level that has room for `nodes`: lines fill unevenly, so a third stays free.
pub const fn chunks_for(nodes: u32) -> u32 {
    let chunks = (nodes as u64 + nodes as u64 / 2).div_ceil(CHUNK_NODES as u64).next_power_of_two();
    if chunks > 1 << MAX_LEVEL { 1 << MAX_LEVEL } else { chunks as u32 }
}

const _: () = assert!(size_of::<Line>() == 128 && CHUNK_LINES.is_power_of_two());

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{collections::HashMap, vec, vec::Vec};

    #[test]
    fn a_number_tells_the_place() {
        assert_eq!(place(ROOT), None);
        for (chunk, line, way) in [(0, 0, 0), (3, CHUNK_LINES - 1, 7), ((1 << MAX_LEVEL) - 1, 17, 3)] {
            assert_eq!(place(number(chunk, line, way)), Some((chunk, line, way as usize)));
        }
        assert_eq!(caller(link(77)), Some(77));
        let shared = with_share(link(u32::MAX - 1), 40_000);
        assert_eq!((share(shared), without_share(shared)), (40_000, link(u32::MAX - 1)));
        assert_ne!(without_share(shared | DYING), link(u32::MAX - 1));
        assert_eq!(caller(shared | DYING), Some(u32::MAX - 1));
        assert_eq!(caller(BEING_MADE), None);
        assert_eq!(caller(0), None);
    }

    #[test]
    fn each_level_has_chunks_of_its_own_and_uses_all() {
        for level in 0..6 {
            let used: std::collections::BTreeSet<u32> =
                (0..1000).map(|n| chunk(hash(n, 0x7f00_0000_0000 + u64::from(n) * 5), level)).collect();
            let (first, end) = if level == 0 { (0, 1) } else { (1 << (level - 1), 1 << level) };
            assert_eq!(used, (first..end).collect());
        }
    }

    /// What the BPF side does, in a table of its own.
    struct Table {
        level: u32,
        chunks: Vec<HashMap<u32, Vec<(u32, u64)>>>,
        made: u32,
    }

    impl Table {
        fn node(&mut self, caller: u32, address: u64) -> Option<u32> {
            let hash = hash(caller, address);
            let mut free = None;
            for level in (0..=self.level).rev() {
                let chunk = chunk(hash, level);
                for n in 0..LINES {
                    let line = after(line(hash), n);
                    let of_line = self.chunks[chunk as usize].entry(line).or_default();
                    if let Some(way) = of_line.iter().position(|node| *node == (caller, address)) {
                        return Some(number(chunk, line, way as u32));
                    }
                    if of_line.len() < WAYS {
                        free.get_or_insert((chunk, line));
                        break;
                    }
                }
            }
            let (chunk, line) = free?;
            let of_line = self.chunks[chunk as usize].entry(line).or_default();
            of_line.push((caller, address));
            let way = of_line.len() as u32 - 1;
            self.made += 1;
            if u64::from(self.made) >= low(self.chunks.len() as u32) && self.level < 3 {
                self.level += 1;
                self.chunks.resize_with(1 << self.level, HashMap::new);
            }
            Some(number(chunk, line, way))
        }
    }

    /// The constants' promise: nearly all of as many as there is room for are made, and growing makes no second copies.
    #[test]
    fn as_many_nodes_as_there_is_room_for_are_made_once() {
        let mut table = Table { level: 0, chunks: vec![HashMap::new()], made: 0 };
        let nodes = CHUNK_NODES / 3 * 2 * 8;
        assert_eq!(chunks_for(nodes), 8);
        let in_all = |table: &mut Table| {
            let mut lost = 0;
            let mut caller = ROOT;
            for n in 0..nodes {
                // Stacks of 50 frames.
                if n % 50 == 0 {
                    caller = ROOT;
                }
                match table.node(caller, 0x5555_5555_0000 + u64::from(n) * 16) {
                    Some(node) => caller = node,
                    None => lost += 1,
                }
            }
            lost
        };
        let lost = in_all(&mut table);
        assert!(lost < nodes / 10_000, "{lost} of {nodes}");
        assert_eq!((table.level, table.made + lost), (3, nodes));
        let lost = in_all(&mut table);
        assert_eq!(table.made + lost, nodes);
    }
}
