//! Samples that an allocator chooses and tells of itself, by probes that its file offers (USDT, `.note.stapsdt`): where
//! they are, and where each has its arguments.
//!
//! The contract is that of the OpenTelemetry eBPF profiler (design document 00003): `otel_memory:alloc(pointer, size,
//! weight)` for an allocation that was chosen, `otel_memory:free(pointer)` for the free of one. Releases of
//! libdd-profiling-heap-sampler so far call the provider `ddheap`. The notes are systemtap's, version 3
//! (sourceware.org/systemtap/wiki/UserSpaceProbeImplementation).

use super::{
    cut::Kind,
    entries::Entries,
    probe::{Probe, Site},
    proof::Proof,
};
use crate::model::OWN_SAMPLES as PROVIDERS;
use crate::process::elf::{self, ElfError, ElfFacts, Sparing};
use heaptrace_common::{
    function::{Function, Shape},
    probe::{Operand, ProbeRecord, Role, Width},
};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use object::{
    Endianness, ReadRef,
    elf::{
        NoteType, SHF_ALLOC, SHF_WRITE, SHT_DYNSYM, SHT_NOTE, SHT_PROGBITS, SHT_SYMTAB, STT_FUNC,
        SectionHeader64,
    },
    read::elf::{FileHeader as _, NoteIterator, SectionHeader as _, Sym as _, SymbolTable},
};
use std::{cell::Cell, fmt, ops::Range, sync::Arc};

/// A larger section of notes is not read; the C library has 2 KiB of them.
const MAX_NOTES: u64 = 1 << 20;

/// Probes of one name in one file, of which each is a place that the compiler put it at.
const MAX_SITES: usize = 64;

const NOTE_OWNER: &[u8] = b"stapsdt";
const NOTE_KIND: u32 = 3;

/// What a file offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnSamples {
    pub allocs: Vec<Offered>,
    pub frees: Vec<Offered>,
    /// Probes that cannot be used, and why.
    refusals: Vec<String>,
    proof: Arc<Proof>,
}

/// A probe that a file offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    provider: &'static str,
    name: &'static str,
    /// File offset of the instruction.
    offset: u64,
    emulated: bool,
    /// File offset of the 16 bits that are not 0 while somebody listens; 0 if there are none.
    semaphore: u64,
    operands: Vec<(Operand, Width)>,
}

/// Why a probe is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unusable {
    /// Fewer arguments than it should have, or such as cannot be had from outside.
    Arguments(String),
    /// It does not lie in the file's code, or on no `nop`.
    Place,
    /// See [`Unusable::fmt`].
    RedZone,
    /// It is not where semaphores are, or not 0.
    Semaphore,
}

impl fmt::Display for Unusable {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments(arguments) => write!(to, "its arguments \"{arguments}\" cannot be read from outside"),
            Self::Place => to.write_str("there is no nop where it should be"),
            Self::RedZone => to.write_str(
                "it lies on a nop of five bytes within a function, where Linux from 6.18 on would overwrite what the \
                 function keeps below its stack pointer",
            ),
            Self::Semaphore => to.write_str("its semaphore is not among the file's (.probes), or not 0 in it"),
        }
    }
}

/// A note, as it is in the file.
struct Note<'data> {
    address: u64,
    semaphore: u64,
    provider: &'data str,
    name: &'data str,
    arguments: &'data str,
}

impl OwnSamples {
    /// Reads what a file offers; nothing where it is damaged.
    pub fn read<'data, R: ReadRef<'data>>(data: R, facts: &ElfFacts) -> Self {
        Self::try_read(data, facts).unwrap_or_default()
    }

