//! An ELF file as the search for cuts sees it: code by address, functions by the unwind information, names behind the
//! slots of the global offset table, and every pointer to code that a relocation makes. Reads nothing but the bytes
//! it was given, and trusts none of them.

use super::frames::{Frames, Span};
use super::references::References;
use crate::process::elf::{self, ElfFacts, Header, Load};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind};
use object::elf::{SectionHeader64, Sym64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::{Endianness, elf as raw};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::OnceLock;

/// More code than this is not searched for branches from afar: 40 times a C library's, and a second's work.
pub const MAX_TEXT: u64 = 64 << 20;

/// What the dynamic linker fills a slot with.
#[derive(Clone, Copy, Debug)]
enum Slot<'data> {
    Symbol(&'data str),
    /// What the function at this address chooses.
    Chosen(u64),
}

/// A file.
pub struct Image<'data> {
    segments: Vec<(Load, &'data [u8])>,
    pub(super) frames: Frames<'data>,
    names: HashMap<u64, &'data str>,
    /// What other files can call.
    exported: HashSet<u64>,
    defined: HashMap<&'data str, u64>,
    slots: HashMap<u64, Slot<'data>>,
    /// Executable sections, or segments where there are none, in order.
    pub(super) code: Vec<Range<u64>>,
    /// Addresses that relocations put into memory.
    pub(super) pointers: Vec<u64>,
    /// Code that the kernel may restart elsewhere (rseq(2)), with where that is.
    pub(super) restartable: Vec<(Range<u64>, u64)>,
    /// Addresses are in the code and data themselves, without relocations.
    pub(super) fixed: bool,
    references: OnceLock<Option<References>>,
    functions: OnceLock<Vec<Span>>,
}

impl<'data> Image<'data> {
    /// `None` where the bytes are no ELF file with sections: relocations are found by those.
    pub fn new(data: &'data [u8], facts: &ElfFacts) -> Option<Self> {
        let (header, endian): (&'data Header, _) = elf::header(data).ok()?;
        let segments: Vec<_> =
            facts.loads.iter().filter_map(|load| Some((*load, contents(data, load)?))).collect();
        let sections = header.sections(endian, data).ok().filter(|sections| !sections.is_empty())?;
        let code = sections
            .iter()
            .filter(|s| {
                s.sh_flags(endian).contains(raw::SHF_EXECINSTR) && s.sh_type(endian) != raw::SHT_NOBITS
            })
            .filter_map(|s| Some(s.sh_addr(endian)..s.sh_addr(endian).checked_add(s.sh_size(endian))?));
        let mut image = Self {
            frames: Frames::read(data, header, endian, facts),
            names: HashMap::new(),
            exported: HashSet::new(),
            defined: HashMap::new(),
            slots: HashMap::new(),
            code: code.collect(),
            pointers: Vec::new(),
            restartable: Vec::new(),
            fixed: header.e_type(endian) == raw::ET_EXEC,
            references: OnceLock::new(),
            functions: OnceLock::new(),
            segments,
        };
        if image.code.is_empty() {
            let executable = facts.loads.iter().filter(|load| load.executable);
            image.code =
                executable.filter_map(|l| Some(l.address..l.address.checked_add(l.size)?)).collect();
        }
        image.code.retain(|range| image.segments.iter().any(|(load, _)| holds(load, range)));
        image.code.sort_unstable_by_key(|range| range.start);
        let mut at = 0;
        for range in &mut image.code {
            range.start = range.start.max(at);
            range.end = range.end.max(range.start);
            at = range.end;
        }
        // musl has none but for a few instructions of assembly.
        let size = |ranges: &mut dyn Iterator<Item = (u64, u64)>| {
            ranges.map(|(start, end)| end - start).sum::<u64>()
        };
        let described = size(&mut image.frames.spans.iter().map(|span| (span.start, span.end)));
        if described < size(&mut image.code.iter().map(|range| (range.start, range.end))) / 2 {
            image.frames = Frames::none();
        }
        let reader = Reader { data, endian, sections: sections.iter().as_slice() };
        image.read_symbols(&reader);
        let places = image.read_relocations(&reader);
        let is_restartable = |s: &&SectionHeader64<Endianness>| {
            sections.section_name(endian, s).is_ok_and(|name| name == b"__rseq_cs")
        };
        if let Some(section) = sections.iter().find(is_restartable) {
            image.read_restartable(section.sh_addr(endian), section.sh_size(endian), &places);
        }
        image.pointers.sort_unstable();
        image.pointers.dedup();
        Some(image)
    }

    fn read_symbols(&mut self, reader: &Reader<'data, '_>) {
        let endian = reader.endian;
        for (kind, exported) in [(raw::SHT_DYNSYM, true), (raw::SHT_SYMTAB, false)] {
            for (_, symbols, names) in reader.symbol_tables(kind) {
                for symbol in symbols {
                    let is_code = matches!(symbol.st_type(), raw::STT_FUNC | raw::STT_GNU_IFUNC);
                    if symbol.st_shndx(endian) == raw::SHN_UNDEF || !is_code {
                        continue;
                    }
                    let Some(name) = name_at(names, symbol.st_name(endian)) else { continue };
                    let address = symbol.st_value(endian);
                    self.names.entry(address).or_insert(name);
                    if exported {
                        self.exported.insert(address);
                        // An indirect function's value is its resolver.
                        if symbol.st_type() == raw::STT_FUNC {
                            self.defined.entry(name).or_insert(address);
                        }
                    }
                }
            }
        }
    }

    /// Returns what lies where a relocation writes an address of this file.
    fn read_relocations(&mut self, reader: &Reader<'data, '_>) -> HashMap<u64, u64> {
        let endian = reader.endian;
        let tables: HashMap<_, _> = reader
            .symbol_tables(raw::SHT_DYNSYM)
            .map(|(index, symbols, names)| (index, (symbols, names)))
            .collect();
        let mut places = HashMap::new();
        for section in reader.sections {
            if let Ok(Some((relocations, link))) = section.rela(endian, reader.data) {
                for relocation in relocations {
                    let (place, addend) = (relocation.r_offset(endian), relocation.r_addend(endian) as u64);
                    let symbol = tables.get(&link.0).and_then(|(symbols, names)| {
                        let index = usize::try_from(relocation.r_sym(endian, false)).ok()?;
                        let symbol = symbols.get(index).filter(|_| index != 0)?;
                        Some((symbol, name_at(names, symbol.st_name(endian))?))
                    });
                    let pointer = match symbol {
                        Some((symbol, name)) => {
                            self.slots.insert(place, Slot::Symbol(name));
                            symbol.st_value(endian).wrapping_add(addend)
                        }
                        None => {
                            if relocation.r_type(endian, false) == raw::R_X86_64_IRELATIVE {
                                self.slots.insert(place, Slot::Chosen(addend));
                            }
                            addend
                        }
                    };
                    self.note_pointer(&mut places, place, pointer);
                }
            }
            if section.sh_type(endian) == raw::SHT_RELR
                && let Ok(words) = section.data_as_array::<u64, _>(endian, reader.data)
            {
                self.read_relative(words, &mut places);
            }
        }
        if self.fixed {
            let words: Vec<u64> = self
                .segments
                .iter()
                .filter(|(load, _)| !load.executable)
                .flat_map(|(_, bytes)| {
                    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
                })
                .filter(|word| self.is_code(*word))
                .collect();
            self.pointers.extend(words);
        }
        places
    }

    fn note_pointer(&mut self, places: &mut HashMap<u64, u64>, place: u64, pointer: u64) {
        if self.is_code(pointer) {
            self.pointers.push(pointer);
            places.insert(place, pointer);
        }
    }

    /// `SHT_RELR`: an address, then bitmaps for the 63 words behind, whose lowest bit is set.
    fn read_relative(&mut self, words: &[u64], places: &mut HashMap<u64, u64>) {
        let mut next = 0u64;
        for word in words {
            let (first, bits) = if word & 1 == 0 { (*word, 1) } else { (next, word >> 1) };
            next = first.wrapping_add(if word & 1 == 0 { 8 } else { 63 * 8 });
            for index in (0..63).filter(|index| bits >> index & 1 != 0) {
                let place = first.wrapping_add(index * 8);
                if let Some(pointer) = self.word(place) {
                    self.note_pointer(places, place, pointer);
                }
            }
        }
    }

    /// `struct rseq_cs` of linux/rseq.h: version, flags, start, length, where to go.
    fn read_restartable(&mut self, address: u64, size: u64, places: &HashMap<u64, u64>) {
        const SIZE: u64 = 32;
        for at in (0..size / SIZE).map(|index| address.wrapping_add(index * SIZE)) {
            let field = |place| places.get(&place).copied().or_else(|| self.word(place));
            let (start, length, abort) =
                (field(at.wrapping_add(8)), self.word(at.wrapping_add(16)), field(at.wrapping_add(24)));
            if let (Some(start), Some(length), Some(abort)) = (start, length, abort) {
                self.restartable.push((start..start.saturating_add(length), abort));
            }
        }
    }

    /// The bytes from `address` on, as far as its segment has them in the file.
    pub(super) fn bytes(&self, address: u64) -> Option<&'data [u8]> {
        self.segments.iter().find_map(|(load, bytes)| {
            let into = usize::try_from(address.checked_sub(load.address)?).ok()?;
            bytes.get(into..).filter(|rest| !rest.is_empty())
        })
    }

    fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(address)?.get(..8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Whether `address` is in executable memory.
    pub(super) fn is_code(&self, address: u64) -> bool {
        let holds = |load: &Load| {
            load.executable && address.checked_sub(load.address).is_some_and(|into| into < load.size)
        };
        self.segments.iter().any(|(load, _)| holds(load))
    }

    /// The instruction at `address`.
    pub(super) fn instruction(&self, address: u64) -> Option<Instruction> {
        let bytes = self.bytes(address).filter(|_| self.is_code(address))?;
        let mut decoder = Decoder::with_ip(64, &bytes[..bytes.len().min(15)], address, DecoderOptions::NONE);
        Some(decoder.decode()).filter(|instruction| !instruction.is_invalid())
    }

    /// The bytes of an instruction.
    pub(super) fn bytes_of(&self, instruction: &Instruction) -> &'data [u8] {
        self.bytes(instruction.ip()).and_then(|bytes| bytes.get(..instruction.len())).unwrap_or_default()
    }

    /// The name of what a slot is filled with.
    pub(super) fn slot_name(&self, slot: u64) -> Option<&'data str> {
        match *self.slots.get(&slot)? {
            Slot::Symbol(name) => Some(name),
            Slot::Chosen(chooser) => self.names.get(&chooser).copied(),
        }
    }

    /// The name of a function: its own, or that behind a stub of the procedure linkage table.
    pub(super) fn name(&self, address: u64) -> Option<&'data str> {
        self.stub_name(address).or_else(|| self.names.get(&address).copied())
    }

    /// The name behind a stub.
    pub(super) fn stub_name(&self, address: u64) -> Option<&'data str> {
        let first = self.instruction(address)?;
        let jump = if first.code() == Code::Endbr64 { self.instruction(first.next_ip())? } else { first };
        let is_stub = jump.code() == Code::Jmp_rm64 && jump.op0_kind() == OpKind::Memory;
        (is_stub && jump.is_ip_rel_memory_operand())
            .then(|| self.slot_name(jump.ip_rel_memory_address()))
            .flatten()
    }

    /// Where this file defines a name for others.
    pub(super) fn definition(&self, name: &str) -> Option<u64> {
        self.defined.get(name).copied()
    }

    /// Whether other files can call what is at `address`.
    pub(super) fn is_exported(&self, address: u64) -> bool {
        self.exported.contains(&address)
    }

    /// All branches and pointers from one function into another; `None` if there is too much code for it.
    pub(super) fn references(&self) -> Option<&References> {
        let size: u64 = self.code.iter().map(|range| range.end - range.start).sum();
        self.references.get_or_init(|| (size <= MAX_TEXT).then(|| References::read(self))).as_ref()
    }

    /// The functions in order: by the unwind information or, where there is none, from one address that is called
    /// or has a name to the next.
    pub(super) fn functions(&self) -> &[Span] {
        if !self.frames.spans.is_empty() {
            return &self.frames.spans;
        }
        self.functions.get_or_init(|| {
            let mut starts: Vec<u64> = self.names.keys().chain(&self.pointers).copied().collect();
            starts.extend(self.references().iter().flat_map(|references| references.called()));
            starts.retain(|start| self.code.iter().any(|range| range.contains(start)));
            starts.sort_unstable();
            starts.dedup();
            let ends = starts.iter().skip(1).copied().chain([u64::MAX]);
            let spans = starts.iter().zip(ends).filter_map(|(start, next)| {
                let part = self.code.iter().find(|range| range.contains(start))?;
                Some(Span { start: *start, end: next.min(part.end), offset: None, landing: None })
            });
            spans.collect()
        })
    }

    /// The function that holds `address`.
    pub(super) fn function(&self, address: u64) -> Option<&Span> {
        let functions = self.functions();
        let after = functions.partition_point(|span| span.start <= address);
        functions.get(after.checked_sub(1)?).filter(|span| address < span.end)
    }
}

