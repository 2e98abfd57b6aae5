//! The functions of a file by its call frame information, and where each instruction's frame is.

use super::landing_pads::{self, CallSite};
use crate::process::cfi::{self, Storage};
use crate::process::elf::{ElfFacts, Header};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, Pointer, UnwindContext,
    UnwindSection as _, X86_64,
};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, elf};

type Slice<'data> = EndianSlice<'data, LittleEndian>;

/// More unwind information than this is not read: the largest programs have some 30 MB.
const MAX_BYTES: u64 = 256 << 20;

/// The most functions of a file: those of a browser.
const MAX_SPANS: usize = 1 << 20;

/// The most rows of a function. Real allocation functions have up to some fifty.
const MAX_ROWS: usize = 4096;

/// The most bytes of a function's information. That of glibc's largest has some thousand.
const MAX_FDE: usize = 64 << 10;

/// A function's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u64,
    pub end: u64,
    /// Where its unwind information is.
    pub offset: Option<usize>,
    /// Where its table of landing pads is.
    pub landing: Option<u64>,
}

/// Where the canonical frame address is (DWARF 5, 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cfa {
    /// So many bytes above a register, by its number in machine code.
    Register(u8, i64),
    /// Told in a way that is not followed.
    Other,
}

/// From its start to its end, a rule.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub start: u64,
    pub end: u64,
    pub cfa: Cfa,
}

/// The call frame information of a file.
pub struct Frames<'data> {
    section: Option<Section<'data>>,
    /// In order, none overlapping another.
    pub spans: Vec<Span>,
}

impl<'data> Frames<'data> {
    pub fn read(data: &'data [u8], header: &Header, endian: Endianness, facts: &ElfFacts) -> Self {
        match locate(data, header, endian, facts) {
            Some(section) => {
                let spans = section.spans();
                Self { section: Some(section), spans }
            }
            None => Self::none(),
        }
    }

    /// Of a file without any.
    pub fn none() -> Self {
        Self { section: None, spans: Vec::new() }
    }

    /// Of functions without rows.
    pub fn of_spans(spans: Vec<Span>) -> Self {
        Self { section: None, spans }
    }

    /// The rows of a function, in order. `None` where they cannot be read.
    pub fn rows(&self, span: &Span) -> Option<Vec<Row>> {
        let Section { bytes, frames, bases } = self.section.as_ref()?;
        let offset = gimli::EhFrameOffset(span.offset?);
        let cie = |frames: &_, bases: &_, at| cfi::cie(bytes, frames, bases, at);
        let fde = frames.fde_from_offset(bases, offset, cie).ok().filter(|fde| fde.entry_len() <= MAX_FDE)?;
        let mut context = UnwindContext::<_, Storage>::new_in();
        let mut table = fde.rows(frames, bases, &mut context).ok()?;
        let mut rows = Vec::new();
        while let Some(row) = table.next_row().ok()? {
            let cfa = match row.cfa() {
                CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => Cfa::Register(4, *offset),
                CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => Cfa::Register(5, *offset),
                _ => Cfa::Other,
            };
            rows.push(Row { start: row.start_address(), end: row.end_address(), cfa });
            if rows.len() > MAX_ROWS {
                return None;
            }
        }
        Some(rows)
    }

    /// Whether functions come with rows at all.
    pub fn has_rows(&self) -> bool {
        self.section.is_some()
    }
}

/// Calls of a function, and where exceptions out of them land; `bytes` gives what is at an address.
pub fn call_sites<'a>(span: &Span, bytes: impl Fn(u64) -> Option<&'a [u8]>) -> Option<Vec<CallSite>> {
    let Some(landing) = span.landing else { return Some(Vec::new()) };
    landing_pads::read(bytes(landing)?, span.start)
}

fn locate<'data>(
    data: &'data [u8],
    header: &Header,
    endian: Endianness,
    facts: &ElfFacts,
) -> Option<Section<'data>> {
    let slice = |offset: u64, size: u64| {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(size.min(MAX_BYTES)).ok()?)?;
        data.get(start..end.min(data.len()))
    };
    let section = |bytes, address, bases: BaseAddresses| {
        let mut frames = EhFrame::new(bytes, LittleEndian);
        frames.set_address_size(8);
        Section { bytes, frames, bases: bases.set_eh_frame(address) }
    };
    let segments = header.program_headers(endian, data).ok()?;
    let Some(segment) = segments.iter().find(|s| s.p_type(endian) == elf::PT_GNU_EH_FRAME) else {
        let sections = header.sections(endian, data).ok()?;
        let (_, frame) = sections.section_by_name(endian, b".eh_frame")?;
        let (offset, size) = frame.file_range(endian)?;
        return Some(section(slice(offset, size)?, frame.sh_addr(endian), BaseAddresses::default()));
    };
    let index = slice(segment.p_offset(endian), segment.p_filesz(endian))?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(segment.p_vaddr(endian));
    let index = EhFrameHdr::new(index, LittleEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(address) = index.eh_frame_ptr() else { return None };
    let (offset, room) = facts.file_offset(address)?;
    Some(section(slice(offset, room)?, address, bases))
}

/// A section of call frame information.
struct Section<'data> {
    bytes: &'data [u8],
    frames: EhFrame<Slice<'data>>,
    bases: BaseAddresses,
}

impl Section<'_> {
    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut entries = self.frames.entries(&self.bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let cie = |frames: &_, bases: &_, at| cfi::cie(self.bytes, frames, bases, at);
            let Ok(fde) = partial.parse(cie) else { continue };
            let landing = match fde.lsda() {
                Some(Pointer::Direct(address)) => Some(address),
                // Nobody writes those: what is there cannot be read.
                Some(Pointer::Indirect(_)) => Some(0),
                None => None,
            };
            let (start, end) = (fde.initial_address(), fde.initial_address().saturating_add(fde.len()));
            if start < end {
                spans.push(Span { start, end, offset: Some(fde.offset()), landing });
            }
            if spans.len() >= MAX_SPANS {
                break;
            }
        }
        spans.sort_unstable_by_key(|span| (span.start, span.end));
        let mut reached = 0;
        spans.retain(|span| {
            let is_apart = span.start >= reached;
            reached = reached.max(span.end);
            is_apart
        });
        spans
    }
}
