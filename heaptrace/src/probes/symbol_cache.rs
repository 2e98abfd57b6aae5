//! What was found in a file that holds allocation functions, kept on disk beside the unwind tables: the search for its
//! sites takes longer than anything else at a start. Files without such functions are not kept: nothing is searched in
//! them.
//!
//! A build ID survives objcopy, patchelf and BOLT, and the proof of a site rests on more than its function: on what
//! refers to it from anywhere, on relocations, unwind information and tables. So what is kept also holds for one hash of
//! the whole file only, for one layout of its segments, and for kernels that do the same with a probe.

use super::allocators;
use super::cut::{Cut, Emulation, MAX_SITES};
use super::debug_file;
use super::symbols::{AllocatorKind, FileSymbols, Forward, FoundFunction, MAX_FILE, Probing};
use crate::process::elf::{ElfError, ElfFacts};
use crate::process::file_cache::{FileCache, FileIdentity, Format};
use crate::process::object::Object;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;

/// Raise `version` when the analysis changes, or the table of functions: what was found before is then not believed.
const FORMAT: Format = Format { magic: *b"HTCUTS\0\0", version: 10, parameter: 0 };

const SUFFIX: &str = ".cuts";

/// What the sites of a file rest on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    file: FileIdentity,
    /// Address, offset, size and whether executable.
    loads: Vec<(u64, u64, u64, bool)>,
    /// Of all bytes of the file. Another standard library may hash in another way: then all is made anew.
    hash: u64,
    emulation: Emulation,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: Key,
    kind: AllocatorKind,
    may_pass_on: bool,
    hidden: Option<AllocatorKind>,
    functions: Vec<KeptFunction>,
}

/// A [`FoundFunction`] without what its name and address say.
#[derive(Serialize, Deserialize)]
struct KeptFunction {
    symbol: String,
    address: u64,
    exported: bool,
    probing: Probing,
    forwards_to: Option<Forward>,
}

/// The allocation functions of a file: from `cache`, or else searched and kept there.
pub fn symbols(object: &Object, cache: Option<&FileCache>) -> Result<FileSymbols, ElfError> {
    symbols_for(object, cache, Emulation::running())
}

fn symbols_for(
    object: &Object,
    cache: Option<&FileCache>,
    emulation: Emulation,
) -> Result<FileSymbols, ElfError> {
    if let Some(symbols) = cache.and_then(|cache| load(cache, object, emulation)) {
        return Ok(symbols);
    }
    let before = FileIdentity::of(object);
    let symbols = FileSymbols::read_for(&object.reader(), &object.elf, emulation)?;
    let symbols = match symbols.hidden {
        Some(_) => debug_file::symbols(object, emulation).unwrap_or(symbols),
        None => symbols,
    };
    if let (Some(cache), Some(before)) = (cache, before)
        && !symbols.functions.is_empty()
    {
        save(cache, object, before, &symbols, emulation);
    }
    Ok(symbols)
}

fn load(cache: &FileCache, object: &Object, emulation: Emulation) -> Option<FileSymbols> {
    let identity = FileIdentity::of(object)?;
    let path = cache.path(&file_name(&identity));
    let bytes = cache.read(&path)?;
    let file = whole(object)?;
    let symbols = decode(&bytes, &Key::of(identity, &file, &object.elf, emulation), &file, &object.elf)?;
    cache.touch(&path);
    Some(symbols)
}

/// If it cannot be kept, nothing is lost but time.
fn save(
    cache: &FileCache,
    object: &Object,
    before: FileIdentity,
    symbols: &FileSymbols,
    emulation: Emulation,
) {
    let Some(file) = whole(object) else { return };
    // Was it written to since it was looked into?
    if FileIdentity::of(object).as_ref() != Some(&before) || symbols.proof.first_change(object).is_some() {
        return;
    }
    let name = file_name(&before);
    let key = Key::of(before, &file, &object.elf, emulation);
    let _ = encode(key, symbols).and_then(|bytes| cache.write(&name, &bytes));
}

fn file_name(identity: &FileIdentity) -> String {
    format!("{}{SUFFIX}", identity.name())
}

