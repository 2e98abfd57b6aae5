//! Names and pointers of an ELF file: what its symbol tables call the functions, what the dynamic linker fills slots
//! with, and which addresses of code relocations put into memory.

use super::memory::Memory;
use object::elf::{SectionHeader64, Sym64};
use object::read::elf::{Rela as _, SectionHeader as _, Sym as _};
use object::{Endianness, elf as raw};
use std::collections::{HashMap, HashSet};

/// What the dynamic linker fills a slot with.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'data> {
    Symbol(&'data str),
    /// What the function at this address chooses.
    Chosen(u64),
}

/// Where glibc empties the cache of a thread that ends (malloc/arena.c). Private in static programs that are relocated.
const THREAD_END: &str = "__malloc_arena_thread_freeres";

#[derive(Default)]
pub struct Tables<'data> {
    /// Of functions, by address.
    pub names: HashMap<u64, &'data str>,
    /// What other files can call.
    pub exported: HashSet<u64>,
    pub defined: HashMap<&'data str, u64>,
    pub slots: HashMap<u64, Slot<'data>>,
    /// The names of what functions choose, by those: private, too, as a static program's.
    pub chosen: HashMap<u64, &'data str>,
    /// Where [`THREAD_END`] is.
    pub thread_end: Option<u64>,
    /// Addresses of code that are in memory somewhere, in order.
    pub pointers: Vec<u64>,
    /// By where they are.
    pub places: HashMap<u64, u64>,
}

/// The sections of a file.
#[derive(Clone, Copy)]
pub struct Sections<'data, 'a> {
    pub data: &'data [u8],
    pub endian: Endianness,
    pub all: &'a [SectionHeader64<Endianness>],
}

impl<'data> Tables<'data> {
    /// `fixed`: addresses are in the data themselves, without relocations.
    pub fn read(sections: Sections<'data, '_>, memory: &Memory<'data>, fixed: bool) -> Self {
        let mut tables = Self::default();
        tables.read_symbols(sections);
        tables.read_relocations(sections, memory);
        if fixed {
            tables.pointers.extend(memory.data_words().filter(|word| memory.is_code(*word)));
        }
        tables.pointers.sort_unstable();
        tables.pointers.dedup();
        tables
    }

    fn read_symbols(&mut self, sections: Sections<'data, '_>) {
        let endian = sections.endian;
        for (kind, exported) in [(raw::SHT_DYNSYM, true), (raw::SHT_SYMTAB, false)] {
            for (_, symbols, names) in sections.symbol_tables(kind) {
                for symbol in symbols {
                    let is_code = matches!(symbol.st_type(), raw::STT_FUNC | raw::STT_GNU_IFUNC);
                    // A private function may be called `abort` and return.
                    let is_private = symbol.st_bind() == raw::STB_LOCAL;
                    let chooses = symbol.st_type() == raw::STT_GNU_IFUNC;
                    if symbol.st_shndx(endian) == raw::SHN_UNDEF || !is_code {
                        continue;
                    }
                    let Some(name) = name_at(names, symbol.st_name(endian)) else { continue };
                    let address = symbol.st_value(endian);
                    if chooses {
                        self.chosen.entry(address).or_insert(name);
                    }
                    if name == THREAD_END {
                        self.thread_end = Some(address);
                    }
                    if is_private {
                        continue;
                    }
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

    fn read_relocations(&mut self, sections: Sections<'data, '_>, memory: &Memory<'data>) {
        let endian = sections.endian;
        let tables: HashMap<_, _> = sections
            .symbol_tables(raw::SHT_DYNSYM)
            .map(|(index, symbols, names)| (index, (symbols, names)))
            .collect();
        for section in sections.all {
            if let Ok(Some((relocations, link))) = section.rela(endian, sections.data) {
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
                    self.note_pointer(memory, place, pointer);
                }
            }
            if section.sh_type(endian) == raw::SHT_RELR
                && let Ok(words) = section.data_as_array::<u64, _>(endian, sections.data)
            {
                self.read_relative(words, memory);
            }
        }
    }

    fn note_pointer(&mut self, memory: &Memory<'_>, place: u64, pointer: u64) {
        if memory.is_code(pointer) {
            self.pointers.push(pointer);
            self.places.insert(place, pointer);
        }
    }

    /// `SHT_RELR`: an address, then bitmaps for the 63 words behind, whose lowest bit is set.
    fn read_relative(&mut self, words: &[u64], memory: &Memory<'_>) {
        let mut next = 0u64;
        for word in words {
            let (first, bits) = if word & 1 == 0 { (*word, 1) } else { (next, word >> 1) };
            next = first.wrapping_add(if word & 1 == 0 { 8 } else { 63 * 8 });
            for index in (0..63).filter(|index| bits >> index & 1 != 0) {
                let place = first.wrapping_add(index * 8);
                if let Some(pointer) = memory.word(place) {
                    self.note_pointer(memory, place, pointer);
                }
            }
        }
    }
}

impl<'data> Sections<'data, '_> {
    fn symbol_tables(
        &self,
        kind: raw::SectionType,
    ) -> impl Iterator<Item = (usize, &'data [Sym64<Endianness>], &'data [u8])> + '_ {
        let Self { data, endian, all } = *self;
        let tables = all.iter().enumerate().filter(move |(_, s)| s.sh_type(endian) == kind);
        tables.filter_map(move |(index, s)| {
            let names = all.get(usize::try_from(s.sh_link(endian)).ok()?)?;
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