    fn try_read<'data, R: ReadRef<'data>>(data: R, facts: &ElfFacts) -> Result<Self, ElfError> {
        let left = Cell::new(MAX_READ);
        let spared = Sparing::new(data, &left);
        let (header, endian): (&'data elf::Header, Endianness) = elf::header(spared)?;
        let Ok(sections) = header.sections(endian, spared) else { return Ok(Self::default()) };
        let named = |name: &[u8]| sections.section_by_name(endian, name).map(|(_, section)| section);
        let Some(section) = named(b".note.stapsdt")
            .filter(|section| section.sh_type(endian) == SHT_NOTE && section.sh_size(endian) <= MAX_NOTES)
        else {
            return Ok(Self::default());
        };
        // Where the notes' section was when they were written; tools that move a file's addresses leave them as they are.
        let base = named(b".stapsdt.base").map(|section| section.sh_addr(endian));
        let notes = notes(section, endian, spared, base);
        if notes.is_empty() {
            return Ok(Self::default());
        }
        let semaphores = named(b".probes").filter(|section| {
            let flags = section.sh_flags(endian);
            section.sh_type(endian) == SHT_PROGBITS
                && flags & (SHF_WRITE | SHF_ALLOC) == SHF_WRITE | SHF_ALLOC
        });
        let semaphores = semaphores.and_then(|section| {
            let (offset, size) = section.file_range(endian)?;
            let start = section.sh_addr(endian);
            Some(Semaphores { addresses: start..start.checked_add(size)?, offset })
        });
        let file = File {
            code_left: Cell::new(MAX_CODE),
            data,
            facts,
            entries: Entries::read(data, header, endian, facts),
            semaphores,
            is_function: |address| {
                let of = |kind| sections.symbols(endian, spared, kind).ok();
                let tables = [SHT_SYMTAB, SHT_DYNSYM].into_iter().filter_map(of);
                tables.into_iter().any(|table| begins_function(&table, endian, address))
            },
        };
        let mut of = PROVIDERS.map(|provider| file.offered_by(provider, &notes));
        // Who tells of allocations in a way that can be used; else why nobody does.
        let usable = of.iter().position(Self::is_any);
        let chosen = usable.or_else(|| of.iter().position(|own| !own.refusals.is_empty()));
        Ok(chosen.map(|chosen| std::mem::take(&mut of[chosen])).unwrap_or_default())
    }

    /// What it does not tell, a sentence each.
    pub fn refusals(&self) -> impl Iterator<Item = String> + '_ {
        let no_frees = self.is_any() && self.frees.is_empty();
        let no_frees = no_frees.then(|| {
            format!(
                "it tells of no frees ({}:free): what is live of its samples is at most so much",
                self.provider()
            )
        });
        self.refusals.iter().cloned().chain(no_frees)
    }

    /// Whether it tells of allocations.
    pub fn is_any(&self) -> bool {
        !self.allocs.is_empty()
    }

    /// What all its sites rest on.
    pub fn proof(&self) -> Arc<Proof> {
        Arc::clone(&self.proof)
    }

    /// The provider of what is offered.
    pub fn provider(&self) -> &'static str {
        self.allocs.first().map_or(PROVIDERS[0], |probe| probe.provider)
    }

    /// ELF virtual addresses of the allocations' probes, at which stacks begin.
    pub fn addresses(&self, facts: &ElfFacts) -> impl Iterator<Item = u64> {
        self.allocs.iter().filter_map(|probe| facts.address_of(probe.offset))
    }

    /// Where its probes go, in order of offset.
    pub fn probes(&self) -> Vec<Probe> {
        let of = |offered: &[Offered], role| {
            let first = offered.first()?;
            let mut sites: Vec<Site> = offered.iter().map(|probe| probe.site(role)).collect();
            sites.sort_by_key(|site| site.offset);
            sites.dedup_by_key(|site| site.offset);
            Some(Probe {
                symbol: format!("{}:{}", first.provider, first.name),
                function: Function::Sampled,
                shape: if role == Role::Sample { Shape::Size0 } else { Shape::Free0 },
                entry: sites.first()?.offset,
                kind: Kind::OneTrap,
                sites,
                unseen_exits: 0,
                why: None,
                entered: None,
                ends_here: true,
            })
        };
        let mut probes: Vec<Probe> =
            of(&self.allocs, Role::Sample).into_iter().chain(of(&self.frees, Role::SampleFree)).collect();
        probes.sort_by_key(|probe| probe.entry);
        probes
    }
}

impl Offered {
    fn site(&self, role: Role) -> Site {
        let shape = if role == Role::Sample { Shape::Size0 } else { Shape::Free0 };
        let empty = ProbeRecord::new(Function::Sampled, shape, role);
        let operands = self.operands.iter().enumerate();
        let record =
            operands.fold(empty, |record, (index, (of, width))| record.with_operand(index, *of, *width));
        Site {
            offset: self.offset,
            record,
            emulated: self.emulated,
            text: "nop".to_owned(),
            semaphore: self.semaphore,
        }
    }
}

/// The notes of a section that are of providers that tell of samples.
fn notes<'data, R: ReadRef<'data>>(
    section: &SectionHeader64<Endianness>,
    endian: Endianness,
    data: R,
    base: Option<u64>,
) -> Vec<Note<'data>> {
    let Ok(Some(notes)): Result<Option<NoteIterator<'data, elf::Header>>, _> = section.notes(endian, data)
    else {
        return Vec::new();
    };
    let notes = notes.filter_map(Result::ok);
    let of_kind =
        notes.filter(|note| note.name() == NOTE_OWNER && note.n_type(endian) == NoteType(NOTE_KIND));
    of_kind
        .filter_map(|note| Note::parse(note.desc(), base))
        .filter(|note| PROVIDERS.contains(&note.provider))
        .collect()
}