fn whole(object: &Object) -> Option<Vec<u8>> {
    let length = usize::try_from(object.stamp.size).ok().filter(|_| object.stamp.size <= MAX_FILE)?;
    object.read_at(0, length).ok().filter(|bytes| bytes.len() == length)
}

impl Key {
    fn of(identity: FileIdentity, file: &[u8], facts: &ElfFacts, emulation: Emulation) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(file);
        let loads = facts.loads.iter().map(|load| (load.address, load.offset, load.size, load.executable));
        Self { file: identity, loads: loads.collect(), hash: hasher.finish(), emulation }
    }
}

fn encode(key: Key, symbols: &FileSymbols) -> std::io::Result<Vec<u8>> {
    let functions = symbols.functions.iter().map(|function| {
        let FoundFunction { symbol, known: _, address, offset: _, exported, probing, forwards_to } = function;
        KeptFunction {
            symbol: symbol.clone(),
            address: *address,
            exported: *exported,
            probing: probing.clone(),
            forwards_to: forwards_to.clone(),
        }
    });
    let FileSymbols { kind, may_pass_on, hidden, .. } = *symbols;
    FORMAT.seal(&Entry { key, kind, may_pass_on, hidden, functions: functions.collect() })
}

/// What a file of the cache with these contents would give, if `file` were what they say it was made of.
pub(crate) fn of_contents(body: &[u8], file: &[u8], facts: &ElfFacts) -> Option<FileSymbols> {
    let bytes = FORMAT.sealed(body);
    let key = FORMAT.open::<Entry>(&bytes)?.key;
    decode(&bytes, &key, file, facts)
}

/// `None` if it is not of `key`, or says what cannot be.
fn decode(bytes: &[u8], key: &Key, file: &[u8], facts: &ElfFacts) -> Option<FileSymbols> {
    let entry =
        FORMAT.open::<Entry>(bytes).filter(|entry| entry.key == *key && !entry.functions.is_empty())?;
    let entries: HashSet<u64> = entry.functions.iter().map(|function| function.address).collect();
    // That its file has the functions by which they are told was seen when it was kept.
    let prefixes = allocators::UNSURE_PREFIXES.map(|(prefix, _)| prefix);
    let functions = entry.functions.into_iter().map(|function| {
        let KeptFunction { symbol, address, exported, probing, forwards_to } = function;
        let (known, (offset, _)) =
            (allocators::lookup_with(&symbol, &prefixes)?, facts.code_offset(address)?);
        let found = FoundFunction { symbol, known, address, offset, exported, probing, forwards_to };
        is_possible(&found, &entries, facts).then_some(found)
    });
    let functions = functions.collect::<Option<_>>()?;
    Some(FileSymbols {
        may_pass_on: entry.may_pass_on,
        hidden: entry.hidden,
        ..FileSymbols::of_parts(functions, entry.kind, file, facts)
    })
}

/// Whether all that is said of a function lies in the file's code.
fn is_possible(function: &FoundFunction, entries: &HashSet<u64>, facts: &ElfFacts) -> bool {
    let Probing::Sites { cut, calls } = &function.probing else { return true };
    let Cut { sites, passes_on, own_code, bytes, entry, .. } = &**cut;
    let is_code = |range: &Range<u64>| {
        let room = facts.code_offset(range.start).map_or(0, |(_, room)| room);
        range.start < range.end && range.end - range.start <= room
    };
    let proven = bytes.iter().map(|(start, length)| *start..start.saturating_add(*length));
    let proven: Vec<Range<u64>> = proven.collect();
    sites.len() <= MAX_SITES
        && sites
            .iter()
            .chain(entry)
            .all(|site| site.condition <= 16 && proven.iter().any(|part| part.contains(&site.address)))
        && proven.iter().chain(own_code).chain(calls.iter().map(|(range, _)| range)).all(is_code)
        && passes_on.iter().chain(calls.iter().flat_map(|(_, to)| to)).all(|entry| entries.contains(entry))
}

#[cfg(test)]
#[path = "symbol_cache_tests.rs"]
mod tests;
