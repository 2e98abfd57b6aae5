//! Unwind tables: how the rows that userspace makes of `.eh_frame` are laid out for the BPF side.
//!
//! A lookup goes mapping -> page -> row -> rule. All pcs but an interrupted one are return addresses, looked up
//! as address minus one, so only rows that can hold a `call` or `syscall` are kept (4.5 to 9 times fewer).

pub mod lookup;
pub mod memo;
pub mod step;

#[cfg(test)]
mod memo_tests;
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

/// Mappings in a part of `UNWIND_MAPPINGS`: a list has one, two or four parts, as few as hold it. Most processes have fewer
/// than 128 executable mappings.
pub const LIST_PART: usize = MAX_MAPPINGS / LIST_PARTS;

/// Parts of the longest list.
pub const LIST_PARTS: usize = 4;

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

/// Where a file's table is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TablePlace {
    /// Virtual address >> `PAGE_BITS` of the first page.
    pub first_page: u32,
    pub pages: u32,
    /// Index of the first page in `PAGES`.
    pub pages_at: u32,
    pub _pad: u32,
}

impl TablePlace {
    /// The part of a process's mapping `[start, end)` that the table covers, where `bias` is address minus ELF
    /// virtual address. Code outside the file's executable segments has no table.
    #[inline(always)]
    pub fn mapping(&self, start: u64, end: u64, bias: u64) -> UnwindMapping {
        let from = bias.wrapping_add((self.first_page as u64) << PAGE_BITS);
        let to = from.wrapping_add((self.pages as u64) << PAGE_BITS);
        let covered_start = if from > start { from } else { start };
        let covered_end = if to < end { to } else { end };
        if covered_start >= covered_end {
            return UnwindMapping { start, end, bias, first_page: 0, pages_at: NO_TABLE };
        }
        let Self { first_page, pages_at, .. } = *self;
        UnwindMapping { start: covered_start, end: covered_end, bias, first_page, pages_at }
    }
}

/// Most entries of a [`NewMappings`].
pub const MAX_NEW: usize = 32;

/// How many [`NewMappings`] there are. Process records share them by their low bits; more than this many processes
/// that load code at one time push each other's entries out, and are walked as far as userspace has come.
pub const NEW_SLOTS: usize = 1 << 10;

/// The mappings that processes made last, as a ring: they count until userspace has put a list in force that has
/// them (`Published::seen`). Without them the first moments of a program would have no tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMappings {
    /// How many there were.
    pub head: u64,
    pub entries: [NewMapping; MAX_NEW],
}

/// An entry. Valid if `number` is what [`NewMapping::number`] gives for its place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMapping {
    /// Written last, and cleared first.
    pub number: u64,
    pub mapping: UnwindMapping,
}

impl NewMapping {
    /// The number of the entry that was made when the ring's head was `head`, for a process record. Never 0.
    #[inline(always)]
    pub const fn number(process: u32, head: u64) -> u64 {
        (process as u64) << 32 | (head.wrapping_add(1) & 0xffff_ffff)
    }
}

/// A file, as the kernel names it: `s_dev` of its file system in the kernel's own encoding (`MKDEV`,
/// include/linux/kdev_t.h), and inode number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CodeFileKey {
    pub dev: u64,
    pub inode: u64,
}

impl CodeFileKey {
    /// From the parts of a device number.
    pub const fn new(major: u32, minor: u32, inode: u64) -> Self {
        Self { dev: (major as u64) << 20 | minor as u64, inode }
    }
}

/// A file whose table is in place, for the BPF side to put it in force as soon as the file is mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeFile {
    /// The state of the file that the table is of: bytes, and time of modification.
    pub size: u64,
    pub modified_s: u64,
    pub modified_ns: u64,
    /// Virtual address minus file offset of its one executable segment.
    pub delta: u64,
    /// Virtual address where that segment begins: of a program, `mm_struct.start_code` without bias.
    pub code_start: u64,
    /// Virtual address where the kernel begins to run the file, if it is a program or a dynamic linker.
    pub entry: u64,
    /// A program's dynamic linker, if it is known; else zeros.
    pub interpreter: CodeFileKey,
    pub table: TablePlace,
}

impl UnwindMapping {
    pub const UNUSED: Self =
        Self { start: i64::MAX as u64, end: i64::MAX as u64, bias: 0, first_page: 0, pages_at: NO_TABLE };
}

/// Where a list of mappings is: its first part << 2 | how often its parts are doubled. The first is a multiple of their
/// number, so that no list lies across an element of `UNWIND_MAPPINGS`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct List(pub u32);

impl List {
    /// The list of `parts` parts, 1, 2 or 4, from `first`.
    pub const fn new(first: u32, parts: u32) -> Self {
        Self(first << 2 | parts.trailing_zeros())
    }

    pub const fn first(self) -> u32 {
        self.0 >> 2
    }

    pub const fn parts(self) -> u32 {
        1 << (self.0 & 3)
    }

    /// The element of `UNWIND_MAPPINGS` that holds it.
    #[inline(always)]
    pub const fn element(self) -> u32 {
        self.first() / LIST_PARTS as u32
    }

    /// Where in that element the mapping is that a search over [`MAX_MAPPINGS`] meets at `index`: each one of a shorter list
    /// stands for two or four.
    #[inline(always)]
    pub const fn place(self, index: u32) -> u32 {
        (self.first() % LIST_PARTS as u32) * LIST_PART as u32 + (index >> (2 - (self.0 & 3)))
    }
}

/// What is in force for a process: its list of mappings plus one << 32 | seen << 16 | generation. Replaced by one store;
/// 0 if there is none.
///
/// The generation (1 to 65,535) is of no other list that is in force, and voids what the cache holds of the one
/// before. `seen` are the low bits of the head of the process's `NewMappings` up to which the list has them all.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published(pub u64);

impl Published {
    pub const fn new(list: List, generation: u16, seen: u16) -> Self {
        Self((list.0 as u64 + 1) << 32 | (seen as u64) << 16 | generation as u64)
    }

    /// The same, with all new mappings up to `head` in it.
    #[inline(always)]
    pub const fn with_seen(self, head: u64) -> Self {
        Self(self.0 & !0xffff_0000 | (head & 0xffff) << 16)
    }

    /// How many of the new mappings up to `head` count beside the list.
    #[inline(always)]
    pub const fn unseen(self, head: u64) -> u64 {
        let count = head.wrapping_sub(self.0 >> 16) & 0xffff;
        if count > MAX_NEW as u64 { MAX_NEW as u64 } else { count }
    }

    /// The list.
    #[inline(always)]
    pub const fn list(self) -> Option<List> {
        match ((self.0 >> 32) as u32).checked_sub(1) {
            Some(list) => Some(List(list)),
            None => None,
        }
    }

    #[inline(always)]
    pub const fn generation(self) -> u16 {
        self.0 as u16
    }
}

const _: () = {
    assert!(size_of::<UnwindMapping>() == 32);
    assert!(size_of::<NewMapping>() == 40);
    assert!(size_of::<NewMappings>() == 8 + 40 * MAX_NEW);
    assert!(size_of::<CodeFile>() == 80);
};
