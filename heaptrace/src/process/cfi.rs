//! What reading call frame information may cost. A file says how long its parts are, and any number of functions may share
//! one: read without bounds, a file of some megabytes takes hours.

use gimli::{
    BaseAddresses, CommonInformationEntry, EndianSlice, LittleEndian, Register, RegisterRule,
    UnwindContextStorage, UnwindOffset, UnwindSection, UnwindTableRow,
};

/// The longest CIE that is read, in bytes. Real ones have 20 to 40. It is read, and its instructions run, once for each FDE.
const MAX_CIE: u32 = 512;

/// Registers that rows can have rules for: x86_64's 17, and the SSE registers that some callees keep.
const MAX_REGISTERS: usize = 32;

/// Rows that can be remembered at a time, as gimli has it.
const MAX_REMEMBERED: usize = 4;

/// The CIE at an offset of `section`, which consists of `bytes`.
///
/// # Errors
/// If there is none, or a long one.
pub fn cie<'a, S: UnwindSection<EndianSlice<'a, LittleEndian>>>(
    bytes: &[u8],
    section: &S,
    bases: &BaseAddresses,
    at: S::Offset,
) -> gimli::Result<CommonInformationEntry<EndianSlice<'a, LittleEndian>>> {
    let start: usize = UnwindOffset::into(at);
    let length =
        bytes.get(start..).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
    // One whose length has 64 bits begins with a large number.
    match length {
        Some(..=MAX_CIE) => section.cie_from_offset(bases, at),
        _ => Err(gimli::Error::NoEntryAtGivenOffset(start as u64)),
    }
}

/// Where rows are made. One byte of instructions may copy a whole row, so that it has to be small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(Register, RegisterRule<usize>); MAX_REGISTERS];
    type Stack = Box<[UnwindTableRow<usize, Self>; MAX_REMEMBERED]>;
}
