//! Why a heap could not be read to its end. The process runs on, so most of these pass when it is read again.

/// What did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the memory at {0:#x} cannot be read")]
    Unreadable(u64),
    #[error("{0:#x}, which should be a block's address, is not aligned")]
    Misaligned(u64),
    #[error("the block at {at:#x} has the impossible size {size:#x}")]
    Size { at: u64, size: u64 },
    #[error("the block at {at:#x} reaches beyond {end:#x}, where its heap ends")]
    Beyond { at: u64, end: u64 },
    #[error("the block behind the free one at {0:#x} says another size of it")]
    PreviousSize(u64),
    #[error(
        "memory at {0:#x} was taken from the break by something else than malloc; what lies behind is not walked"
    )]
    Foreign(u64),
    #[error("the list {list} leads to {at:#x}, where no block of it is")]
    List { list: &'static str, at: u64 },
    #[error("the list {0} is longer than the arena")]
    Endless(&'static str),
    #[error("the top block at {0:#x} is not in the heap")]
    TopElsewhere(u64),
    #[error("of {all} bytes that the arena has of mappings, only {found} were found")]
    Regions { found: u64, all: u64 },
    #[error("the heap at {0:#x} does not belong to its arena")]
    Heap(u64),
    #[error("the list of arenas leads to {0:#x}, where none is")]
    Arena(u64),
    #[error("the arena changed while it was read")]
    Changed,
    #[error("it is larger than what is read at most, or in more pieces")]
    Limit,
}

impl Broken {
    /// Whether reading again can help.
    pub fn passes(self) -> bool {
        !matches!(self, Self::Limit | Self::Foreign(_))
    }
}
