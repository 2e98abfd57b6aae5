//! Unwind tables: how the rows that userspace makes of `.eh_frame` are laid out for the BPF side.
//!
//! A lookup goes mapping -> page -> row -> rule. All pcs but an interrupted one are return addresses, looked up
//! as address minus one, so only rows that can hold a `call` or `syscall` are kept (4.5 to 9 times fewer).

pub mod lookup;
pub mod step;

#[cfg(test)]
mod step_tests;

/// Elements of one shard: `ROWS` and `PAGES` are arrays of shards, because the verifier bounds an index into a
/// map value by masking, and one update by mmap touches no other.
pub const SHARD: usize = 1 << 16;

/// Bits of code in a page: 1 KiB. Smaller pages cost memory, larger ones search steps.
pub const PAGE_BITS: u32 = 10;

/// The most rows of one page ([`Page`] has 8 bits for it); what lies beyond has no rule and ends a walk.
pub const MAX_ROWS_PER_PAGE: usize = 255;

/// Distinct rules of the whole machine: 1,161 were counted in a process of 22 objects.
pub const MAX_RULES: usize = 1 << 14;

/// Executable mappings of one process; what lies beyond is walked by frame pointers, and counted.
pub const MAX_MAPPINGS: usize = 512;

/// `UnwindMapping::pages_at` of a mapping without a table (JIT code, no `.eh_frame`): frame pointers.
pub const NO_TABLE: u32 = u32::MAX;

/// How the canonical frame address, the caller's stack pointer, is found.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CfaKind {
    /// No rule: padding between functions.
    None = 0,
    /// rsp + offset.
    Rsp = 1,
    /// rbp + offset.
    Rbp = 2,
    /// *(rsp + offset) + add.
    DerefRsp = 3,
    /// *(rbp + offset) + add.
    DerefRbp = 4,
    /// rsp + 8, and 8 more from byte 11 of a 16-byte PLT entry on.
    Plt = 5,
    /// A signal trampoline: rsp points at the ucontext.
    Signal = 6,
    /// The outermost frame (return address undefined).
    Stop = 7,
    /// A rule that this format cannot express.
    Unsupported = 8,
}

/// How the caller's rbp is found.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FpKind {
    /// Unchanged.
    Same = 0,
    /// *(CFA + offset).
    CfaOffset = 1,
    /// Lost.
    Lost = 2,
    /// *(rbp + offset).
    RbpOffset = 3,
}

/// One rule: kind 4 bits | fp kind 4 | add / 8 in 8 | fp offset i16 | CFA offset i32. (The largest CFA offset
/// seen is 501,840: 16 bits are not enough.)
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule(pub u64);

impl Rule {
    pub const NONE: Self = Self::new(CfaKind::None, FpKind::Same, 0, 0, 0);
    pub const STOP: Self = Self::new(CfaKind::Stop, FpKind::Same, 0, 0, 0);
    pub const SIGNAL: Self = Self::new(CfaKind::Signal, FpKind::Same, 0, 0, 0);
    pub const PLT: Self = Self::new(CfaKind::Plt, FpKind::Same, 0, 0, 0);
    pub const UNSUPPORTED: Self = Self::new(CfaKind::Unsupported, FpKind::Same, 0, 0, 0);

    pub const fn new(cfa: CfaKind, fp: FpKind, fp_offset: i16, cfa_offset: i32, add_words: u8) -> Self {
        Self(
            cfa as u64
                | (fp as u64) << 4
                | (add_words as u64) << 8
                | (fp_offset as u16 as u64) << 16
                | (cfa_offset as u32 as u64) << 32,
        )
    }

    #[inline(always)]
    pub const fn cfa_kind(self) -> u64 {
        self.0 & 0xf
    }

    #[inline(always)]
    pub const fn fp_kind(self) -> u64 {
        self.0 >> 4 & 0xf
    }

    /// What is added after the dereference, in bytes.
    #[inline(always)]
    pub const fn add(self) -> u64 {
        (self.0 >> 8 & 0xff) << 3
    }

    #[inline(always)]
    pub const fn fp_offset(self) -> i64 {
        (self.0 >> 16) as i16 as i64
    }

    #[inline(always)]
    pub const fn cfa_offset(self) -> i64 {
        (self.0 >> 32) as i32 as i64
    }
}

/// One row: low [`PAGE_BITS`] bits of the virtual address where it begins << 16 | index of its rule. It is in
/// force until the next row, across pages.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(pub u32);

impl Row {
    pub const fn new(low: u16, rule: u16) -> Self {
        Self((low as u32) << 16 | rule as u32)
    }
}

/// One page of code: index of its first row in `ROWS` (24 bits) | number of rows << 24. The row before the first
/// is in force at the page's start; a page's rows and that one lie in one shard.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page(pub u32);

impl Page {
    pub const fn new(first_row: u32, rows: u8) -> Self {
        Self(first_row & 0x00ff_ffff | (rows as u32) << 24)
    }
}

/// One executable mapping of a process, in order of address, all below 2^63; unused ones at the end have `start`
/// = `i64::MAX`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindMapping {
    pub start: u64,
    /// First address past it.
    pub end: u64,
    /// Subtract from an address for the file's virtual address.
    pub bias: u64,
    /// Number of the table's first page: virtual address >> `PAGE_BITS`.
    pub first_page: u32,
    /// Index of that page in `PAGES`, or `NO_TABLE`.
    pub pages_at: u32,
}

impl UnwindMapping {
    pub const UNUSED: Self =
        Self { start: i64::MAX as u64, end: i64::MAX as u64, bias: 0, first_page: 0, pages_at: NO_TABLE };
}

/// What is in force for a process: number of its list of mappings plus one << 32 | generation. Replaced by one
/// store; 0 if there is none.
///
/// The generation (1 to 65,535) is of no other list that is in force, and voids what the cache holds of the one
/// before.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published(pub u64);

impl Published {
    pub const fn new(list: u32, generation: u16) -> Self {
        Self((list as u64 + 1) << 32 | generation as u64)
    }

    /// The list's number.
    #[inline(always)]
    pub const fn list(self) -> Option<u32> {
        ((self.0 >> 32) as u32).checked_sub(1)
    }

    #[inline(always)]
    pub const fn generation(self) -> u16 {
        self.0 as u16
    }
}

const _: () = assert!(size_of::<UnwindMapping>() == 32);
