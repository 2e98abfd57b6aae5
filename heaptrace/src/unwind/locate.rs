//! Where in an ELF image the unwind information and the code lie. Trusts nothing in the image, and bounds what it
//! reads of it.

use super::image::{Cursor, Image};
use crate::process::elf::{ElfError, Header, header};
use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use object::elf::{self, ProgramHeader64, SectionHeader64};
use object::read::elf::{CompressionHeader as _, FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::read::{CompressedData, CompressionFormat};
use object::{Endianness, ReadCache};
use std::io;

/// The largest section of unwind information that is read, in bytes. 60 MB of LLVM code have 12 MB of it, the
/// largest browsers about 40; past this the file is refused.
pub const MAX_FRAME_BYTES: u64 = 128 << 20;

/// The most section headers that are looked at. A linked file has some 40; with more, only the program headers
/// count, because each section's name may cost a read of 4 KiB.
const MAX_SECTIONS: u16 = 4096;

/// The most executable segments. Linkers write one or two.
const MAX_CODE_SEGMENTS: usize = 64;

/// Why a file has no usable unwind information.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Elf(#[from] ElfError),
    #[error("failed to read the file")]
    Io(#[from] io::Error),
    #[error("no .eh_frame and no .debug_frame")]
    NoFrames,
    #[error("no executable segment")]
    NoCode,
    #[error("executable segments overlap, or there are more than {MAX_CODE_SEGMENTS}")]
    AbsurdCode,
    #[error("too many {what}: {count}, and the limit is {limit}")]
    TooMany { what: &'static str, count: u64, limit: u64 },
    #[error("malformed unwind information: {0}")]
    Malformed(#[from] gimli::Error),
}

/// Which of the two forms the unwind information has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    EhFrame,
    /// Where there is no `.eh_frame`: programs built without asynchronous unwind tables, but with debug info.
    DebugFrame,
}

/// Executable bytes: an executable segment, as far as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// ELF virtual address.
    pub start: u64,
    /// First address past it.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
}

/// The unwind information of an image, and the code that it is about.
pub struct Located {
    pub form: Form,
    pub bytes: Vec<u8>,
    pub bases: BaseAddresses,
    /// In order of address, apart from each other, not empty.
    pub code: Vec<Code>,
    /// Virtual address where the kernel begins to run the file, if it is a program or a dynamic linker.
    pub entry: u64,
}

type Data<'a> = &'a ReadCache<Cursor<'a>>;
type Segments<'a> = &'a [ProgramHeader64<Endianness>];

/// Finds code and unwind information: the sections `.eh_frame` or else `PT_GNU_EH_FRAME` (files without section
/// headers), or else `.debug_frame`.
pub fn locate(image: &dyn Image) -> Result<Located, FrameError> {
    let cache = ReadCache::new(Cursor::new(image));
    let (header, endian) = header(&cache)?;
    // PN_XNUM defers to a 32-bit number; a linked file never needs it.
    if header.e_phnum(endian) == elf::PN_XNUM {
        return Err(FrameError::TooMany { what: "program headers", count: 0xffff, limit: 0xfffe });
    }
    let segments = header.program_headers(endian, &cache).map_err(ElfError::from)?;
    let code = code(segments, endian)?;
    let entry = header.e_entry(endian);
    let sections = Sections::read(header, endian, &cache);
    let mut bases = BaseAddresses::default();
    if let Some(text) = sections.find(b".text") {
        bases = bases.set_text(text.sh_addr(endian));
    }
    if let Some(got) = sections.find(b".got") {
        bases = bases.set_got(got.sh_addr(endian));
    }
    if let Some(section) = sections.find(b".eh_frame")
        && let Some((offset, size)) = section.file_range(endian)
        && size > 0
    {
        let bytes = read(image, offset, size)?;
        let bases = bases.set_eh_frame(section.sh_addr(endian));
        return Ok(Located { form: Form::EhFrame, bytes, bases, code, entry });
    }
    if let Some((bytes, bases)) = by_segment(image, segments, endian, &bases)? {
        return Ok(Located { form: Form::EhFrame, bytes, bases, code, entry });
    }
    let bytes = match sections.find(b".debug_frame") {
        Some(section) => sections.decompressed(section, image)?,
        None => Vec::new(),
    };
    if bytes.is_empty() {
        return Err(FrameError::NoFrames);
    }
    Ok(Located { form: Form::DebugFrame, bytes, bases, code, entry })
}

fn code(segments: Segments<'_>, endian: Endianness) -> Result<Vec<Code>, FrameError> {
    let mut code: Vec<Code> = segments
        .iter()
        .filter(|s| s.p_type(endian) == elf::PT_LOAD && s.p_flags(endian).contains(elf::PF_X))
        .filter_map(|s| {
            let start = s.p_vaddr(endian);
            let end = start.checked_add(s.p_filesz(endian))?;
            (start < end).then_some(Code { start, end, offset: s.p_offset(endian) })
        })
        .take(MAX_CODE_SEGMENTS + 1)
        .collect();
    code.sort_unstable_by_key(|part| part.start);
    if code.is_empty() {
        return Err(FrameError::NoCode);
    }
    if code.len() > MAX_CODE_SEGMENTS || code.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(FrameError::AbsurdCode);
    }
    Ok(code)
}