/// The part of a segment that the file has.
fn contents<'data>(data: &'data [u8], load: &Load) -> Option<&'data [u8]> {
    let start = usize::try_from(load.offset).ok()?;
    let rest = data.get(start..)?;
    Some(&rest[..rest.len().min(usize::try_from(load.size).unwrap_or(usize::MAX))])
}

fn holds(load: &Load, range: &Range<u64>) -> bool {
    load.executable
        && load.address <= range.start
        && range.start < range.end
        && range.end <= load.address.saturating_add(load.size)
}

struct Reader<'data, 'a> {
    data: &'data [u8],
    endian: Endianness,
    sections: &'a [SectionHeader64<Endianness>],
}

impl<'data> Reader<'data, '_> {
    fn symbol_tables(
        &self,
        kind: raw::SectionType,
    ) -> impl Iterator<Item = (usize, &'data [Sym64<Endianness>], &'data [u8])> + '_ {
        let Self { data, endian, sections } = *self;
        let tables = sections.iter().enumerate().filter(move |(_, s)| s.sh_type(endian) == kind);
        tables.filter_map(move |(index, s)| {
            let names = sections.get(usize::try_from(s.sh_link(endian)).ok()?)?;
            Some((index, s.data_as_array(endian, data).ok()?, names.data(endian, data).ok()?))
        })
    }
}

