//! Frees that are looked into: whose blocks which calls free, and calls that free what is not live.

/// Blocks that are remembered once they are freed: each has one place, which another that is freed later may take.
pub const FREED: u32 = 1 << 18;

/// Pairs of sites that are kept: of an allocation, and of a call that frees its blocks.
pub const PAIRS: u32 = 1 << 16;

/// Calls that free what is not live, told apart by all their stacks.
pub const BAD_FREES: u32 = 1 << 12;

/// An element of `FREED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreedBlock {
    /// `live::key`; 0 for none, and `BEING_MADE`.
    pub key: u64,
    /// The number of the site that allocated it.
    pub site: u32,
    /// One more than the number of the site of the call that freed it; 0 if that is not known.
    pub by: u32,
}

/// A key of `FREE_PAIRS`; the value says how often.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreePair {
    /// The site that allocated.
    pub site: u32,
    /// That of the call that freed.
    pub by: u32,
}

/// A key of `BAD_FREES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BadFreeKey {
    /// The site of the call.
    pub by: u32,
    pub process: u32,
    /// One more than the number of the site that allocated the block that had been freed there; 0 if there was none.
    pub site: u32,
    /// See [`FreedBlock::by`].
    pub first: u32,
}

/// A value of `BAD_FREES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BadFree {
    pub count: u64,
    /// Of the first.
    pub address: u64,
}

/// Where the block of a key is remembered.
#[inline(always)]
pub const fn place(key: u64) -> u32 {
    crate::live::line(key, FREED)
}

const _: () = {
    assert!(size_of::<FreedBlock>() == 16 && size_of::<FreePair>() == 8);
    assert!(size_of::<BadFreeKey>() == 16 && size_of::<BadFree>() == 16);
};
