//! What an ELF file says about itself: identity, needed libraries, kind of program, and where its segments lie.
//! x86_64 only; everything else is refused by name. Trusts nothing in the file.

use crate::model::BuildId;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable};
use object::{Endianness, ReadRef, StringTable};
use std::cell::Cell;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

pub(crate) type Header = FileHeader64<Endianness>;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ElfError {
    #[error("not an ELF file")]
    NotElf,
    #[error("a 32-bit program; only 64-bit x86 programs can be traced")]
    ThirtyTwoBit,
    #[error("built for another machine (ELF machine {0}); only x86_64 programs can be traced")]
    OtherMachine(u16),
    #[error("malformed ELF file: {0}")]
    Malformed(#[from] object::Error),
    #[error("{0} program headers, more than any program has")]
    TooManySegments(usize),
    #[error("{0} symbols are called like allocation functions, more than any program has")]
    TooManyFunctions(usize),
}

/// A loaded part of the file (`PT_LOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// ELF virtual address.
    pub address: u64,
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    pub executable: bool,
}

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs without a dynamic linker.
    StaticExecutable,
    DynamicExecutable,
    /// A shared object; one that can be run by itself as well (libc.so.6) is told from a program by how it is
    /// mapped, not by this.
    Library,
}

/// Whether sections lie side by side in a file of `length` bytes, as linkers put them. Where they lie over one another,
/// going through each would be going through the file as many times.
pub(crate) fn lie_apart(sections: &[SectionHeader64<Endianness>], endian: Endianness, length: u64) -> bool {
    let in_file = sections.iter().filter(|section| section.sh_type(endian) != elf::SHT_NOBITS);
    // Nothing forbids that a few share bytes.
    let all = in_file.fold(0_u64, |all, section| all.saturating_add(section.sh_size(endian)));
    all <= length.saturating_mul(2)
}

/// The most bytes of a file that are read for its facts, and held meanwhile. Headers, notes and names of a browser with all
/// its symbols have some 100 KiB; holes cost who made them nothing.
const MAX_READ: u64 = 64 << 20;

/// What looking for the end of a name may read (`ReadCache`).
const NAME_READ: u64 = 4096;

/// The most program headers of a program (fs/exec.c and binfmt_elf.c, `load_elf_phdrs`: 64 KiB of them).
const MAX_SEGMENTS: usize = 65_536 / size_of::<ProgramHeader64<Endianness>>();

/// The longest path (PATH_MAX, limits.h), and so the longest name that leads to a library or a loader.
const MAX_PATH: usize = 4096;

/// The most bytes of all names of needed libraries. One name may be listed in as many places as there are.
const MAX_NEEDED: usize = 64 << 10;

/// The longest build ID, in bytes; linkers make 16, 20 or 32.
pub const MAX_BUILD_ID: usize = 64;

/// A file of which only so much is read.
#[derive(Clone, Copy)]
pub struct Sparing<'c, R> {
    data: R,
    left: &'c Cell<u64>,
}

impl<'c, R> Sparing<'c, R> {
    /// `left`: bytes that may still be read.
    pub fn new(data: R, left: &'c Cell<u64>) -> Self {
        Self { data, left }
    }

