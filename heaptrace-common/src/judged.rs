//! What a judged build of the BPF programs adds up of each function's calls, and the judge beside it by its own means:
//! tests hold one against the other. Nothing of it is in the program that users run.

use crate::statistics::FUNCTION_SLOTS;

/// Calls or blocks of one kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    pub bytes: u64,
    /// Of each one's [`mix`]: the order of calls does not matter, and a block that has another's size shows.
    pub sum: u64,
}

/// An element of `TALLIES`, by the function's number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Blocks that calls of the function gave.
    pub allocated: Tally,
    /// Blocks that calls of it ended, which were known to be live, with the sizes that they were allocated with.
    pub freed: Tally,
    /// Those that were not: from before, or a parent's at the time of a fork. Without sizes.
    pub unknown: Tally,
    /// Calls that gave no memory.
    pub failed: u64,
}

const _: () = assert!(size_of::<Tallies>() == 80);

/// What a session's BPF cookie says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JudgeCookie {
    pub function: u8,
    /// `Shape`.
    pub shape: u8,
    /// 1: of a library, whose own code calls the function by way of its PLT.
    pub library: u8,
}

impl JudgeCookie {
    pub const fn to_bits(self) -> u64 {
        self.function as u64 | (self.shape as u64) << 8 | (self.library as u64) << 16
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self { function: bits as u8, shape: (bits >> 8) as u8, library: (bits >> 16) as u8 }
    }
}

/// What the judge counts beside the calls.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgeCount {
    /// Calls within another call.
    Nested = 0,
    /// Calls that did not end by returning.
    Left = 1,
    /// Returns of no call that is known: the judge has lost its way.
    Unpaired = 2,
    /// Frees that the allocator made for itself.
    Own = 3,
    /// Calls or blocks that there was no room for.
    Full = 4,
}

impl JudgeCount {
    /// How many there are.
    pub const ALL: usize = 5;
}

/// A live block, as the judge knows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JudgedBlock {
    pub address: u64,
    /// PID of the process whose memory it is in. (The `mm_struct`'s address would not do: the next fork of the same parent
    /// may get it again, with the same addresses.)
    pub owner: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<JudgedBlock>() == 16);

/// A call that has not returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Where its return address lies.
    pub sp: u64,
    pub size: u64,
    /// The block that it was given, or where it is to put the new one's address.
    pub pointer: u64,
    /// Of the block that it was given, if `has_old`.
    pub old_size: u64,
    pub function: u8,
    pub shape: u8,
    pub has_old: u8,
    pub _pad: [u8; 5],
}

const _: () = assert!(size_of::<UnderWay>() == 40);

/// Elements of `TALLIES`.
pub const FUNCTIONS: usize = FUNCTION_SLOTS;

/// Of an address and a size: a step of MurmurHash3's finalizer over each, so that no bit of one makes up for one of the
/// other.
#[inline(always)]
pub const fn mix(address: u64, size: u64) -> u64 {
    scramble(address ^ scramble(size.wrapping_add(0x9E37_79B9_7F4A_7C15)))
}

#[inline(always)]
const fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn sizes_that_change_places_change_the_sum() {
        let (a, b) = (0x7f00_0000_1000u64, 0x7f00_0000_1010u64);
        let sum = |x: u64, y: u64| mix(a, x).wrapping_add(mix(b, y));
        assert_ne!(sum(16, 24), sum(24, 16));
        assert_ne!(sum(16, 16), sum(24, 8));
        assert_ne!(mix(0, 0), 0);
    }
}
