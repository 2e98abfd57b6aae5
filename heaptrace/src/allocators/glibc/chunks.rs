//! Walks the blocks of a heap from one to the next, as malloc lays them out.

use super::layout::PAGE;
use crate::allocators::{
    broken::Broken,
    memory::{Reader, offset},
};

/// The flags in a block's size word.
const PREVIOUS_IN_USE: u64 = 1;
const IS_MMAPPED: u64 = 2;
const FLAGS: u64 = 7;

/// The smallest block; smaller ones are fence posts at the end of a heap that was left.
pub const SMALLEST: u64 = 32;

/// A block with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub at: u64,
    pub size: u64,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As its neighbour has it: blocks in tcache and fastbins are in use, too.
    InUse,
    Free,
    /// Ends a heap; holds nothing.
    Fence,
}

/// Where a heap ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the top block.
    Top(u64),
    /// At fence posts, not behind this address.
    Fence(u64),
}

/// The size of the block at `at`, without checks.
pub fn size_at(reader: &mut Reader<'_>, at: u64) -> Result<u64, Broken> {
    Ok(reader.word(offset(at, 8)?)? & !FLAGS)
}

/// The size of the block at `at`, if it has a mapping of its own.
pub fn mmapped_at(reader: &mut Reader<'_>, at: u64) -> Option<u64> {
    let head = reader.word(at.checked_add(8)?).ok()?;
    let size = head & !FLAGS;
    (head & IS_MMAPPED != 0 && size > 0 && size.is_multiple_of(PAGE)).then_some(size)
}

/// Shows `visit` every block from `at` to `end`, and moves `at` behind it.
///
/// # Errors
/// At the first block that cannot be one, where `at` is left.
pub fn walk(
    reader: &mut Reader<'_>,
    place: &mut u64,
    end: End,
    visit: &mut dyn FnMut(Block),
) -> Result<(), Broken> {
    let mut at = *place;
    let mut fences = 0;
    let (End::Top(limit) | End::Fence(limit)) = end;
    if !at.is_multiple_of(16) {
        return Err(Broken::Misaligned(at));
    }
    while at < limit {
        let head = reader.word(offset(at, 8)?)?;
        let size = head & !FLAGS;
        if size == 0 && matches!(end, End::Fence(_)) {
            return Ok(());
        }
        if size == 0 || !size.is_multiple_of(16) || head & IS_MMAPPED != 0 {
            return Err(Broken::Size { at, size });
        }
        let next =
            at.checked_add(size).filter(|next| *next <= limit).ok_or(Broken::Beyond { at, end: limit })?;
        let state = if size < SMALLEST {
            State::Fence
        } else if next == limit && matches!(end, End::Fence(_)) {
            // Nothing follows that could say.
            State::InUse
        } else if reader.word(offset(next, 8)?)? & PREVIOUS_IN_USE != 0 {
            State::InUse
        } else if reader.word(next)? == size {
            State::Free
        } else {
            return Err(Broken::PreviousSize(at));
        };
        fences = if state == State::Fence { fences + 1 } else { 0 };
        visit(Block { at, size, state });
        at = next;
        *place = at;
        // Where the break was moved by others, malloc closes the heap with two and goes on behind (`sysmalloc`).
        if fences == 2 && matches!(end, End::Top(_)) {
            return Err(Broken::Foreign(at));
        }
    }
    Ok(())
}
