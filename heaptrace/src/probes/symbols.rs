//! The allocation functions that one file holds: where they are, and where in each its probe would go.

use super::allocators::{self, Known, Role};
use super::cut::{self, Cut, Emulation, Image, Request};
use super::elsewhere;
use super::entries::Entries;
use super::forward::{self, Target};
use super::proof::Proof;
use super::ranges::merged;
use super::telltale::{self, Message};
use crate::process::elf::{self, ElfError, ElfFacts, Header, Kind};
use heaptrace_common::function::Shape;
use iced_x86::{Decoder, DecoderOptions, FlowControl, OpKind};
use object::elf::{SectionHeader64, Sym64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::{Endianness, ReadRef, elf as raw};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Whose code an allocator is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AllocatorKind {
    Glibc,
    Musl,
    Jemalloc,
    Tcmalloc,
    Mimalloc,
    #[default]
    Unknown,
}

impl AllocatorKind {
    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Mimalloc => "mimalloc",
            Self::Unknown => "unknown",
        }
    }
}

/// An allocation function defined in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    pub symbol: String,
    pub known: Known,
    /// ELF virtual address of the entry.
    pub address: u64,
    /// File offset of the entry.
    pub offset: u64,
    /// Whether other files can call it (`.dynsym`), or only its own (`.symtab`).
    pub exported: bool,
    pub probing: Probing,
    /// What it passes all its work on to: its argument, if it frees; else what it is given.
    pub forwards_to: Option<Forward>,
}

impl FoundFunction {
    /// Whether it is not probed.
    pub fn is_refused(&self) -> bool {
        matches!(self.probing, Probing::Refused(_))
    }
}

/// How a function's calls are seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probing {
    /// By probes at these instructions.
    Sites {
        cut: Box<Cut>,
        /// The parts of its own code, and of what only such functions call, that call allocation functions: of each the
        /// code and the addresses of the functions.
        calls: Vec<(Range<u64>, Vec<u64>)>,
    },
    /// Not at all, and why.
    Refused(String),
}

/// The target of an unconditional call or jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forward {
    /// A function of the same file, by its ELF virtual address.
    Address(u64),
    /// Whatever the dynamic linker resolves this name to.
    Symbol(String),
}

/// The allocation functions of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSymbols {
    pub functions: Vec<FoundFunction>,
    pub kind: AllocatorKind,
    /// Its functions may pass their calls on to the next file's of their names.
    pub may_pass_on: bool,
    /// An allocator that it has inside, of whose functions it has no names.
    pub hidden: Option<AllocatorKind>,
    /// Of the code that all sites rest on.
    pub proof: Arc<Proof>,
}

/// Symbol tables larger than this are left out: 3 times that of a browser with all its symbols, and still to
/// be held in memory.
const MAX_TABLE: u64 = 192 << 20;

/// The most symbols that are called like allocation functions. The code of each is gone through; a program has some
/// dozens.
const MAX_WANTED: usize = 4096;

/// The most bytes of a file whose functions are probed.
pub(super) const MAX_FILE: u64 = 1 << 30;

/// The most bytes of a function that are looked at. The largest allocation function of the allocators known is
/// a tenth of that; of a larger one the far end's branches are not seen.
const MAX_CODE: u64 = 64 << 10;

/// The beginnings of allocators' messages: in jemalloc's malloc_io.c, mimalloc's options.c, gperftools' tcmalloc.cc.
const MESSAGES: [(Message, AllocatorKind); 3] = [
    (Message::new("<jemalloc>: "), AllocatorKind::Jemalloc),
    (Message::new("mimalloc: error: "), AllocatorKind::Mimalloc),
    (Message::new("tcmalloc: large alloc "), AllocatorKind::Tcmalloc),
];

/// By which a file comes to another's allocation functions of the names that it defines itself.
const NEXT: [&str; 7] =
    ["dlsym", "dlvsym", "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_memalign", "__libc_free"];

/// A symbol of the file, before it is known to be of use.
struct RawSymbol<'data> {
    name: &'data [u8],
    address: u64,
    size: u64,
    exported: bool,
}