impl<'data> Note<'data> {
    /// Three addresses, then three texts that end with a NUL.
    fn parse(bytes: &'data [u8], base: Option<u64>) -> Option<Self> {
        let address = |n: usize| Some(u64::from_le_bytes(bytes.get(8 * n..8 * n + 8)?.try_into().ok()?));
        let (address, was, semaphore) = (address(0)?, address(1)?, address(2)?);
        let mut texts = bytes.get(24..)?.split(|byte| *byte == 0).map(std::str::from_utf8);
        let mut text = || texts.next()?.ok();
        let moved = base.filter(|_| was != 0).map_or(0, |base| base.wrapping_sub(was));
        Some(Self {
            address: address.wrapping_add(moved),
            semaphore: if semaphore == 0 { 0 } else { semaphore.wrapping_add(moved) },
            provider: text()?,
            name: text()?,
            arguments: text()?,
        })
    }
}

/// Where a file has its semaphores.
struct Semaphores {
    addresses: Range<u64>,
    /// In the file.
    offset: u64,
}

/// A file whose notes are looked into.
struct File<'data, 'facts, R, F> {
    /// How many more bytes of code are gone through.
    code_left: Cell<u64>,
    data: R,
    facts: &'facts ElfFacts,
    entries: Option<Entries<'data>>,
    semaphores: Option<Semaphores>,
    /// Whether a function that is called begins at an address.
    is_function: F,
}

/// Bytes of a file, and where in it they are.
type Read<'data> = (u64, &'data [u8]);

impl<'data, R: ReadRef<'data>, F: Fn(u64) -> bool> File<'data, '_, R, F> {
    /// What the notes of a provider come to.
    fn offered_by(&self, provider: &'static str, notes: &[Note<'_>]) -> OwnSamples {
        let mut own = OwnSamples::default();
        let mut rests_on = Vec::new();
        for (name, arguments) in [("alloc", 3), ("free", 1)] {
            let of_name = notes.iter().filter(|note| note.provider == provider && note.name == name);
            for note in of_name.take(MAX_SITES) {
                match self.offered(note, (provider, name), arguments) {
                    Ok((probe, read)) => {
                        rests_on.extend(read);
                        if arguments == 3 { &mut own.allocs } else { &mut own.frees }.push(probe);
                    }
                    Err(why) => own.refusals.push(format!("{provider}:{name}: {why}")),
                }
            }
        }
        own.proof = Arc::new(Proof::of_bytes(rests_on));
        own
    }

    /// A note's probe, and what it rests on.
    fn offered(
        &self,
        note: &Note<'_>,
        (provider, name): (&'static str, &'static str),
        arguments: usize,
    ) -> Result<(Offered, Vec<Read<'data>>), Unusable> {
        let Self { data, facts, entries, is_function, .. } = self;
        let function = entries.as_ref().and_then(|entries| entries.function_at(note.address));
        let function = function.ok_or(Unusable::Place)?;
        let (start, room) = facts.code_offset(function.start).ok_or(Unusable::Place)?;
        let length = (function.end - function.start).min(room).min(MAX_FUNCTION);
        let code = data.read_bytes_at(start, length).map_err(|()| Unusable::Place)?;
        let left = self.code_left.get().checked_sub(note.address - function.start).ok_or(Unusable::Place)?;
        self.code_left.set(left);
        let instruction = nop(code, function.start, note.address).ok_or(Unusable::Place)?;
        let offset = start + (note.address - function.start);
        // A probe on such a one becomes a call, which pushes its return address. Where a function begins that is called, nothing
        // is below the stack pointer; unwind information alone does not say: a cold part has its own.
        if instruction.len() == 5 && !(function.start == note.address && is_function(note.address)) {
            return Err(Unusable::RedZone);
        }
        let mut rests_on = vec![(start, &code[..(offset - start) as usize + instruction.len()])];
        let semaphore = match note.semaphore {
            0 => 0,
            address => {
                let at = self.semaphore(address).ok_or(Unusable::Semaphore)?;
                rests_on.push(at);
                at.0
            }
        };
        let unreadable = || Unusable::Arguments(note.arguments.to_owned());
        let operands: Option<Vec<_>> =
            note.arguments.split_ascii_whitespace().take(arguments).map(parse).collect();
        let operands = operands.filter(|of| of.len() == arguments).ok_or_else(unreadable)?;
        let emulated = instruction.len() == 1;
        Ok((Offered { provider, name, offset, emulated, semaphore, operands }, rests_on))
    }

    /// Where a semaphore is in the file: among such, and 0 before anybody counts it up.
    fn semaphore(&self, address: u64) -> Option<Read<'data>> {
        let Semaphores { addresses, offset } = self.semaphores.as_ref()?;
        let is_there =
            address.is_multiple_of(2) && addresses.contains(&address) && addresses.contains(&(address + 1));
        let at = offset.checked_add(address.checked_sub(addresses.start)?)?;
        // What is mapped there is this, and can be written to.
        let (mapped, room) = self.facts.file_offset(address)?;
        let bytes = self.data.read_bytes_at(at, 2).ok()?;
        (is_there && mapped == at && at != 0 && room >= 2 && bytes == [0, 0]).then_some((at, bytes))
    }
}

