//! An ELF file as the search for cuts sees it: code by address, functions by the unwind information, names, and what
//! refers to what. Reads nothing but the bytes it was given, and trusts none of them.

use super::frames::{Frames, Span};
use super::memory::Memory;
use super::references::{References, Swept};
use super::tables::{Sections, Slot, Tables};
use crate::process::elf::{self, ElfFacts, Header};
use iced_x86::{Code, Instruction, OpKind};
use object::elf as raw;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

/// More code than this is not searched for branches from afar: 40 times a C library's, and a second's work.
pub const MAX_TEXT: u64 = 64 << 20;

/// A file.
pub struct Image<'data> {
    pub(super) memory: Memory<'data>,
    pub(super) frames: Frames<'data>,
    pub(super) tables: Tables<'data>,
    /// Executable sections, or segments where there are none, in order.
    pub(super) code: Vec<Range<u64>>,
    /// Code that the kernel may restart elsewhere (rseq(2)), with where that is.
    pub(super) restartable: Vec<(Range<u64>, u64)>,
    /// Addresses are in the code and data themselves, without relocations.
    pub(super) fixed: bool,
    references: OnceLock<Option<References>>,
    functions: OnceLock<Vec<Span>>,
    stubs: OnceLock<HashMap<u64, Vec<u64>>>,
}

impl<'data> Image<'data> {
    /// `None` where the bytes are no ELF file with sections: relocations are found by those.
    pub fn new(data: &'data [u8], facts: &ElfFacts) -> Option<Self> {
        let (header, endian): (&'data Header, _) = elf::header(data).ok()?;
        let memory = Memory::new(data, facts);
        let sections = header.sections(endian, data).ok().filter(|sections| !sections.is_empty())?;
        if !elf::lie_apart(sections.iter().as_slice(), endian, data.len() as u64) {
            return None;
        }
        let code = sections
            .iter()
            .filter(|s| {
                s.sh_flags(endian).contains(raw::SHF_EXECINSTR) && s.sh_type(endian) != raw::SHT_NOBITS
            })
            .filter_map(|s| Some(s.sh_addr(endian)..s.sh_addr(endian).checked_add(s.sh_size(endian))?));
        let fixed = header.e_type(endian) == raw::ET_EXEC;
        let mut image = Self {
            frames: Frames::read(data, header, endian, facts),
            tables: Tables::read(Sections { data, endian, all: sections.iter().as_slice() }, &memory, fixed),
            code: code.filter(|range| memory.holds(range)).collect(),
            restartable: Vec::new(),
            fixed,
            references: OnceLock::new(),
            functions: OnceLock::new(),
            stubs: OnceLock::new(),
            memory,
        };
        if image.code.is_empty() {
            let executable = facts.loads.iter().filter(|load| load.executable);
            let ranges = executable.filter_map(|l| Some(l.address..l.address.checked_add(l.size)?));
            image.code = ranges.filter(|range| image.memory.holds(range)).collect();
        }
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
        let is_restartable = |s: &&raw::SectionHeader64<object::Endianness>| {
            sections.section_name(endian, s).is_ok_and(|name| name == b"__rseq_cs")
        };
        if let Some(section) = sections.iter().find(is_restartable) {
            image.read_restartable(section.sh_addr(endian), section.sh_size(endian));
        }
        Some(image)
    }

    /// `struct rseq_cs` of linux/rseq.h: version, flags, start, length, where to go.
    fn read_restartable(&mut self, address: u64, size: u64) {
        const SIZE: u64 = 32;
        for at in (0..size / SIZE).map(|index| address.wrapping_add(index * SIZE)) {
            let memory = &self.memory;
            let field = |place| self.tables.places.get(&place).copied().or_else(|| memory.word(place));
            let (start, length, abort) =
                (field(at.wrapping_add(8)), memory.word(at.wrapping_add(16)), field(at.wrapping_add(24)));
            if let (Some(start), Some(length), Some(abort)) = (start, length, abort) {
                self.restartable.push((start..start.saturating_add(length), abort));
            }
        }
    }

    /// The bytes of an instruction.
    pub(super) fn bytes_of(&self, instruction: &Instruction) -> &'data [u8] {
        self.memory
            .bytes(instruction.ip())
            .and_then(|bytes| bytes.get(..instruction.len()))
            .unwrap_or_default()
    }