impl FileSymbols {
    /// Finds the allocation functions of a file, whose facts are `facts`, and where in each its probes would go here.
    pub fn read<'data, R: ReadRef<'data>>(data: R, facts: &ElfFacts) -> Result<Self, ElfError> {
        Self::read_for(data, facts, Emulation::running())
    }

    /// The same on a kernel that does as `emulation` says.
    pub fn read_for<'data, R: ReadRef<'data>>(
        data: R,
        facts: &ElfFacts,
        emulation: Emulation,
    ) -> Result<Self, ElfError> {
        Self::read_with(data, facts, emulation, None::<R>)
    }

    /// The same with the names that another file has of this one's functions: its debug file.
    pub fn read_with<'data, R: ReadRef<'data>, D: ReadRef<'data>>(
        data: R,
        facts: &ElfFacts,
        emulation: Emulation,
        debug: Option<D>,
    ) -> Result<Self, ElfError> {
        let mut file = File::new(data, facts, emulation)?;
        let debug = debug.and_then(|debug| File::new(debug, facts, emulation).ok());
        let mut wanted: Vec<(RawSymbol<'data>, Known)> = Vec::new();
        let mut kind = AllocatorKind::Unknown;
        let mut exported_addresses = HashSet::new();
        let mut starts = Vec::new();
        let exported = file.functions(raw::SHT_DYNSYM, true)?;
        let own = file.functions(raw::SHT_SYMTAB, false)?;
        let named = debug.map(|debug| debug.functions(raw::SHT_SYMTAB, false)).transpose()?;
        let tables = [(exported, true), (own, false), (named.unwrap_or_default(), false)];
        let has =
            |name: &str| tables.iter().flat_map(|(symbols, _)| symbols).any(|s| s.name == name.as_bytes());
        let prefixes: Vec<&str> =
            allocators::UNSURE_PREFIXES.iter().filter(|(_, by)| has(by)).map(|(prefix, _)| *prefix).collect();
        let lookup = |name| allocators::lookup_with(name, &prefixes);
        for (symbols, exported) in tables {
            for symbol in symbols {
                kind = stronger(kind, marker(symbol.name));
                starts.push(symbol.address);
                let Some(known) = std::str::from_utf8(symbol.name).ok().and_then(lookup) else {
                    continue;
                };
                // The tables overlap: .symtab repeats what .dynsym exports.
                if exported {
                    exported_addresses.insert((symbol.name, symbol.address));
                } else if exported_addresses.contains(&(symbol.name, symbol.address)) {
                    continue;
                }
                wanted.push((symbol, known));
            }
        }
        if wanted.len() > MAX_WANTED {
            return Err(ElfError::TooManyFunctions(wanted.len()));
        }
        if !wanted.is_empty() {
            let (header, endian) = elf::header(data)?;
            file.entries = Entries::read(data, header, endian, facts);
        }
        starts.sort_unstable();
        let addresses: HashSet<u64> = wanted.iter().map(|(symbol, _)| symbol.address).collect();
        // Its code is decoded as a whole; what is larger than any program with an allocator inside is left alone.
        let whole = data.len().ok().filter(|length| !wanted.is_empty() && *length <= MAX_FILE);
        let bytes = whole.and_then(|length| data.read_bytes_at(0, length).ok());
        let image = bytes.and_then(|bytes| Image::new(bytes, facts));
        let allocating = wanted.iter().filter(|(_, known)| known.shape.allocates());
        let allocating: Vec<u64> = allocating.map(|(symbol, _)| symbol.address).collect();
        let frees = wanted.iter().filter(|(_, known)| known.frees());
        let frees: HashSet<u64> = frees.map(|(symbol, _)| symbol.address).collect();
        let mut functions: Vec<FoundFunction> = Vec::with_capacity(wanted.len());
        let mut by_entry: HashMap<(u64, Shape), Probing> = HashMap::new();
        for (symbol, known) in wanted {
            let passes_to = image.as_ref().filter(|_| known.role == Role::Operator).and_then(|image| {
                file.passes_to(image, symbol.address, known.shape, &addresses, &allocating)
            });
            let probing = by_entry.entry((symbol.address, known.shape)).or_insert_with(|| match &image {
                Some(image) => file.probing(image, symbol.address, known.shape, &addresses, &frees),
                None => Probing::Refused("its file has no sections, or is too large".to_owned()),
            });
            let found = file.found(&symbol, known, &starts, &addresses, probing.clone());
            functions.extend(found.map(|found| FoundFunction {
                forwards_to: passes_to.map(Forward::Address).or(found.forwards_to).or_else(|| {
                    let image = image.as_ref().filter(|_| known.shape.allocates())?;
                    file.works_elsewhere(image, symbol.address).map(Forward::Symbol)
                }),
                ..found
            }));
        }
        // One that looks for the next definition may pass its calls on: both would count them.
        let may_pass_on = kind == AllocatorKind::Unknown && file.imports(&NEXT);
        let is_known =
            matches!(kind, AllocatorKind::Jemalloc | AllocatorKind::Tcmalloc | AllocatorKind::Mimalloc);
        let is_program = facts.kind != Kind::Library && !is_known;
        let hidden = is_program.then(|| telltale::messages(data, facts, &MESSAGES)).flatten();
        let found = Self::of_parts(functions, kind, bytes.unwrap_or_default(), facts);
        Ok(Self { may_pass_on, hidden, ..found })
    }

    /// What was found in a file whose bytes are `file`.
    pub(super) fn of_parts(
        functions: Vec<FoundFunction>,
        kind: AllocatorKind,
        file: &[u8],
        facts: &ElfFacts,
    ) -> Self {
        let proof = Arc::new(Proof::of(file, &merged(code_of(&functions, facts).collect(), 0)));
        Self { functions, kind, proof, ..Self::default() }
    }
}

