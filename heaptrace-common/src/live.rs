//! The table of live blocks: its lines, where a block belongs, and how an entry is packed.
//!
//! A line has six places and belongs to the blocks that hash to it. A block that finds its line full, or that an
//! entry cannot tell, goes to a hash map of the kernel's beside the table, and the line counts it: whoever finds
//! neither the block nor such a count need not look elsewhere. The table takes a third of the memory of a hash map alone. A
//! line is two cache lines that lie side by side in one page, which processors fetch together.
//!
//! A table that runs short grows by chunks of lines, a level at a time: each level has as many chunks as all before it, or
//! one. What finds its line full goes to the newest level then, or to an older one, and only after these to the map.

/// Places in a line. With its counter they fill two cache lines.
pub const WAYS: usize = 6;

/// A block, as the map beside the table knows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LiveKey {
    pub address: u64,
    /// Process record.
    pub process: u32,
    pub _pad: u32,
}

/// What is known of a live block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveBlock {
    pub size: u64,
    /// `CLOCK_MONOTONIC` as of the last tick.
    pub time_ns: u64,
    pub site: u32,
    /// See [`LiveBlock::is_held`] and [`LiveBlock::weight`].
    pub marks: u32,
}

/// Bits of a weight's mantissa in [`LiveBlock::marks`]. Above them are those of its exponent.
const WEIGHT_BITS: u32 = 26;

impl LiveBlock {
    pub const NOTHING: Self = Self { size: 0, time_ns: 0, site: 0, marks: 0 };

    /// In [`LiveBlock::marks`].
    pub const HELD: u32 = 1;

    /// Whether a realloc is under way with it.
    #[inline(always)]
    pub const fn is_held(&self) -> bool {
        self.marks & Self::HELD != 0
    }

    /// Bytes that it stands for, as its allocator said; 0 if it did not.
    #[inline(always)]
    pub const fn weight(&self) -> u64 {
        let weight = self.marks >> 1;
        ((weight & ((1 << WEIGHT_BITS) - 1)) as u64) << (weight >> WEIGHT_BITS)
    }

    /// The marks of a block that stands for `weight` bytes, rounded to 26 bits: by 1 in 67 million at most.
    #[inline(always)]
    pub const fn marks_of(weight: u64) -> u32 {
        const MOST: u64 = ((1 << WEIGHT_BITS) - 1) << 31;
        let weight = if weight > MOST { MOST } else { weight };
        let mut exponent = 0;
        while exponent < 31 && rounded(weight, exponent) >> WEIGHT_BITS != 0 {
            exponent += 1;
        }
        (exponent << WEIGHT_BITS | rounded(weight, exponent) as u32) << 1
    }
}

#[inline(always)]
const fn rounded(value: u64, bits: u32) -> u64 {
    (value + ((1 << bits) >> 1)) >> bits
}

/// One line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveLine {
    /// [`key`]; 0 for a free place.
    pub keys: [u64; WAYS],
    /// Blocks of this line that are elsewhere: in chunks, or in the map beside the table.
    pub spilled: u64,
    /// [`value`]; 0 while the entry is being made or taken.
    pub values: [u64; WAYS],
    /// [`time`].
    pub times: [u32; WAYS],
}

/// Lines in a chunk, which has 16 MiB.
pub const CHUNK_LINES: u32 = 1 << 17;

/// The highest level that the table grows to, with 64 chunks. Level 0 is the table as it began.
pub const MAX_LEVEL: u32 = 7;

/// The times of a line's blocks to the nanosecond, where lifetimes are counted.
pub type ExactTimes = [u64; WAYS];

/// A line's times are in units of 2.1 ms, so that 32 bits are 104 days. The clock that they are read from ticks about as
/// slowly.
const TIME_SHIFT: u32 = 21;

/// A block may be younger than its time says by less than this.
pub const TIME_UNIT_NS: u64 = 1 << TIME_SHIFT;

/// Bits of an address without its lowest three. 48 are all that a program has without five-level page tables.
const ADDRESS_BITS: u32 = 45;

/// Process records beyond this have no keys; `--max-processes` stays below.
pub const MAX_PROCESSES: u32 = (1 << (u64::BITS - ADDRESS_BITS)) - 2;

const SIZE_BITS: u32 = 40;

/// In an entry's value: see [`LiveBlock::is_held`].
pub const HELD: u64 = 1 << SIZE_BITS;
const SITE_SHIFT: u32 = SIZE_BITS + 1;

/// Address and process in one word, which is never 0; the address's lowest three bits are left out.
#[inline(always)]
pub const fn packed(process: u32, address: u64) -> u64 {
    ((process as u64 + 1) << ADDRESS_BITS) | ((address << (64 - ADDRESS_BITS - 3)) >> (64 - ADDRESS_BITS))
}