/// Through the header that the unwinder of the running program uses: it is loaded, so it survives stripping.
fn by_segment(
    image: &dyn Image,
    segments: Segments<'_>,
    endian: Endianness,
    bases: &BaseAddresses,
) -> Result<Option<(Vec<u8>, BaseAddresses)>, FrameError> {
    let Some(index) = segments.iter().find(|s| s.p_type(endian) == elf::PT_GNU_EH_FRAME) else {
        return Ok(None);
    };
    let bases = bases.clone().set_eh_frame_hdr(index.p_vaddr(endian));
    let bytes = read(image, index.p_offset(endian), index.p_filesz(endian))?;
    let Pointer::Direct(address) = EhFrameHdr::new(&bytes, LittleEndian).parse(&bases, 8)?.eh_frame_ptr()
    else {
        return Ok(None);
    };
    // Nothing tells its size: it ends itself, or else the segment does.
    let found = segments.iter().filter(|s| s.p_type(endian) == elf::PT_LOAD).find_map(|s| {
        let into = address.checked_sub(s.p_vaddr(endian)).filter(|into| *into < s.p_filesz(endian))?;
        Some((s.p_offset(endian).checked_add(into)?, s.p_filesz(endian) - into))
    });
    let Some((offset, room)) = found else { return Ok(None) };
    let bytes = read(image, offset, room.min(MAX_FRAME_BYTES))?;
    Ok((!bytes.is_empty()).then(|| (bytes, bases.set_eh_frame(address))))
}

/// Up to `size` bytes; a file that is shorter gives fewer, and the parser then finds where they break off.
fn read(image: &dyn Image, offset: u64, size: u64) -> Result<Vec<u8>, FrameError> {
    let there = image.size()?.saturating_sub(offset).min(size);
    if there > MAX_FRAME_BYTES {
        return Err(FrameError::TooMany {
            what: "bytes of unwind information",
            count: there,
            limit: MAX_FRAME_BYTES,
        });
    }
    let mut bytes = vec![0; there as usize];
    let filled = image.read_at(offset, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

struct Sections<'a> {
    data: Data<'a>,
    endian: Endianness,
    table: Option<object::read::elf::SectionTable<'a, Header, Data<'a>>>,
}

impl<'a> Sections<'a> {
    /// None of them where there are too many or they make no sense: then the segments decide.
    fn read(header: &Header, endian: Endianness, data: Data<'a>) -> Self {
        // 0 defers to a 64-bit number.
        let usable = (1..=MAX_SECTIONS).contains(&header.e_shnum(endian));
        let table = if usable { header.sections(endian, data).ok() } else { None };
        Self { data, endian, table }
    }

    /// The section of that name which has bytes in the file.
    fn find(&self, name: &[u8]) -> Option<&'a SectionHeader64<Endianness>> {
        let (_, section) = self.table.as_ref()?.section_by_name(self.endian, name)?;
        (section.sh_type(self.endian) != elf::SHT_NOBITS).then_some(section)
    }

    fn decompressed(
        &self,
        section: &SectionHeader64<Endianness>,
        image: &dyn Image,
    ) -> Result<Vec<u8>, FrameError> {
        let Some((header, offset, size)) =
            section.compression(self.endian, self.data).map_err(ElfError::from)?
        else {
            return match section.file_range(self.endian) {
                Some((offset, size)) => read(image, offset, size),
                None => Ok(Vec::new()),
            };
        };
        let format = match header.ch_type(self.endian) {
            elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => CompressionFormat::Unknown,
        };
        let uncompressed_size: u64 = header.ch_size(self.endian);
        if uncompressed_size > MAX_FRAME_BYTES {
            let (count, limit) = (uncompressed_size, MAX_FRAME_BYTES);
            return Err(FrameError::TooMany { what: "bytes of unwind information", count, limit });
        }
        let data = read(image, offset, size)?;
        let whole = CompressedData { format, data: &data, uncompressed_size }.decompress();
        Ok(whole.map_err(ElfError::from)?.into_owned())
    }
}