impl FileSymbols {
    /// The same without what was believed of the function whose entry is at a file offset: probed as it is if nothing
    /// its callees do is believed, or not at all where that cannot be done.
    pub fn without_trust<'data, R: ReadRef<'data>>(&self, data: R, facts: &ElfFacts, entry: u64) -> Self {
        let bytes = data.len().ok().and_then(|length| data.read_bytes_at(0, length).ok());
        let image = bytes.and_then(|bytes| Image::new(bytes, facts));
        let probed: Vec<u64> = self.functions.iter().map(|function| function.address).collect();
        let mut symbols = self.clone();
        for function in symbols.functions.iter_mut().filter(|function| function.offset == entry) {
            let Probing::Sites { calls, .. } = &function.probing else { continue };
            let request = Request {
                entry: function.address,
                shape: function.known.shape,
                probed: &probed,
                emulation: Emulation::running(),
            };
            let cut = image.as_ref().and_then(|image| cut::last_resort(image, &request).ok());
            function.probing = match cut {
                Some(cut) => Probing::Sites { cut: Box::new(cut), calls: calls.clone() },
                None => Probing::Refused("its calls are not as its code says".to_owned()),
            };
        }
        let code = merged(code_of(&symbols.functions, facts).collect(), 0);
        symbols.proof = Arc::new(bytes.map(|bytes| Proof::of(bytes, &code)).unwrap_or_default());
        symbols
    }
}

/// File offsets of the code that the sites of `functions` rest on.
pub(super) fn code_of<'a>(
    functions: impl IntoIterator<Item = &'a FoundFunction>,
    facts: &ElfFacts,
) -> impl Iterator<Item = Range<u64>> {
    let parts = functions.into_iter().flat_map(|function| match &function.probing {
        Probing::Sites { cut, .. } => cut.bytes.as_slice(),
        Probing::Refused(_) => &[],
    });
    parts.filter_map(|(start, length)| {
        let (offset, room) = facts.code_offset(*start)?;
        Some(offset..offset + length.min(&room))
    })
}