/// The key of a block, or 0 if it has none: its address is not a multiple of 8 (tagged ones), or beyond 48 bits.
#[inline(always)]
pub const fn key(process: u32, address: u64) -> u64 {
    if address & 7 != 0 || address >> (ADDRESS_BITS + 3) != 0 || process > MAX_PROCESSES {
        return 0;
    }
    packed(process, address)
}

/// Process record and address of a key.
pub const fn unpacked(key: u64) -> (u32, u64) {
    (((key >> ADDRESS_BITS) as u32).wrapping_sub(1), (key & ((1 << ADDRESS_BITS) - 1)) << 3)
}

/// A block's size and site in one word, or 0 if it cannot tell them: 1 TiB and more. It has no weight.
#[inline(always)]
pub const fn value(size: u64, site: u32) -> u64 {
    if size >= (1 << SIZE_BITS) - 1 || site >> (u64::BITS - SITE_SHIFT) != 0 {
        return 0;
    }
    ((site as u64) << SITE_SHIFT) | (size + 1)
}

/// A block's time as a line has it, counted from `base_ns`, before which there is none; what comes after its 104 days
/// stays at their end.
#[inline(always)]
pub const fn time(time_ns: u64, base_ns: u64) -> u32 {
    let units = time_ns.wrapping_sub(base_ns) >> TIME_SHIFT;
    if units > u32::MAX as u64 { u32::MAX } else { units as u32 }
}

/// The nanoseconds of a [`time`].
#[inline(always)]
pub const fn time_ns(time: u32, base_ns: u64) -> u64 {
    base_ns + ((time as u64) << TIME_SHIFT)
}

/// The block of an entry. `packed` is not 0.
#[inline(always)]
pub const fn block(packed: u64, time_ns: u64) -> LiveBlock {
    LiveBlock {
        size: (packed & ((1 << SIZE_BITS) - 1)) - 1,
        time_ns,
        site: (packed >> SITE_SHIFT) as u32,
        marks: (packed & HELD != 0) as u32,
    }
}

/// The line of a key among `lines`. Blocks lie at regular distances, which one multiplication alone would bring together:
/// of a million blocks 4,112 bytes apart a sixth found no place.
#[inline(always)]
pub const fn line(key: u64, lines: u32) -> u32 {
    (((mixed(key) >> 32) * lines as u64) >> 32) as u32
}

