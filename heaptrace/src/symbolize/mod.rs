//! Locations to function names and source lines. Only this folder knows blazesym.
//!
//! Names come from `.symtab`, `.dynsym` and DWARF, of the file itself or of its separate debug file (found by
//! build ID and by `.gnu_debuglink`). `.gnu_debugdata` is not read: that would need liblzma.

mod demangle;
mod guard;
mod locate;
mod perf_map;

#[cfg(test)]
mod tests;

pub use locate::{locate_module, locate_perf_map};
pub use perf_map::PerfMap;

use locate::DebugFile;

use crate::model::{Location, Module, ModuleId, Process, ProcessId, Symbol};
use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where symbols are found.
pub struct Sources<'a> {
    /// The file to read for a module, or `None` to leave its locations without symbols.
    pub module: &'a dyn Fn(ModuleId) -> Option<PathBuf>,
    /// The perf map of a process that generates code, or `None`.
    pub perf_map: &'a dyn Fn(ProcessId) -> Option<PathBuf>,
}

/// The symbols of each of `locations`, in their order: innermost inlined function first, the enclosing one
/// last, an empty list where none was found. Each file is opened once and closed before the next, so that
/// memory is that of the largest. `modules` and `processes` are the tables that the locations refer to.
pub fn symbolize(
    locations: &[Location],
    modules: &[Module],
    processes: &[Process],
    sources: &Sources<'_>,
) -> Vec<Vec<Symbol>> {
    let mut found = vec![Vec::new(); locations.len()];
    // Sorted by offset, for the sake of the caches underneath; equal offsets are asked for once.
    let mut in_modules: BTreeMap<ModuleId, BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
    let mut in_processes: BTreeMap<ProcessId, Vec<(u64, usize)>> = BTreeMap::new();
    for (index, location) in locations.iter().enumerate() {
        match *location {
            Location::InModule { module, offset } if module.index() < modules.len() => {
                in_modules.entry(module).or_default().entry(offset).or_default().push(index);
            }
            Location::Anonymous { process, address } if process.index() < processes.len() => {
                in_processes.entry(process).or_default().push((address, index));
            }
            _ => {}
        }
    }
    for (module, wanted) in in_modules {
        let Some(path) = (sources.module)(module) else { continue };
        let offsets: Vec<u64> = wanted.keys().copied().collect();
        for (symbols, indices) in file_symbols(&path, &offsets, None).into_iter().zip(wanted.values()) {
            for &index in indices {
                found[index].clone_from(&symbols);
            }
        }
    }
    for (process, wanted) in in_processes {
        let Some(map) = (sources.perf_map)(process).and_then(|path| PerfMap::open(&path)) else { continue };
        for (address, index) in wanted {
            found[index] = map
                .find(call_of(address))
                .map(|name| Symbol { name: name.into(), file: None, line: None, inlined: false })
                .into_iter()
                .collect();
        }
    }
    found
}

/// The call instruction's last byte: the return address may already belong to the next function or line.
fn call_of(return_address: u64) -> u64 {
    return_address.saturating_sub(1)
}

/// Symbols at the return addresses `offsets` (file offsets) of the file at `path`; as long as `offsets`, or
/// empty where the file could not be read at all. Separate debug files are looked for in `debug_dirs`, or where
/// distributions put them.
fn file_symbols(path: &Path, offsets: &[u64], debug_dirs: Option<&[PathBuf]>) -> Vec<Vec<Symbol>> {
    let ask = |path: &Path, input: Input<&[u64]>| {
        let answers = ask(&Elf::new(path), input, debug_dirs);
        // Damaged DWARF, or a debug file that cannot be read, should not cost the names that .symtab has.
        let answers = answers.or_else(|| {
            let mut elf = Elf::new(path);
            elf.debug_syms = false;
            ask(&elf, input, debug_dirs)
        });
        answers.unwrap_or_default()
    };
    let calls: Vec<u64> = offsets.iter().map(|&offset| call_of(offset)).collect();
    let mut found = Vec::new();
    if let Some(debug) = DebugFile::of(path, debug_dirs) {
        let addresses: Vec<u64> = calls.iter().map(|&call| debug.address(call).unwrap_or(NOWHERE)).collect();
        found = ask(&debug.path, Input::VirtOffset(&addresses));
    }
    if found.len() < offsets.len() || found.iter().any(Vec::is_empty) {
        found.resize_with(offsets.len(), Vec::new);
        for (symbols, other) in found.iter_mut().zip(ask(path, Input::FileOffset(&calls))) {
            if symbols.is_empty() {
                *symbols = other;
            }
        }
    }
    found
}

/// `None` where the file could not be read.
fn ask(elf: &Elf, input: Input<&[u64]>, debug_dirs: Option<&[PathBuf]>) -> Option<Vec<Vec<Symbol>>> {
    let symbolizer = Symbolizer::builder()
        .enable_auto_reload(false)
        .enable_demangling(false)
        .set_debug_dirs(debug_dirs)
        .build();
    guard::guarded(|| {
        let answers = symbolizer.symbolize(&Source::Elf(elf.clone()), input).ok()?;
        Some(answers.iter().map(|answer| answer.as_sym().map(symbols_of).unwrap_or_default()).collect())
    })
}

/// Where nothing is: offsets go there that are in no segment. (Not the last address: blazesym adds to it.)
const NOWHERE: u64 = u64::MAX >> 1;

fn symbols_of(sym: &Sym<'_>) -> Vec<Symbol> {
    let inlined = sym.inlined.iter().rev().map(|f| symbol(&f.name, f.code_info.as_ref(), true));
    inlined.chain([symbol(&sym.name, sym.code_info.as_deref(), false)]).collect()
}

fn symbol(name: &str, code: Option<&CodeInfo<'_>>, inlined: bool) -> Symbol {
    Symbol {
        name: demangle::demangled(name).into(),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|code| code.line),
        inlined,
    }
}