    /// The name of what a slot is filled with.
    pub(super) fn slot_name(&self, slot: u64) -> Option<&'data str> {
        match *self.tables.slots.get(&slot)? {
            Slot::Symbol(name) => Some(name),
            Slot::Chosen(chooser) => self.tables.chosen.get(&chooser).copied(),
        }
    }

    /// The name of a function: its own, or that behind a stub of the procedure linkage table.
    pub(super) fn name(&self, address: u64) -> Option<&'data str> {
        self.stub_name(address).or_else(|| self.tables.names.get(&address).copied())
    }

    /// Where glibc empties the cache of a thread that ends, if symbols tell.
    pub fn thread_end(&self) -> Option<Range<u64>> {
        Some(self.function_at(self.tables.thread_end?))
    }

    /// The name behind a stub.
    pub(super) fn stub_name(&self, address: u64) -> Option<&'data str> {
        let first = self.memory.instruction(address)?;
        let jump =
            if first.code() == Code::Endbr64 { self.memory.instruction(first.next_ip())? } else { first };
        let is_stub = jump.code() == Code::Jmp_rm64 && jump.op0_kind() == OpKind::Memory;
        (is_stub && jump.is_ip_rel_memory_operand())
            .then(|| self.slot_name(jump.ip_rel_memory_address()))
            .flatten()
    }

    /// The code of the function at `address`, as far as that is known.
    pub fn function_at(&self, address: u64) -> Range<u64> {
        let span = self.function(address);
        span.map_or(address..address.saturating_add(1), |span| span.start..span.end)
    }

    /// Where a call to `target` goes: to the function behind it, if it is a stub for one of this file's.
    pub fn callee(&self, target: u64) -> u64 {
        self.stub_name(target).and_then(|name| self.definition(name)).unwrap_or(target)
    }

    /// Where this file defines a name for others.
    pub(super) fn definition(&self, name: &str) -> Option<u64> {
        self.tables.defined.get(name).copied()
    }

    /// Whether other files can call what is at `address`.
    pub(super) fn is_exported(&self, address: u64) -> bool {
        self.tables.exported.contains(&address)
    }

    /// All branches and pointers from one function into another; `None` if there is too much code for it.
    pub(super) fn references(&self) -> Option<&References> {
        let size: u64 = self.code.iter().map(|range| range.end - range.start).sum();
        let file = || Swept {
            memory: &self.memory,
            code: &self.code,
            spans: &self.frames.spans,
            pointers: &self.tables.pointers,
            fixed: self.fixed,
        };
        self.references.get_or_init(|| (size <= MAX_TEXT).then(|| References::read(&file()))).as_ref()
    }

    /// The functions in order: by the unwind information or, where there is none, from one address that is called
    /// or has a name to the next.
    pub(super) fn functions(&self) -> &[Span] {
        if !self.frames.spans.is_empty() {
            return &self.frames.spans;
        }
        self.functions.get_or_init(|| {
            let mut starts: Vec<u64> =
                self.tables.names.keys().chain(&self.tables.pointers).copied().collect();
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

    /// Where functions begin, in order.
    pub fn entries(&self) -> impl Iterator<Item = u64> + '_ {
        self.functions().iter().map(|span| span.start)
    }

    /// The function that holds `address`.
    pub(super) fn function(&self, address: u64) -> Option<&Span> {
        let functions = self.functions();
        let after = functions.partition_point(|span| span.start <= address);
        functions.get(after.checked_sub(1)?).filter(|span| address < span.end)
    }

    /// The stubs through which this file calls its own function at `address`, as others would.
    pub(super) fn stubs(&self, address: u64) -> &[u64] {
        let stubs = self.stubs.get_or_init(|| {
            let mut stubs: HashMap<u64, Vec<u64>> = HashMap::new();
            for called in self.references().iter().flat_map(|references| references.called()) {
                if let Some(defined) = self.stub_name(*called).and_then(|name| self.definition(name)) {
                    stubs.entry(defined).or_default().push(*called);
                }
            }
            stubs
        });
        stubs.get(&address).map(Vec::as_slice).unwrap_or_default()
    }

    /// Code at an address, as functions of the given spans, without unwind information.
    #[doc(hidden)]
    pub fn of_code(address: u64, code: &'data [u8], spans: &[Range<u64>]) -> Self {
        let spans = spans
            .iter()
            .map(|span| Span { start: span.start, end: span.end, offset: None, landing: None })
            .collect();
        Self {
            memory: Memory::of_code(address, code),
            frames: Frames::of_spans(spans),
            tables: Tables::default(),
            code: std::iter::once(address..address.saturating_add(code.len() as u64)).collect(),
            restartable: Vec::new(),
            fixed: false,
            references: OnceLock::new(),
            functions: OnceLock::new(),
            stubs: OnceLock::new(),
        }
    }
}

#[cfg(test)]
impl<'data> Image<'data> {
    /// What the dynamic linker fills a slot with.
    pub(super) fn set_slot(&mut self, slot: u64, name: &'data str) {
        self.tables.slots.insert(slot, Slot::Symbol(name));
    }

    pub(super) fn set_name(&mut self, address: u64, name: &'data str) {
        self.tables.names.insert(address, name);
        self.tables.exported.insert(address);
        self.tables.defined.insert(name, address);
    }
}