#[inline(always)]
const fn mixed(key: u64) -> u64 {
    let mut mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 32;
    mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The chunk of a key at a level from 1 on, and its line there: by other bits than [`line`] and than at other levels, so
/// that what met in one line does not meet again.
#[inline(always)]
pub const fn grown_line(key: u64, level: u32) -> (u32, u32) {
    let mixed = mixed(key);
    (crate::tree::chunk(mixed, level - 1), (mixed >> level) as u32 & (CHUNK_LINES - 1))
}

/// The level of a table with so many chunks. Between two, the lower one.
pub const fn level(chunks: u32) -> u32 {
    if chunks == 0 { 0 } else { chunks.ilog2() + 1 }
}

/// Blocks that so many chunks have room for, as [`lines_for`] has it.
pub const fn blocks_in(chunks: u32) -> u32 {
    (chunks as u64 * CHUNK_LINES as u64 * WAYS as u64 * 2 / 3) as u32
}

/// Lines for `blocks` live at one time: three places for two blocks, which leaves 5% of them to the map beside when full.
pub const fn lines_for(blocks: u32) -> u32 {
    let places = blocks as u64 + blocks as u64 / 2;
    let lines = places.div_ceil(WAYS as u64);
    if lines == 0 { 1 } else { lines as u32 }
}

/// Entries of the map beside the table for `blocks` live at one time: some more than the table leaves it.
pub const fn spill_for(blocks: u32) -> u32 {
    let entries = blocks / 16;
    if entries == 0 { 1 } else { entries }
}

const _: () = {
    assert!(size_of::<LiveKey>() == 16);
    assert!(size_of::<LiveBlock>() == 24);
    assert!(size_of::<LiveLine>() == 128);
    assert!(MAX_LEVEL - 1 <= crate::tree::MAX_LEVEL);
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn each_level_has_as_many_chunks_as_all_before_it_and_uses_them() {
        assert_eq!([0, 1, 2, 3, 4, 63, 64].map(level), [0, 1, 2, 2, 3, 6, MAX_LEVEL]);
        for at in 1..=MAX_LEVEL {
            let used: std::collections::BTreeSet<u32> =
                (0..2000).map(|n| grown_line(key(n % 7, 0x5000_0000 + u64::from(n) * 48), at).0).collect();
            let (first, end) = if at == 1 { (0, 1) } else { (1 << (at - 2), 1 << (at - 1)) };
            assert_eq!(used, (first..end).collect());
        }
    }

    #[test]
    fn what_meets_in_one_line_does_not_meet_again() {
        let lines = lines_for(1 << 16);
        let keys = (0..400_000_u64).map(|n| key(3, 0x7f00_0000_0000 + n * 32));
        let met: Vec<u64> = keys.filter(|key| line(*key, lines) == 471).collect();
        let mut again: Vec<u32> = met.iter().map(|key| grown_line(*key, 1).1).collect();
        again.sort_unstable();
        again.dedup();
        assert!(met.len() > 8 && again.len() == met.len(), "{} in {} lines", met.len(), again.len());
    }

    #[test]
    fn a_key_tells_address_and_process() {
        for (process, address) in [(0, 8), (MAX_PROCESSES, 0xffff_ffff_fff8), (16_383, 0x7fff_1234_5678)] {
            assert_ne!(key(process, address), 0);
            assert_eq!(unpacked(key(process, address)), (process, address));
        }
        // Blocks of 8 bytes lie 8 bytes apart.
        assert_ne!(key(1, 0x1000), key(1, 0x1008));
        assert_ne!(key(1, 0x1000), key(2, 0x1000));
    }

    #[test]
    fn addresses_that_no_key_tells_have_none() {
        for address in [0x1001, 0x1_0000_0000_0000, 0xff00_0000_0000_1000] {
            assert_eq!(key(0, address), 0, "{address:x}");
        }
        assert_eq!(key(MAX_PROCESSES + 1, 8), 0);
    }

    #[test]
    fn an_entry_tells_size_and_site() {
        for (size, site) in [(0, 0), (1, 0x7f_ffff), ((1 << 40) - 2, 81_919)] {
            let block = super::block(value(size, site), 5);
            assert_eq!((block.size, block.site, block.time_ns, block.marks), (size, site, 5, 0));
            assert_eq!(
                super::block(value(size, site) | HELD, 5),
                LiveBlock { marks: LiveBlock::HELD, ..block }
            );
        }
        assert_eq!(value((1 << 40) - 1, 0), 0);
        assert_eq!(value(0, 1 << 23), 0);
    }

    #[test]
    fn marks_tell_a_weight_to_26_bits() {
        let block = |marks| LiveBlock { marks, ..LiveBlock::default() };
        for weight in
            [0, 1, 4096, 512 << 10, (512 << 10) * 1_000_003, 65_537, (1 << 26) - 1, 1 << 26, 1 << 56]
        {
            let told = block(LiveBlock::marks_of(weight));
            assert_eq!((told.weight(), told.is_held()), (weight, false));
        }
        for weight in (1..1_000u64).map(|n| n * n * n * 123_456_789) {
            let told = block(LiveBlock::marks_of(weight)).weight();
            assert!(told.abs_diff(weight) as f64 <= weight as f64 / 6.7e7, "{weight}: {told}");
        }
        assert!(block(LiveBlock::marks_of(u64::MAX)).weight() > 1 << 56);
    }

    #[test]
    fn a_time_is_told_to_2_ms_for_104_days() {
        let base = 7_000_000_000_123;
        for age in [0, 1, 2_097_151, 2_097_152, 3_600_000_000_000, 104 * 86_400_000_000_000] {
            let told = time_ns(time(base + age, base), base);
            assert!(told <= base + age && base + age - told < 1 << 21, "{age}: {told}");
        }
        assert_eq!(time(base + (1 << 60), base), u32::MAX);
    }

    /// What the constants promise: as many blocks as asked for find room, of allocators that place them in every way.
    #[test]
    fn as_many_blocks_as_asked_for_find_room() {
        for (blocks, processes) in [(100_000u32, 1), (100_000, 4), (1 << 20, 1), (1 << 20, 4), (1 << 20, 16)]
        {
            let (lines, spill) = (lines_for(blocks), spill_for(blocks));
            for step in [8, 16, 32, 48, 64, 112, 128, 144, 4096, 4112] {
                let mut used: Vec<u8> = std::vec![0; lines as usize];
                let mut spilled = 0;
                for n in 0..u64::from(blocks) {
                    let key = key(n as u32 % processes, 0x5555_5555_0000 + n * step);
                    let line = line(key, lines) as usize;
                    if usize::from(used[line]) < WAYS {
                        used[line] += 1;
                    } else {
                        spilled += 1;
                    }
                }
                assert!(
                    spilled <= spill,
                    "{spilled} of {spill} places beside the table: {blocks} blocks {step} bytes apart"
                );
            }
        }
    }
}
