//! Heaps made for tests: laid out as glibc does, in memory that a test can change.

use super::{
    glibc::{
        Place,
        layout::{Layout, state},
    },
    memory::Memory,
};
use std::{collections::BTreeMap, io};

pub const LIBC: u64 = 0x7f00_0000_0000;
pub const ARENA: u64 = LIBC + 0x100;
pub const PARAMETERS: u64 = LIBC + 0x1000;
pub const HEAP: u64 = 0x5555_0000_0000;
pub const SECOND: u64 = 0x7e00_0000_0000;

/// Memory in pieces.
#[derive(Clone, Debug, Default)]
pub struct Image(pub BTreeMap<u64, Vec<u8>>);

impl Memory for Image {
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<()> {
        let missing = || io::Error::from(io::ErrorKind::InvalidInput);
        let (start, bytes) = self.0.range(..=address).next_back().ok_or_else(missing)?;
        let from = usize::try_from(address - start).map_err(|_| missing())?;
        let to = from.checked_add(into.len()).ok_or_else(missing)?;
        into.copy_from_slice(bytes.get(from..to).ok_or_else(missing)?);
        Ok(())
    }
}

impl Image {
    pub fn put(&mut self, address: u64, word: u64) {
        let (start, bytes) = self.0.range_mut(..=address).next_back().expect("mapped");
        let at = (address - start) as usize;
        bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    fn or(&mut self, address: u64, bits: u64) {
        let mut word = [0; 8];
        self.read(address, &mut word).expect("mapped");
        self.put(address, u64::from_ne_bytes(word) | bits);
    }
}

/// What a block is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Used,
    Tcache,
    Fast,
    Unsorted,
    Bin,
}

/// A heap under construction.
pub struct Heap {
    pub image: Image,
    pub layout: Layout,
}

impl Heap {
    /// Malloc's state with empty bins, and no heap yet.
    pub fn new(minor: u32) -> Self {
        let mut image = Image::default();
        image.0.insert(LIBC, vec![0; 0x3000]);
        let layout = Layout::of(minor).expect("a known version");
        let mut heap = Self { image, layout };
        heap.bins(ARENA);
        heap.image.put(ARENA + state::NEXT, ARENA);
        heap.image.put(PARAMETERS + layout.sbrk_base, HEAP);
        heap.image.put(PARAMETERS + layout.mmapped_mem, 3 << 20);
        heap.image.put(PARAMETERS + layout.mmapped_mem + 8, 3 << 20);
        let word = PARAMETERS + (layout.n_mmaps & !7);
        // n_mmaps, n_mmaps_max and max_n_mmaps, of four bytes each.
        let halves: [u64; 4] =
            if layout.n_mmaps.is_multiple_of(8) { [2, 65536, 2, 0] } else { [0, 2, 65536, 2] };
        heap.image.put(word, halves[0] | halves[1] << 32);
        heap.image.put(word + 8, halves[2] | halves[3] << 32);
        heap
    }

    fn bins(&mut self, arena: u64) {
        for bin in 0..state::BIN_COUNT {
            let own = arena + state::BINS + 16 * bin - 16;
            self.image.put(own + 16, own);
            self.image.put(own + 24, own);
        }
    }

    /// Fills the main arena's heap with a tcache, `blocks`, and a top of `top` bytes.
    pub fn main(&mut self, blocks: &[(What, u64)], top: u64) {
        let size = 0x290 + blocks.iter().map(|(_, size)| size).sum::<u64>() + top;
        self.image.0.insert(HEAP, vec![0; (size.next_multiple_of(4096) + 4096) as usize]);
        self.blocks(ARENA, HEAP, blocks, top);
        self.image.put(ARENA + state::SYSTEM, size);
        self.image.put(ARENA + state::MOST_SYSTEM, size);
    }

    /// A second arena of one heap with `blocks`.
    pub fn second(&mut self, blocks: &[(What, u64)], top: u64) {
        let arena = SECOND + self.layout.heap_info;
        let from = (arena + state::SIZE).next_multiple_of(16);
        let end = from + 0x290 + blocks.iter().map(|(_, size)| size).sum::<u64>() + top;
        let size = end - SECOND;
        self.image.0.insert(SECOND, vec![0; (size.next_multiple_of(4096) + 4096) as usize]);
        self.bins(arena);
        self.image.put(SECOND, arena);
        self.image.put(SECOND + 16, size);
        self.image.put(ARENA + state::NEXT, arena);
        self.image.put(arena + state::NEXT, ARENA);
        self.image.put(arena + state::SYSTEM, size);
        self.image.put(arena + state::MOST_SYSTEM, size);
        self.blocks(arena, from, blocks, top);
    }

    fn blocks(&mut self, arena: u64, from: u64, blocks: &[(What, u64)], top: u64) {
        let key = if self.layout.random_key { 0x1122_3344_5566_7788 } else { from + 16 };
        let mut counts = [0u16; 64];
        let mut heads: BTreeMap<(bool, u64), u64> = BTreeMap::new();
        let unsorted = arena + state::UNSORTED;
        let mut last = unsorted;
        let mut at = from;
        let mut previous_used = 1;
        for (what, size) in [(What::Used, 0x290)].into_iter().chain(blocks.iter().copied()) {
            self.image.put(at + 8, size | previous_used);
            previous_used = u64::from(!matches!(what, What::Unsorted | What::Bin));
            let link = |layout: &Layout, place: u64, to: u64| {
                if layout.masks_links { to ^ (place >> 12) } else { to }
            };
            match what {
                What::Used => {}
                What::Tcache => {
                    let next = heads.insert((true, size), at + 16).unwrap_or(0);
                    self.image.put(at + 16, link(&self.layout, at + 16, next));
                    self.image.put(at + 24, key);
                    counts[((size - 32) / 16) as usize] += 1;
                }
                What::Fast => {
                    let next = heads.insert((false, size), at).unwrap_or(0);
                    self.image.put(at + 16, link(&self.layout, at + 16, next));
                }
                What::Unsorted => {
                    self.image.put(last + 16, at);
                    self.image.put(at + 24, last);
                    self.image.put(at + 16, unsorted);
                    self.image.put(unsorted + 24, at);
                    last = at;
                }
                What::Bin => {}
            }
            if previous_used == 0 {
                self.image.put(at + size, size);
            }
            at += size;
        }
        self.image.put(at + 8, top | previous_used);
        self.image.put(arena + state::TOP, at);
        for ((tcache, size), head) in heads {
            let bin = (size - 32) / 16;
            match tcache {
                true => self.image.put(from + 16 + 128 + 8 * bin, head),
                false => self.image.put(arena + state::FASTBINS + 8 * bin, head),
            }
        }
        for (bin, count) in counts.into_iter().enumerate() {
            let word = from + 16 + (bin as u64 / 4) * 8;
            self.image.or(word, u64::from(count) << (16 * (bin % 4)));
        }
    }

    pub fn place(&self) -> Place {
        Place { layout: self.layout, main_arena: ARENA, parameters: Some(PARAMETERS), heap: Some(HEAP) }
    }
}