/// Whether a function begins at an address, by a table of symbols. Not one of the parts that compilers lay apart.
fn begins_function<'data, R: ReadRef<'data>>(
    table: &SymbolTable<'data, elf::Header, R>,
    endian: Endianness,
    address: u64,
) -> bool {
    table.iter().any(|symbol| {
        symbol.st_value(endian) == address
            && symbol.st_type() == STT_FUNC
            && symbol
                .name(endian, table.strings())
                .is_ok_and(|name| !name.windows(COLD.len()).any(|part| part == COLD))
    })
}

/// In the name of a function's part.
const COLD: &[u8] = b".cold";

/// The most of a file that is read for its notes and symbols.
const MAX_READ: u64 = 256 << 20;

/// More of a function is not gone through.
const MAX_FUNCTION: u64 = 1 << 20;

/// More of all functions with probes is not: some tenths of a second's work.
const MAX_CODE: u64 = 8 << 20;

/// The instruction at `address` in a function's code, which begins at `start`, if it does nothing and may be probed. A file that
/// was changed since may have others there: from the function's beginning on, one must begin at the address.
fn nop(code: &[u8], start: u64, address: u64) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    while decoder.can_decode() && decoder.ip() < address {
        if decoder.decode().is_invalid() {
            return None;
        }
    }
    if decoder.ip() != address || !decoder.can_decode() {
        return None;
    }
    let bytes = &code[decoder.position()..];
    let instruction = decoder.decode();
    let is_plain = bytes.starts_with(&[0x90]) || bytes.starts_with(&[0x0f, 0x1f]);
    let is_nop = matches!(instruction.code(), Code::Nopd | Code::Nop_rm32);
    (is_plain && is_nop).then_some(instruction)
}

/// An argument in the assembler's notation with its width before it: `8@%rdi`, `-4@$12`, `8@-24(%rbp)`.
fn parse(text: &str) -> Option<(Operand, Width)> {
    let (width, place) = text.split_once('@')?;
    let width: Width = width.strip_prefix('-').unwrap_or(width).parse().ok()?;
    if !matches!(width, 1 | 2 | 4 | 8) {
        return None;
    }
    if let Some(number) = place.strip_prefix('$') {
        return Some((Operand::Constant(number_of(number)?), width));
    }
    if let Some(name) = place.strip_prefix('%') {
        return Some((Operand::Register(register(name)?), width));
    }
    let (displacement, base) = place.strip_suffix(')')?.split_once('(')?;
    let displacement = if displacement.is_empty() { 0 } else { number_of(displacement)? };
    // rip is not among the registers, and what has an index has a comma.
    let base =
        base.strip_prefix('%').filter(|name| name.starts_with('r') && !name.ends_with(['d', 'w', 'b']))?;
    Some((Operand::Memory { base: register(base)?, displacement }, width))
}

fn number_of(text: &str) -> Option<i32> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<i64>().ok()?,
    };
    i32::try_from(if negative { -number } else { number }).ok()
}

/// The number of a general register's low part, whatever its width. Not of the second bytes (`ah`).
fn register(name: &str) -> Option<u8> {
    const NAMES: [[&str; 4]; 8] = [
        ["rax", "eax", "ax", "al"],
        ["rcx", "ecx", "cx", "cl"],
        ["rdx", "edx", "dx", "dl"],
        ["rbx", "ebx", "bx", "bl"],
        ["rsp", "esp", "sp", "spl"],
        ["rbp", "ebp", "bp", "bpl"],
        ["rsi", "esi", "si", "sil"],
        ["rdi", "edi", "di", "dil"],
    ];
    if let Some(number) = NAMES.iter().position(|names| names.contains(&name)) {
        return u8::try_from(number).ok();
    }
    let digits = name.strip_prefix('r')?.trim_end_matches(['d', 'w', 'b']);
    digits.parse().ok().filter(|number| (8..16).contains(number))
}

#[cfg(test)]
#[path = "own_samples_tests.rs"]
mod tests;
