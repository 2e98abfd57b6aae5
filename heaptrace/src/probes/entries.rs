//! Whether an address is where a function begins, by the file's unwind information. A symbol table that is wrong
//! would lead a probe into the middle of an instruction, and the program to its end.

use crate::process::cfi;
use crate::process::elf::{ElfFacts, Header};
use gimli::{
    BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, ParsedEhFrameHdr, Pointer,
    UnwindSection as _,
};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, ReadRef, elf};
use std::ops::Range;

/// More unwind information than this is not read for it: the largest programs have some 30 MB.
const MAX_BYTES: u64 = 256 << 20;

/// The most functions of a file without an index of them: far more than any static program has.
const MAX_SPANS: usize = 1 << 20;

type Slice<'data> = EndianSlice<'data, LittleEndian>;

/// The functions of a file.
pub enum Entries<'data> {
    /// By the table that its own unwinder searches.
    Index { index: ParsedEhFrameHdr<Slice<'data>>, frames: &'data [u8], bases: BaseAddresses },
    /// Of a static program, which may have none: beginnings and ends, in order.
    Spans(Vec<(u64, u64)>),
}

impl<'data> Entries<'data> {
    /// `None` where the file does not say, or says what makes no sense.
    pub fn read<R: ReadRef<'data>>(
        data: R,
        header: &Header,
        endian: Endianness,
        facts: &ElfFacts,
    ) -> Option<Self> {
        let bytes = |offset, size| (size <= MAX_BYTES).then(|| data.read_bytes_at(offset, size).ok())?;
        let segments = header.program_headers(endian, data).ok()?;
        let Some(segment) = segments.iter().find(|s| s.p_type(endian) == elf::PT_GNU_EH_FRAME) else {
            let sections = header.sections(endian, data).ok()?;
            let (_, section) = sections.section_by_name(endian, b".eh_frame")?;
            let (offset, size) = section.file_range(endian)?;
            let bases = BaseAddresses::default().set_eh_frame(section.sh_addr(endian));
            return Some(Self::Spans(spans(bytes(offset, size)?, &bases)));
        };
        let index = bytes(segment.p_offset(endian), segment.p_filesz(endian))?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(segment.p_vaddr(endian));
        let index = EhFrameHdr::new(index, LittleEndian).parse(&bases, 8).ok()?;
        let Pointer::Direct(address) = index.eh_frame_ptr() else { return None };
        let (offset, room) = facts.file_offset(address)?;
        Some(Self::Index { index, frames: bytes(offset, room)?, bases: bases.set_eh_frame(address) })
    }

    /// Whether `address` is within a function and not its beginning. `false` where nothing is known.
    pub fn is_inside(&self, address: u64) -> bool {
        self.function_at(address).is_some_and(|function| function.start != address)
    }

    /// The function that `address` is in, if one is known.
    pub fn function_at(&self, address: u64) -> Option<Range<u64>> {
        match self {
            Self::Index { index, frames, bases } => {
                let table = index.table()?;
                let pointer = table.lookup(address, bases).ok()?;
                let offset = table.pointer_to_offset(pointer).ok()?;
                let fde = section(frames).fde_from_offset(bases, offset, |section, bases, at| {
                    cfi::cie(frames, section, bases, at)
                });
                let fde = fde.ok()?;
                let start = fde.initial_address();
                fde.contains(address).then(|| start..start.saturating_add(fde.len()))
            }
            Self::Spans(spans) => {
                let after = spans.partition_point(|(start, _)| *start <= address);
                let (start, end) = *spans.get(after.checked_sub(1)?)?;
                (address < end).then_some(start..end)
            }
        }
    }
}

fn section(bytes: &[u8]) -> EhFrame<Slice<'_>> {
    let mut section = EhFrame::new(bytes, LittleEndian);
    section.set_address_size(8);
    section
}

/// All functions that can be read, up to where the information breaks off.
fn spans(bytes: &[u8], bases: &BaseAddresses) -> Vec<(u64, u64)> {
    let section = section(bytes);
    let mut spans = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        if let Ok(fde) = partial.parse(|section, bases, at| cfi::cie(bytes, section, bases, at)) {
            spans.push((fde.initial_address(), fde.initial_address().saturating_add(fde.len())));
        }
        if spans.len() >= MAX_SPANS {
            break;
        }
    }
    spans.sort_unstable();
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::symbols::{FileSymbols, Probing};
    use crate::process::elf;

    fn libc() -> Vec<u8> {
        let maps = std::fs::read("/proc/self/maps").expect("maps");
        let mappings = crate::process::maps::parse(&maps);
        let mut files = mappings.iter().filter_map(|mapping| mapping.file());
        std::fs::read(files.find(|path| path.ends_with("libc.so.6")).expect("libc")).expect("libc")
    }

    #[test]
    fn a_function_begins_where_its_symbol_says_and_nowhere_else() {
        let file = libc();
        let facts = ElfFacts::parse(file.as_slice()).expect("facts");
        let (header, endian) = elf::header(file.as_slice()).expect("a header");
        let entries = Entries::read(file.as_slice(), header, endian, &facts).expect("a table");
        let symbols = FileSymbols::read(file.as_slice(), &facts).expect("symbols");
        assert!(symbols.functions.len() > 8);
        for function in &symbols.functions {
            assert!(matches!(function.probing, Probing::Sites { .. }), "{}", function.symbol);
            assert!(!entries.is_inside(function.address), "{}", function.symbol);
            assert!(entries.is_inside(function.address + 1), "{}", function.symbol);
        }
        assert!(!entries.is_inside(0) && !entries.is_inside(u64::MAX));
    }

    #[test]
    fn a_long_cie_that_each_function_has_is_not_read_for_each() {
        for (length, found) in [(100, 1), (1_000_000, 0)] {
            let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R'];
            bytes.extend(vec![b'S'; length]);
            // Alignments, the return address's register, one byte of augmentation: absolute addresses.
            bytes.extend([0, 1, 0x78, 16, 1, 0]);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let end = bytes.len() as u32;
            bytes[..4].copy_from_slice(&(end - 4).to_le_bytes());
            bytes.extend([24_u32.to_le_bytes(), (end + 4).to_le_bytes()].concat());
            bytes.extend([0x1000_u64.to_le_bytes(), 16_u64.to_le_bytes(), [0; 8]].concat());
            assert_eq!(spans(&bytes, &BaseAddresses::default()).len(), found, "{length}");
        }
    }

    #[test]
    fn a_symbol_into_the_middle_of_a_function_is_no_place_for_a_probe() {
        let mut file = libc();
        let facts = ElfFacts::parse(file.as_slice()).expect("facts");
        let symbols = FileSymbols::read(file.as_slice(), &facts).expect("symbols");
        let malloc = symbols.functions.iter().find(|function| function.symbol == "malloc").expect("malloc");
        // Every symbol of that address: in a stripped libc the bytes are nowhere else.
        let (right, wrong) = (malloc.address.to_le_bytes(), (malloc.address + 3).to_le_bytes());
        let places: Vec<usize> = (0..file.len() - 8).filter(|at| file[*at..at + 8] == right).collect();
        for at in places {
            file[at..at + 8].copy_from_slice(&wrong);
        }
        let symbols = FileSymbols::read(file.as_slice(), &facts).expect("symbols");
        let malloc = symbols.functions.iter().find(|function| function.symbol == "malloc").expect("malloc");
        let Probing::Refused(why) = &malloc.probing else { panic!("{malloc:?}") };
        assert!(why.contains("middle of a function"), "{why}");
    }
}