fn name_at(names: &[u8], offset: u32) -> Option<&str> {
    let tail = names.get(usize::try_from(offset).ok()?..)?;
    // Mangled names are long, but not longer: the end is searched for once a symbol.
    let tail = &tail[..tail.len().min(4096)];
    std::str::from_utf8(&tail[..tail.iter().position(|byte| *byte == 0)?]).ok()
}

#[cfg(test)]
impl<'data> Image<'data> {
    /// Code at an address, as functions of the given spans that have no unwind information of their own.
    pub(super) fn of_code(address: u64, code: &'data [u8], spans: &[Range<u64>]) -> Self {
        let load = Load { address, offset: 0, size: code.len() as u64, executable: true };
        let spans: Vec<Span> = spans
            .iter()
            .map(|span| Span { start: span.start, end: span.end, offset: None, landing: None })
            .collect();
        Self {
            segments: vec![(load, code)],
            frames: Frames::of_spans(spans),
            names: HashMap::new(),
            exported: HashSet::new(),
            defined: HashMap::new(),
            slots: HashMap::new(),
            code: vec![address..address + code.len() as u64],
            pointers: Vec::new(),
            restartable: Vec::new(),
            fixed: false,
            references: OnceLock::new(),
            functions: OnceLock::new(),
        }
    }

    /// What the dynamic linker fills a slot with.
    pub(super) fn set_slot(&mut self, slot: u64, name: &'data str) {
        self.slots.insert(slot, Slot::Symbol(name));
    }

    pub(super) fn set_name(&mut self, address: u64, name: &'data str) {
        self.names.insert(address, name);
        self.exported.insert(address);
        self.defined.insert(name, address);
    }
}
