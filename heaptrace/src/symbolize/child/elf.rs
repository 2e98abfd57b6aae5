//! Names and lines from ELF files and DWARF. Only this file knows blazesym.
//!
//! Separate debug files are the parent's to find. blazesym would look for them itself, by whatever path a file names;
//! in the child there are no paths.

use super::guard::guarded;
use super::tables::Tables;
use crate::{
    demangle::demangled,
    model::{BuildId, Symbol},
    symbolize::wire::{Depth, Facts},
};
use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer};
use object::read::ReadCache;
use object::{Object as _, ObjectSegment as _, SegmentFlags};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// What the file at `path` says of itself, if it is an ELF file.
pub fn facts(path: &Path) -> Option<Facts> {
    let build_id = guarded(|| {
        let id = blazesym::helper::read_elf_build_id(path).ok()?;
        Some(id.map(|id| BuildId(id.to_vec())))
    })?;
    let links = guarded(|| {
        let data = ReadCache::new(open(path)?);
        let elf = object::File::parse(&data).ok()?;
        let link = elf.gnu_debuglink().ok().flatten().map(|(name, crc)| (name.to_vec(), crc));
        let has_supplement =
            [".gnu_debugaltlink", ".debug_sup"].iter().any(|name| elf.section_by_name(name).is_some());
        Some((link, has_supplement))
    });
    let (link, has_supplement) = links.unwrap_or_default();
    Some(Facts { build_id, link, has_supplement })
}

/// The paths here are names of descriptors that the parent has opened.
#[expect(clippy::disallowed_methods, reason = "the child can open nothing else")]
fn open(path: &Path) -> Option<File> {
    File::open(path).ok()
}

/// An ELF file, and its debug file if there is one.
pub struct ElfFile {
    binary: Names,
    debug: Option<Reader>,
    /// The binary's; `None` if that cannot be read.
    segments: Option<Vec<Segment>>,
}

/// Where the binary's names are.
enum Names {
    Reader(Box<Reader>),
    Tables(Tables),
}

impl ElfFile {
    pub fn new(binary: &Path, debug: Option<&Path>, depth: Depth) -> Self {
        let segments = segments(binary);
        let tables = guarded(|| Tables::of(&ReadCache::new(open(binary)?)));
        Self {
            binary: tables.map_or_else(|| Names::Reader(Box::new(Reader::new(binary, depth))), Names::Tables),
            debug: debug.map(|debug| Reader::new(debug, depth)),
            segments,
        }
    }

    /// Symbols at these file offsets of the binary: for each, innermost inlined function first, the enclosing one last.
    pub fn names(&mut self, offsets: &[u64]) -> Vec<Vec<Symbol>> {
        let mut found = vec![Vec::new(); offsets.len()];
        let address = |offset| self.segments.as_ref().and_then(|segments| address(segments, offset));
        if let Some(debug) = self.debug.as_mut().filter(|_| self.segments.is_some()) {
            // The debug file's own offsets mean nothing.
            let addresses: Vec<u64> =
                offsets.iter().map(|&offset| address(offset).unwrap_or(NOWHERE)).collect();
            fill(&mut found, debug.ask(Input::VirtOffset(&addresses)));
        }
        if found.iter().any(Vec::is_empty) {
            match &mut self.binary {
                Names::Reader(reader) => {
                    // A debug file in the binary's place may have no code, and then these offsets mean nothing in it.
                    let is_code = |offset: u64| {
                        let holds = |of: &Segment| of.is_code && of.holds(offset);
                        self.segments.as_ref().is_none_or(|segments| segments.iter().any(holds))
                    };
                    let offsets: Vec<u64> = offsets
                        .iter()
                        .map(|&offset| if is_code(offset) { offset } else { NOWHERE })
                        .collect();
                    fill(&mut found, reader.ask(Input::FileOffset(&offsets)));
                }
                Names::Tables(tables) => {
                    let name = |&offset: &u64| tables.name(address(offset)?);
                    let symbols = |offset| name(offset).map(|name| symbol(name, None, false));
                    fill(
                        &mut found,
                        offsets.iter().map(|offset| symbols(offset).into_iter().collect()).collect(),
                    );
                }
            }
        }
        found
    }
}

/// Puts symbols where there are none yet.
fn fill(found: &mut [Vec<Symbol>], more: Vec<Vec<Symbol>>) {
    for (symbols, more) in found.iter_mut().zip(more) {
        if symbols.is_empty() {
            *symbols = more;
        }
    }
}

/// What of a file is mapped.
#[derive(Clone, Copy)]
struct Segment {
    offset: u64,
    length: u64,
    address: u64,
    is_code: bool,
}

impl Segment {
    fn holds(&self, offset: u64) -> bool {
        offset.checked_sub(self.offset).is_some_and(|within| within < self.length)
    }
}

/// The ELF address of a file offset.
fn address(segments: &[Segment], offset: u64) -> Option<u64> {
    let segment = segments.iter().find(|of| of.holds(offset))?;
    segment.address.checked_add(offset - segment.offset)
}

fn segments(binary: &Path) -> Option<Vec<Segment>> {
    let data = ReadCache::new(open(binary)?);
    let elf = object::File::parse(&data).ok()?;
    let segments = elf.segments();
    Some(
        segments
            .map(|segment| {
                let (offset, length) = segment.file_range();
                let flags = segment.flags();
                let is_code =
                    matches!(flags, SegmentFlags::Elf { p_flags, .. } if p_flags.0 & object::elf::PF_X.0 != 0);
                Segment { offset, length, address: segment.address(), is_code }
            })
            .collect(),
    )
}