    fn take(&self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'data, R: ReadRef<'data>> ReadRef<'data> for Sparing<'_, R> {
    fn len(self) -> Result<u64, ()> {
        self.data.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.take(size)?;
        self.data.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.take(NAME_READ)?;
        self.data.read_bytes_at_until(range, delimiter)
    }
}

/// What an ELF file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfFacts {
    pub kind: Kind,
    pub build_id: Option<BuildId>,
    pub soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `PT_INTERP`.
    pub interpreter: Option<PathBuf>,
    /// Holds code built by the Go compiler.
    pub is_go: bool,
    pub loads: Vec<Load>,
    /// Virtual address of the entry point.
    pub entry: u64,
}

/// Sections that the Go linker writes, by any of which Go code is known.
const GO_SECTIONS: [&[u8]; 3] = [b".go.buildinfo", b".note.go.buildid", b".gopclntab"];

impl ElfFacts {
    /// Reads the facts. Errors where the file is no x86_64 ELF file or contradicts itself.
    pub fn parse<'data, R: ReadRef<'data>>(data: R) -> Result<Self, ElfError> {
        let data = Sparing { data, left: &Cell::new(MAX_READ) };
        let (header, endian) = header(data)?;
        let segments = header.program_headers(endian, data)?;
        if segments.len() > MAX_SEGMENTS {
            return Err(ElfError::TooManySegments(segments.len()));
        }
        let loads: Vec<Load> =
            segments.iter().filter(|s| s.p_type(endian) == elf::PT_LOAD).map(|s| load(s, endian)).collect();
        let dynamic = Dynamic::parse(segments, endian, data, &loads)?;
        let interpreter =
            segments.iter().find_map(|s| s.interpreter(endian, data).transpose()).transpose()?;
        let interpreter = interpreter.filter(|path| path.len() < MAX_PATH);
        let sections = header.sections(endian, data).unwrap_or_default();
        let kind = match (interpreter.is_some() || !dynamic.needed.is_empty(), header.e_type(endian)) {
            (false, elf::ET_EXEC) => Kind::StaticExecutable,
            (false, _) if dynamic.is_pie => Kind::StaticExecutable,
            (true, elf::ET_EXEC) => Kind::DynamicExecutable,
            (true, _) if dynamic.is_pie || interpreter.is_some() && dynamic.soname.is_none() => {
                Kind::DynamicExecutable
            }
            _ => Kind::Library,
        };
        Ok(Self {
            kind,
            build_id: build_id(segments, &sections, endian, data),
            soname: dynamic.soname,
            needed: dynamic.needed,
            interpreter: interpreter.map(|bytes| PathBuf::from(OsStr::from_bytes(bytes))),
            is_go: sections
                .iter()
                .any(|s| sections.section_name(endian, s).is_ok_and(|name| GO_SECTIONS.contains(&name))),
            loads,
            entry: header.e_entry(endian),
        })
    }

    /// The file offset of an address in executable memory, and how many bytes of the file follow it there.
    pub fn code_offset(&self, address: u64) -> Option<(u64, u64)> {
        self.loads.iter().filter(|load| load.executable).find_map(|load| load.offset_of(address))
    }

    /// The virtual address of what is mapped executable at file offset `offset`, which can lie up to a page before
    /// the segment: mappings begin at page boundaries.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        const PAGE: u64 = 4096;
        let holds = |load: &&Load| {
            load.executable
                && offset >= load.offset / PAGE * PAGE
                && offset < load.offset.saturating_add(load.size)
        };
        let load = self.loads.iter().find(holds)?;
        Some(offset.wrapping_sub(load.offset).wrapping_add(load.address))
    }

    /// As `code_offset`, for any memory.
    pub fn file_offset(&self, address: u64) -> Option<(u64, u64)> {
        self.loads.iter().find_map(|load| load.offset_of(address))
    }
}

impl Load {
    fn offset_of(&self, address: u64) -> Option<(u64, u64)> {
        let into = address.checked_sub(self.address).filter(|into| *into < self.size)?;
        Some((self.offset.checked_add(into)?, self.size - into))
    }
}

/// The file header of an x86_64 ELF file.
pub(crate) fn header<'data, R: ReadRef<'data>>(data: R) -> Result<(&'data Header, Endianness), ElfError> {
    let ident = data.read_bytes_at(0, 16).map_err(|()| ElfError::NotElf)?;
    match ident {
        [0x7f, b'E', b'L', b'F', 1, ..] => return Err(ElfError::ThirtyTwoBit),
        [0x7f, b'E', b'L', b'F', 2, ..] => {}
        _ => return Err(ElfError::NotElf),
    }
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    match header.e_machine(endian) {
        elf::EM_X86_64 => Ok((header, endian)),
        other => Err(ElfError::OtherMachine(other.0)),
    }
}

