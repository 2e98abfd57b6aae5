//! Walks that are remembered. A walk depends on where it begins, on the tables, and on the words of the stack that it reads:
//! where all of these are as they were, so is its stack. Reading the words again spares the search for each frame's rule, and
//! the search for the stack's site. Nothing is taken for granted: every word that the walk needed is compared.

use super::step::Registers;

/// Words that a walk may have read, one or two a frame. One of more is not remembered.
pub const MEMO_WORDS: usize = 64;

/// Walks that are remembered at one time, of all processes. A power of two.
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
    /// The list of tables that was in force, without the bits that change while a list stays. Walks that need exact rows are
    /// not remembered.
    pub list: u64,
    /// Whose walk it was: a hash, where sites are told apart by thread; else 0.
    pub thread: u64,
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

impl Memo {
    /// Whether the walk of a process began at `first`, as far as that mattered, under the same tables.
    #[inline(always)]
    pub const fn began(
        &self,
        process: u32,
        function: u32,
        thread: u64,
        list: u64,
        first: &Registers,
    ) -> bool {
        self.count != 0
            && self.pc == first.pc
            && self.sp == first.sp
            && self.process == process
            && self.thread == thread
            && self.function == function
            && self.list == list
            && (self.needed_bp == 0 || self.bp == first.bp && self.bp_at == first.bp_at)
    }
}

/// Where the walk of a process that begins there is kept. Calls of one function by one caller differ by the stack pointer.
#[inline(always)]
pub const fn memo_index(process: u32, pc: u64, sp: u64) -> u32 {
    let mixed = (pc ^ sp.rotate_left(20) ^ ((process as u64) << 48)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 32) as u32) & (MEMOS - 1)
}

const _: () = assert!(MEMOS.is_power_of_two() && size_of::<Memo>() == 80 + 16 * MEMO_WORDS);