/// Symbols by which an allocator is told. glibc's and musl's last: a static program has a C library and an
/// allocator of its own.
fn marker(symbol: &[u8]) -> AllocatorKind {
    match symbol {
        // Linked statically, as Rust's crates are, only what is called is there.
        b"mi_version" | b"mi_malloc" | b"mi_free" => AllocatorKind::Mimalloc,
        b"mallctl" | b"je_mallctl" | b"_rjem_mallctl" | b"__mallctl" | b"je_mallocx" | b"_rjem_mallocx"
        | b"_rjem_malloc" => AllocatorKind::Jemalloc,
        b"tc_malloc" | b"tc_version" | b"TCMallocInternalMalloc" | b"MallocExtension_Initialize" => {
            AllocatorKind::Tcmalloc
        }
        b"gnu_get_libc_version" | b"__libc_early_init" | b"_int_malloc" => AllocatorKind::Glibc,
        b"__dls3" | b"__malloc_donate" | b"__init_libc" => AllocatorKind::Musl,
        _ => AllocatorKind::Unknown,
    }
}

fn stronger(one: AllocatorKind, other: AllocatorKind) -> AllocatorKind {
    let strength = |kind| match kind {
        AllocatorKind::Mimalloc | AllocatorKind::Jemalloc | AllocatorKind::Tcmalloc => 2,
        AllocatorKind::Glibc | AllocatorKind::Musl => 1,
        AllocatorKind::Unknown => 0,
    };
    if strength(other) > strength(one) { other } else { one }
}