fn load(segment: &ProgramHeader64<Endianness>, endian: Endianness) -> Load {
    Load {
        address: segment.p_vaddr(endian),
        offset: segment.p_offset(endian),
        size: segment.p_filesz(endian),
        executable: segment.p_flags(endian).contains(elf::PF_X),
    }
}

#[derive(Default)]
struct Dynamic {
    soname: Option<String>,
    needed: Vec<String>,
    is_pie: bool,
}

impl Dynamic {
    /// From the segments, not the sections: those are what is loaded, and may be all there is.
    fn parse<'data, R: ReadRef<'data>>(
        segments: &[ProgramHeader64<Endianness>],
        endian: Endianness,
        data: R,
        loads: &[Load],
    ) -> Result<Self, ElfError> {
        let Some(entries) = segments.iter().find_map(|s| s.dynamic(endian, data).transpose()).transpose()?
        else {
            return Ok(Self::default());
        };
        let value =
            |tag| entries.iter().find(|entry| entry.tag(endian) == tag).map(|entry| entry.val(endian));
        let strings = match (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) {
            (Some(address), Some(size)) => loads
                .iter()
                .find_map(|load| load.offset_of(address))
                .map(|(offset, room)| StringTable::new(data, offset, offset + size.min(room))),
            _ => None,
        }
        .unwrap_or_default();
        let string = |entry: &elf::Dyn64<Endianness>| {
            let offset = u32::try_from(entry.val(endian)).ok()?;
            let name = strings.get(offset).ok().filter(|name| name.len() < MAX_PATH)?;
            Some(String::from_utf8_lossy(name).into_owned())
        };
        let end = entries.iter().position(|entry| entry.tag(endian) == elf::DT_NULL);
        let entries = &entries[..end.unwrap_or(entries.len())];
        let is = |tag| move |entry: &&elf::Dyn64<Endianness>| entry.tag(endian) == tag;
        let mut dynamic = Self {
            is_pie: value(elf::DT_FLAGS_1).is_some_and(|flags| flags & DF_1_PIE != 0),
            soname: entries.iter().rfind(is(elf::DT_SONAME)).and_then(string),
            needed: Vec::new(),
        };
        let mut room = MAX_NEEDED;
        for name in entries.iter().filter(is(elf::DT_NEEDED)).filter_map(string) {
            // What is left out has its turn in the order in which it was loaded.
            let Some(left) = room.checked_sub(name.len() + 1) else { break };
            room = left;
            dynamic.needed.push(name);
        }
        Ok(dynamic)
    }
}

/// The build ID alone: also of a debug file, whose segments need not have what they say.
pub fn build_id_of<'data, R: ReadRef<'data>>(data: R) -> Option<BuildId> {
    let left = Cell::new(MAX_READ);
    let data = Sparing { data, left: &left };
    let (header, endian) = header(data).ok()?;
    let segments = header.program_headers(endian, data).ok().filter(|all| all.len() <= MAX_SEGMENTS)?;
    build_id(segments, &header.sections(endian, data).unwrap_or_default(), endian, data)
}

/// `DF_1_PIE` of elf.h.
const DF_1_PIE: u64 = 0x0800_0000;

/// The GNU build ID, from the note segments or, where those say nothing, from the note sections.
fn build_id<'data, R: ReadRef<'data>>(
    segments: &[ProgramHeader64<Endianness>],
    sections: &SectionTable<'data, Header, R>,
    endian: Endianness,
    data: R,
) -> Option<BuildId> {
    use object::read::elf::{NoteIterator, SectionHeader as _};
    let find = |mut notes: NoteIterator<'data, Header>| -> Option<BuildId> {
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                let id = note.desc();
                return (id.len() <= MAX_BUILD_ID).then(|| BuildId(id.to_vec()));
            }
        }
        None
    };
    let from_section = |s: &SectionHeader64<Endianness>| find(s.notes(endian, data).ok()??);
    segments
        .iter()
        .find_map(|s| find(s.notes(endian, data).ok()??))
        .or_else(|| sections.iter().find_map(from_section))
}
