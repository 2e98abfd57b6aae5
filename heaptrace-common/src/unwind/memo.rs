//! Walks that are remembered. A walk depends on where it begins, on the tables, and on the words of the stack that it reads:
//! where all of these are as they were, so is its stack. Reading the words again spares the search for each frame's rule, and
//! the search for the stack's site. Nothing is taken for granted: every word that the walk needed is compared.

/// Words that a walk may have read, one or two a frame. One of more is not remembered.
pub const MEMO_WORDS: usize = 64;

/// Walks that are remembered at one time, of all processes.
pub const MEMOS: u32 = 2048;

/// One walk.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Memo {
    /// Odd while it is written; another number whenever it has been.
    pub version: u64,
    /// Where it began.
    pub pc: u64,
    pub sp: u64,
    /// rbp there, or where it was saved, if `needed_bp`.
    pub bp: u64,
    pub bp_at: u64,
    pub needed_bp: u64,
    /// The tables that were in force, without the bits that change while a list stays.
    pub calls: u64,
    pub exact: u64,
    /// Process record.
    pub process: u32,
    pub function: u32,
    /// What came of it.
    pub site: u32,
    /// How many of `words` there are; 0 for no walk.
    pub count: u32,
    /// Address and content.
    pub words: [[u64; 2]; MEMO_WORDS],
}

/// Where the walk of a process that begins there is kept. Calls of one function by one caller differ by the stack pointer.
#[inline(always)]
pub const fn memo_index(process: u32, pc: u64, sp: u64) -> u32 {
    let mixed = (pc ^ sp.rotate_left(20) ^ ((process as u64) << 48)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 32) as u32) & (MEMOS - 1)
}

const _: () = assert!(MEMOS.is_power_of_two() && size_of::<Memo>() == 80 + 16 * MEMO_WORDS);