/// One file, and what was parsed of it.
struct Reader {
    path: PathBuf,
    depth: Depth,
    symbolizer: Symbolizer,
}

impl Reader {
    fn new(path: &Path, depth: Depth) -> Self {
        Self { path: path.into(), depth, symbolizer: symbolizer() }
    }

    /// As many lists as places, or none where the file cannot be read.
    fn ask(&mut self, input: Input<&[u64]>) -> Vec<Vec<Symbol>> {
        loop {
            if let Some(found) = self.try_ask(input) {
                return found;
            }
            // A panic may have left anything behind.
            self.symbolizer = symbolizer();
            match self.depth {
                // Damaged DWARF should not cost the names that .symtab has.
                Depth::Full => self.depth = Depth::Tables,
                Depth::Tables => return Vec::new(),
            }
        }
    }

    fn try_ask(&self, input: Input<&[u64]>) -> Option<Vec<Vec<Symbol>>> {
        guarded(|| {
            let mut found = self.look_up(input, self.depth)?;
            if self.depth == Depth::Full {
                self.qualify(input, &mut found);
            }
            Some(found)
        })
    }

    fn look_up(&self, input: Input<&[u64]>, depth: Depth) -> Option<Vec<Vec<Symbol>>> {
        let mut elf = Elf::new(&self.path);
        elf.debug_syms = depth == Depth::Full;
        let answers = self.symbolizer.symbolize(&Source::Elf(elf), input).ok()?;
        Some(answers.iter().map(|answer| answer.as_sym().map(symbols_of).unwrap_or_default()).collect())
    }

    /// Where debug information has lines alone (`-gline-tables-only`, rustc's `line-tables-only`) a function has no more than its
    /// last name there, and all of it in the symbol table.
    fn qualify(&self, input: Input<&[u64]>, found: &mut [Vec<Symbol>]) {
        let bare: Vec<usize> = found
            .iter()
            .enumerate()
            .filter(|(_, of)| of.last().is_some_and(is_bare))
            .map(|(at, _)| at)
            .collect();
        if bare.is_empty() {
            return;
        }
        let of = |all: &[u64]| bare.iter().filter_map(|&at| all.get(at).copied()).collect::<Vec<_>>();
        let names = match input {
            Input::AbsAddr(all) => self.look_up(Input::AbsAddr(&of(all)), Depth::Tables),
            Input::VirtOffset(all) => self.look_up(Input::VirtOffset(&of(all)), Depth::Tables),
            Input::FileOffset(all) => self.look_up(Input::FileOffset(&of(all)), Depth::Tables),
        };
        for (at, names) in bare.into_iter().zip(names.into_iter().flatten()) {
            if let (Some(of), Some(name)) = (found[at].last_mut(), names.into_iter().next_back())
                && is_whole_name_of(&name.name, &of.name)
            {
                of.name = name.name;
            }
        }
    }
}

/// Whether a function of a language that has namespaces is without.
fn is_bare(of: &Symbol) -> bool {
    let is_c = of.file.as_deref().is_none_or(|file| file.ends_with(".c") || file.ends_with(".S"));
    !is_c && !of.name.contains("::")
}

/// Identical code may be folded: then the table's name may be another function's.
fn is_whole_name_of(whole: &str, bare: &str) -> bool {
    let last = bare.split(['<', '(']).next().unwrap_or_default();
    !last.is_empty() && whole.contains("::") && whole.contains(last)
}

fn symbolizer() -> Symbolizer {
    Symbolizer::builder()
        .enable_auto_reload(false)
        .enable_demangling(false)
        .set_debug_dirs(Some([] as [&Path; 0]))
        .build()
}

/// Where nothing is: offsets go there that are in no segment. (Not the last address: blazesym adds to it.)
const NOWHERE: u64 = u64::MAX >> 1;

fn symbols_of(sym: &Sym<'_>) -> Vec<Symbol> {
    let inlined = sym.inlined.iter().rev().map(|f| symbol(&f.name, f.code_info.as_ref(), true));
    inlined.chain([symbol(&sym.name, sym.code_info.as_deref(), false)]).collect()
}

fn symbol(name: &str, code: Option<&CodeInfo<'_>>, inlined: bool) -> Symbol {
    Symbol {
        name: demangled(name).into(),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|code| code.line),
        inlined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, file: Option<&str>) -> Symbol {
        Symbol { name: name.into(), file: file.map(str::to_owned), line: None, inlined: false }
    }

    #[test]
    fn c_has_no_longer_names() {
        assert!(is_bare(&of("push", Some("lib.rs"))) && is_bare(&of("run", Some("a.cpp"))));
        assert!(!is_bare(&of("main", Some("main.c"))) && !is_bare(&of("main", None)));
        assert!(!is_bare(&of("a::push", Some("lib.rs"))));
    }

    #[test]
    fn the_table_names_the_same_function_or_another_one_with_the_same_code() {
        assert!(is_whole_name_of("app::cache::insert", "insert"));
        assert!(is_whole_name_of("Cache<int>::insert(int)", "insert"));
        assert!(is_whole_name_of("alloc::vec::Vec<T,A>::push", "push<u8, alloc::alloc::Global>"));
        assert!(!is_whole_name_of("app::cache::remove", "insert"));
        assert!(!is_whole_name_of("main", "main") && !is_whole_name_of("a::b", ""));
    }
}