/// The names of what a call in a file reaches: that which the dynamic linker looks for, or those of the file's own function there.
pub(super) fn reached<'data, R: ReadRef<'data>>(data: R, facts: &ElfFacts, target: Target) -> Vec<String> {
    let Ok(file) = File::new(data, facts, Emulation::running()) else { return Vec::new() };
    if let Some((name, _)) = file.slot(target).and_then(|slot| file.slot_symbol(slot)) {
        return vec![name];
    }
    let Target::Code(address) = target else { return Vec::new() };
    let mut names: Vec<String> = [(raw::SHT_SYMTAB, false), (raw::SHT_DYNSYM, true)]
        .into_iter()
        .filter_map(|(kind, exported)| file.functions(kind, exported).ok())
        .flatten()
        .filter(|function| function.address == address)
        .map(|function| String::from_utf8_lossy(function.name).into_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A file under examination.
struct File<'data, 'facts, R> {
    data: R,
    facts: &'facts ElfFacts,
    endian: Endianness,
    sections: &'data [SectionHeader64<Endianness>],
    entries: Option<Entries<'data>>,
    emulation: Emulation,
    /// What [`Self::goes_on_in`] found, by the function where it began: many functions call the same ones.
    going_on: RefCell<HashMap<u64, Vec<u64>>>,
}

impl<'data, R: ReadRef<'data>> File<'data, '_, R> {
    fn new(data: R, facts: &ElfFacts, emulation: Emulation) -> Result<File<'data, '_, R>, ElfError> {
        let (header, endian): (&'data Header, _) = elf::header(data)?;
        let sections = header.section_headers(endian, data).unwrap_or_default();
        let apart = elf::lie_apart(sections, endian, data.len().unwrap_or_default());
        let sections = if apart { sections } else { &[] };
        Ok(File { data, facts, endian, sections, entries: None, emulation, going_on: RefCell::default() })
    }

    /// Symbols and names of the tables of type `kind`.
    fn tables(
        &self,
        kind: raw::SectionType,
    ) -> impl Iterator<Item = (usize, &'data [Sym64<Endianness>], &'data [u8])> + '_ {
        let Self { data, endian, sections, .. } = *self;
        sections.iter().enumerate().filter(move |(_, s)| s.sh_type(endian) == kind).filter_map(
            move |(index, s)| {
                let names = sections.get(usize::try_from(s.sh_link(endian)).ok()?)?;
                if s.sh_size(endian).saturating_add(names.sh_size(endian)) > MAX_TABLE {
                    return None;
                }
                Some((index, s.data_as_array(endian, data).ok()?, names.data(endian, data).ok()?))
            },
        )
    }

    /// Whether it takes any of these names from another file.
    fn imports(&self, names: &[&str]) -> bool {
        let endian = self.endian;
        self.tables(raw::SHT_DYNSYM).any(|(_, symbols, strings)| {
            symbols.iter().filter(|symbol| symbol.st_shndx(endian) == raw::SHN_UNDEF).any(|symbol| {
                let name = name_at(strings, symbol.st_name(endian)).unwrap_or_default();
                names.iter().any(|wanted| wanted.as_bytes() == name)
            })
        })
    }

    /// The functions that a table defines.
    fn functions(&self, kind: raw::SectionType, exported: bool) -> Result<Vec<RawSymbol<'data>>, ElfError> {
        let endian = self.endian;
        let mut functions = Vec::new();
        for (_, symbols, names) in self.tables(kind) {
            functions.extend(symbols.iter().filter_map(|symbol| {
                // An indirect function's (STT_GNU_IFUNC) value is its resolver.
                let defined = symbol.st_shndx(endian) != raw::SHN_UNDEF && symbol.st_value(endian) != 0;
                if symbol.st_type() != raw::STT_FUNC || !defined {
                    return None;
                }
                Some(RawSymbol {
                    name: name_at(names, symbol.st_name(endian))?,
                    address: symbol.st_value(endian),
                    size: symbol.st_size(endian),
                    exported,
                })
            }));
        }
        Ok(functions)
    }

    /// Looks into a function's code. `None` if the file holds none for it.
    fn found(
        &self,
        symbol: &RawSymbol<'data>,
        known: Known,
        starts: &[u64],
        addresses: &HashSet<u64>,
        probing: Probing,
    ) -> Option<FoundFunction> {
        let (offset, room) = self.facts.code_offset(symbol.address)?;
        let size = match symbol.size {
            0 => {
                let next = starts.get(starts.partition_point(|start| *start <= symbol.address));
                next.map_or(room, |next| next - symbol.address)
            }
            size => size,
        };
        let code = self.data.read_bytes_at(offset, size.min(room).min(MAX_CODE)).ok()?;
        let forwards_to =
            (known.shape == Shape::Free0).then(|| self.forward(code, symbol.address, addresses)).flatten();
        Some(FoundFunction {
            symbol: String::from_utf8_lossy(symbol.name).into_owned(),
            known,
            address: symbol.address,
            offset,
            exported: symbol.exported,
            probing,
            forwards_to,
        })
    }

    /// The function whose results an operator only hands on, or whose blocks it gives with something before them.
    fn passes_to(
        &self,
        image: &Image<'data>,
        address: u64,
        shape: Shape,
        addresses: &HashSet<u64>,
        allocating: &[u64],
    ) -> Option<u64> {
        let probed: Vec<u64> = addresses.iter().copied().collect();
        let request = Request { entry: address, shape, probed: &probed, emulation: self.emulation };
        let found =
            || cut::passes_through(image, &request).or_else(|| cut::works_by(image, &request, allocating));
        shape.allocates().then(found).flatten()
    }

    /// Where the calls of the function at `address` are seen.
    fn probing(
        &self,
        image: &Image<'data>,
        address: u64,
        shape: Shape,
        addresses: &HashSet<u64>,
        frees: &HashSet<u64>,
    ) -> Probing {
        if self.entries.as_ref().is_some_and(|entries| entries.is_inside(address)) {
            let why = "its symbol leads into the middle of a function, where a probe could do harm";
            return Probing::Refused(why.to_owned());
        }
        let emulation = self.emulation;
        if !shape.allocates() {
            return match cut::one_site(image, address, shape, emulation) {
                Ok(site) => {
                    let range = image.function_at(address);
                    // What a thread's end gives back was freed by the program before.
                    let own = [Some(range.clone()), image.thread_end()].into_iter().flatten();
                    let reached = |own: Range<u64>| (own.clone(), self.reached_from(image, &own, addresses));
                    let calls = own.map(reached).collect();
                    let passes_on = self.goes_on_in(image, range.clone(), addresses);
                    let cut = Box::new(Cut { passes_on, ..Cut::of_free(site, range) });
                    Probing::Sites { cut, calls }
                }
                Err(why) => Probing::Refused(why.to_string()),
            };
        }
        let probed: Vec<u64> = addresses.iter().copied().collect();
        match cut::analyse(image, &Request { entry: address, shape, probed: &probed, emulation }) {
            Ok(cut) => {
                let own = cut.own_code.iter();
                let calls = own.map(|range| (range.clone(), self.reached_from(image, range, addresses)));
                // What other functions run through, too: of its frees only those count that end a live block.
                let parts = cut.bytes.iter().map(|(start, length)| *start..start.saturating_add(*length));
                let shared = parts.filter(|part| {
                    !cut.own_code.iter().any(|own| own.start < part.end && part.start < own.end)
                });
                let frees = shared.map(|part| {
                    let targets = self.called_in(image, &part, frees);
                    (part, targets)
                });
                let calls = calls.chain(frees).filter(|(_, targets)| !targets.is_empty()).collect();
                Probing::Sites { cut: Box::new(cut), calls }
            }
            Err(why) => Probing::Refused(why.to_string()),
        }
    }

    /// Which of the functions at `addresses` a call in `range` may go on in, by jumps alone.
    fn goes_on_in(&self, image: &Image<'data>, range: Range<u64>, addresses: &HashSet<u64>) -> Vec<u64> {
        /// Functions on the way: cold parts, and what does the work for several.
        const MOST: usize = 16;
        let mut found = std::collections::BTreeSet::new();
        let mut ranges = vec![range];
        let mut next = 0;
        while let Some(range) = ranges.get(next).cloned() {
            next += 1;
            for target in self.near_targets(&range, true).map(|target| image.callee(target)) {
                if addresses.contains(&target) {
                    found.insert(target);
                } else if !ranges.iter().any(|range| range.contains(&target)) && ranges.len() < MOST {
                    ranges.push(image.function_at(target));
                }
            }
        }
        found.into_iter().collect()
    }

    /// Where the direct calls of a range go or, if `jumps`, its direct jumps.
    fn near_targets(&self, range: &Range<u64>, jumps: bool) -> impl Iterator<Item = u64> + use<'data, R> {
        let code = self.facts.code_offset(range.start).and_then(|(offset, room)| {
            let length = (range.end - range.start).min(room).min(MAX_CODE);
            self.data.read_bytes_at(offset, length).ok()
        });
        let decoder = Decoder::with_ip(64, code.unwrap_or_default(), range.start, DecoderOptions::NONE);
        let near = decoder.into_iter().filter(move |i| {
            i.op0_kind() == OpKind::NearBranch64 && (i.flow_control() != FlowControl::Call) == jumps
        });
        near.map(|i| i.near_branch_target()).collect::<Vec<_>>().into_iter()
    }

    /// Which of the functions at `addresses` the code of a range calls.
    fn called_in(&self, image: &Image<'data>, range: &Range<u64>, addresses: &HashSet<u64>) -> Vec<u64> {
        let targets = self.near_targets(range, false).map(|target| image.callee(target));
        let targets = targets.filter(|target| addresses.contains(target));
        targets.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The same, and those in which a function that it calls goes on by a jump: they, too, return to this code. glibc's
    /// posix_memalign calls what goes on in malloc where that aligns well enough.
    fn reached_from(&self, image: &Image<'data>, range: &Range<u64>, addresses: &HashSet<u64>) -> Vec<u64> {
        let targets = self.near_targets(range, false).map(|target| image.callee(target));
        let targets: std::collections::BTreeSet<u64> = targets.collect();
        let (probed, others): (Vec<u64>, Vec<u64>) =
            targets.into_iter().partition(|target| addresses.contains(target));
        let others = others.into_iter().filter(|target| !range.contains(target));
        let further = others.flat_map(|target| {
            if let Some(known) = self.going_on.borrow().get(&target) {
                return known.clone();
            }
            let found = self.goes_on_in(image, image.function_at(target), addresses);
            self.going_on.borrow_mut().insert(target, found.clone());
            found
        });
        let reached: std::collections::BTreeSet<u64> = probed.into_iter().chain(further).collect();
        reached.into_iter().collect()
    }

    /// The function of another file by which the one at `address` does its work.
    fn works_elsewhere(&self, image: &Image<'data>, address: u64) -> Option<String> {
        let allocates = |name: &str| allocators::lookup(name).map(|known| known.shape.allocates());
        elsewhere::works_by(&Linked { file: self, image }, address, allocates)
    }

    /// What a freeing function hands its block on to, on every path.
    fn forward(&self, code: &[u8], address: u64, addresses: &HashSet<u64>) -> Option<Forward> {
        let targets = forward::targets(code, address)?;
        let mut resolved = targets.into_iter().map(|target| self.resolve(target, addresses));
        let first = resolved.next()??;
        resolved.all(|other| other.as_ref() == Some(&first)).then_some(first)
    }

    fn resolve(&self, target: Target, addresses: &HashSet<u64>) -> Option<Forward> {
        if let Target::Code(target) = target
            && addresses.contains(&target)
        {
            return Some(Forward::Address(target));
        }
        let slot = self.slot(target)?;
        self.slot_symbol(slot).map(|(name, _)| Forward::Symbol(name))
    }

    /// The name of what a call reaches by the dynamic linker, if this file has no function of that name itself.
    fn import(&self, target: Target) -> Option<String> {
        let slot = self.slot(target)?;
        self.slot_symbol(slot).filter(|(_, defined)| !defined).map(|(name, _)| name)
    }

    /// The slot that the dynamic linker fills, if that is where control goes on.
    fn slot(&self, target: Target) -> Option<u64> {
        match target {
            // Perhaps a stub of the procedure linkage table.
            Target::Code(target) => {
                let (offset, room) = self.facts.code_offset(target)?;
                let stub = self.data.read_bytes_at(offset, room.min(16)).ok()?;
                match forward::targets(stub, target)?.as_slice() {
                    [Target::Slot(slot)] => Some(*slot),
                    _ => None,
                }
            }
            Target::Slot(slot) => Some(slot),
        }
    }

    /// The name that the dynamic linker fills the slot at address `slot` for, and whether the file defines it itself.
    fn slot_symbol(&self, slot: u64) -> Option<(String, bool)> {
        let tables: HashMap<_, _> =
            self.tables(raw::SHT_DYNSYM).map(|(index, symbols, names)| (index, (symbols, names))).collect();
        self.sections.iter().find_map(|section| {
            let (relocations, link) = section.rela(self.endian, self.data).ok()??;
            let relocation = relocations.iter().find(|r| r.r_offset(self.endian) == slot)?;
            let (symbols, names) = tables.get(&link.0)?;
            let symbol = symbols.get(usize::try_from(relocation.r_sym(self.endian, false)).ok()?)?;
            let name = String::from_utf8_lossy(name_at(names, symbol.st_name(self.endian))?).into_owned();
            Some((name, symbol.st_shndx(self.endian) != raw::SHN_UNDEF))
        })
    }
}

/// A file's code and what the dynamic linker makes of it.
struct Linked<'a, 'data, 'facts, R> {
    file: &'a File<'data, 'facts, R>,
    image: &'a Image<'data>,
}

impl<'data, R: ReadRef<'data>> elsewhere::Code for Linked<'_, 'data, '_, R> {
    fn function(&self, address: u64) -> Option<(Range<u64>, &[u8])> {
        let range = self.image.function_at(address);
        let (offset, room) = self.file.facts.code_offset(range.start)?;
        let length = (range.end - range.start).min(MAX_CODE);
        let bytes =
            self.file.data.read_bytes_at(offset, Some(length).filter(|length| *length <= room)?).ok()?;
        (range.start == address).then_some((range, bytes))
    }

    fn imported(&self, target: Target) -> Option<String> {
        self.file.import(target)
    }
}

fn name_at(names: &[u8], offset: u32) -> Option<&[u8]> {
    let tail = names.get(usize::try_from(offset).ok()?..)?;
    Some(&tail[..tail.iter().position(|byte| *byte == 0)?])
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;
