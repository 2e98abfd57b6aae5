//! From the files of a process to the probes in each: who is really called, and what is left out and why.

use super::allocators::{self, Role};
use super::cut::{Cut, Kind};
use super::symbols::{FileSymbols, Forward, FoundFunction, Probing};
use crate::model::AllocatorInfo;
use crate::process::elf::ElfFacts;
use crate::process::object::Object;
use heaptrace_common::function::{Function, Shape};
use heaptrace_common::probe::{OWN_CODE, OwnCode, ProbeRecord, Role as Part};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The probes of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub symbol: String,
    pub function: Function,
    pub shape: Shape,
    /// File offset of the function's entry.
    pub entry: u64,
    pub kind: Kind,
    /// Where each call passes one, or one of each kind.
    pub sites: Vec<Site>,
    /// Exits whose calls are not seen.
    pub unseen_exits: u32,
    /// Why there is nothing cheaper.
    pub why: Option<String>,
}

impl Probe {
    /// How the function is probed.
    pub fn kind(&self) -> ProbeKind {
        match self.shape {
            Shape::Free0 => ProbeKind::Free,
            _ => ProbeKind::Allocates(self.kind),
        }
    }

    /// The fewest and the most traps that a call takes. A single-stepped instruction takes two.
    pub fn traps(&self) -> [u32; 2] {
        let of = |wanted: &[Part]| {
            let sites =
                self.sites.iter().filter(move |s| wanted.iter().any(|part| *part as u8 == s.record.role));
            let traps = sites.map(|site| if site.emulated { 1 } else { 2 });
            (traps.clone().min(), traps.max())
        };
        let (whole, begin, result) =
            (of(&[Part::Whole, Part::Free]), of(&[Part::Begin]), of(&[Part::Result]));
        let pair = begin.0.zip(result.0).map(|(a, b)| a + b).zip(begin.1.zip(result.1).map(|(a, b)| a + b));
        let least = [whole.0, pair.map(|pair| pair.0)].into_iter().flatten().min();
        let most = [whole.1, pair.map(|pair| pair.1)].into_iter().flatten().max();
        [least.unwrap_or(0), most.unwrap_or(0)]
    }
}

/// How a function is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    Free,
    Allocates(Kind),
}

impl ProbeKind {
    /// As `doctor`'s JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Allocates(Kind::OneTrap) => "one_trap",
            Self::Allocates(Kind::Stash) => "stash",
            Self::Allocates(Kind::EntryAndExits) => "entry_and_exits",
            Self::Allocates(Kind::Stepped) => "stepped",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Free => "where the block is given up",
            Self::Allocates(Kind::OneTrap) => "one trap a call, where size and result are both known",
            Self::Allocates(Kind::Stash) => "one trap on most paths; on others size and result each take one",
            Self::Allocates(Kind::EntryAndExits) => "a trap for the arguments, another for the result",
            Self::Allocates(Kind::Stepped) => {
                "a trap for the arguments, and a single-stepped one for the result"
            }
        }
    }
}

/// One probed instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// File offset.
    pub offset: u64,
    pub record: ProbeRecord,
    /// Whether the kernel emulates it (one trap) or single-steps it (two).
    pub emulated: bool,
    /// Its disassembly.
    pub text: String,
}

/// The probes of one file.
#[derive(Clone, Debug)]
pub struct FilePlan {
    pub file: Arc<Object>,
    pub allocator: AllocatorInfo,
    /// In order of offset, one for each entry.
    pub probes: Vec<Probe>,
    /// File offsets of the code that the choice of the probes rests on, in order, with what little lies between.
    pub code: Vec<Range<u64>>,
}

/// The probes of a process, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In resolution order; files without probes are not listed.
    pub files: Vec<FilePlan>,
    /// What was not probed that one might expect to be, one sentence each.
    pub refusals: Vec<String>,
    /// The files that were searched.
    pub looked_at: Vec<PathBuf>,
    /// The executable, if it holds Go code.
    pub go_executable: Option<PathBuf>,
    /// The executable and what it is, if it is for another machine.
    pub wrong_machine: Option<(PathBuf, String)>,
}

/// A file of a process, looked into.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub object: Arc<Object>,
    pub symbols: Arc<FileSymbols>,
}

/// What the choice rests on: the same as a [`Candidate`], without the opened file.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    pub path: &'a Path,
    pub elf: &'a ElfFacts,
    pub symbols: &'a FileSymbols,
}

/// Plans the probes of a process that maps `candidates`, in resolution order, the executable first.
pub fn plan(candidates: &[Candidate]) -> Plan {
    let described: Vec<Described<'_>> = candidates
        .iter()
        .map(|Candidate { object, symbols }| Described { path: &object.path, elf: &object.elf, symbols })
        .collect();
    let Choice { probes, refusals } = choose(&described);
    let files = candidates.iter().zip(probes).filter(|(_, probes)| !probes.is_empty());
    Plan {
        files: files
            .map(|(Candidate { object, symbols }, probes)| FilePlan {
                file: Arc::clone(object),
                allocator: AllocatorInfo {
                    kind: symbols.kind.name().to_owned(),
                    path: object.path.to_string_lossy().into_owned(),
                },
                code: code_of(&probes, symbols, &object.elf),
                probes,
            })
            .collect(),
        refusals,
        looked_at: described.iter().map(|file| file.path.to_owned()).collect(),
        go_executable: described.first().filter(|exe| exe.elf.is_go).map(|exe| exe.path.to_owned()),
        wrong_machine: None,
    }
}

/// The code of a file's probed functions.
fn code_of(probes: &[Probe], symbols: &FileSymbols, elf: &ElfFacts) -> Vec<Range<u64>> {
    /// Read along rather than apart.
    const BETWEEN: u64 = 4096;
    let probed = symbols.functions.iter().filter(|f| probes.iter().any(|probe| probe.entry == f.offset));
    let parts = probed.flat_map(|function| match &function.probing {
        Probing::Sites { cut, .. } => cut.bytes.as_slice(),
        Probing::Refused(_) => &[],
    });
    let ranges = parts.filter_map(|(start, length)| {
        let (offset, room) = elf.code_offset(*start)?;
        Some(offset..offset + length.min(&room))
    });
    merged(ranges.collect(), BETWEEN)
}

/// In order, those joined that lie no more than `between` bytes apart.
fn merged(mut ranges: Vec<Range<u64>>, between: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(between) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The probes of each file, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// As long as the list of files.
    pub probes: Vec<Vec<Probe>>,
    pub refusals: Vec<String>,
}

/// Chooses the probes in `files`, which are in resolution order.
pub fn choose(files: &[Described<'_>]) -> Choice {
    let mut winners: HashMap<&str, usize> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        for function in file.symbols.functions.iter().filter(|function| function.exported) {
            winners.entry(&function.symbol).or_insert(index);
        }
    }
    let mut choice = Choice::default();
    let chosen: Vec<Vec<&FoundFunction>> = files
        .iter()
        .enumerate()
        .map(|(index, file)| {
            if file.elf.is_go {
                choice.refusals.extend(go_refusal(file, index == 0));
                return Vec::new();
            }
            called_in(file, |symbol| winners.get(symbol) == Some(&index))
        })
        .collect();
    let chosen_symbols: HashSet<&str> =
        chosen.iter().flatten().filter(|function| function.exported).map(|f| f.symbol.as_str()).collect();
    for (index, (file, functions)) in files.iter().zip(&chosen).enumerate() {
        choice.probes.push(probes_of(file, index == 0, functions, &chosen_symbols, &mut choice.refusals));
    }
    choice
}

fn go_refusal(file: &Described<'_>, is_executable: bool) -> Option<String> {
    let path = file.path.display();
    if is_executable {
        return Some(format!(
            "{path} is a Go program: only what C code in it allocates is traced, not Go's heap"
        ));
    }
    let holds_any = !file.symbols.functions.is_empty();
    holds_any.then(|| format!("{path} holds Go code: allocation functions in it are not traced"))
}

/// The functions of a file that can be called: exported ones if `wins` says so, others by the file itself.
fn called_in<'a>(file: &Described<'a>, wins: impl Fn(&str) -> bool) -> Vec<&'a FoundFunction> {
    let functions = &file.symbols.functions;
    let has_base = functions.iter().any(|f| f.known.role == Role::Base && f.known.shape.allocates());
    let hidden: Vec<_> = functions.iter().filter(|f| !f.exported).collect();
    // The dynamic linker's own malloc serves itself, before libc is there.
    let is_linker = file.elf.soname.as_deref().is_some_and(|soname| soname.starts_with("ld-linux"));
    // A private function that happens to be called `free` is no allocator; one with its malloc is.
    let complete = |family: &str| {
        let mut of_family =
            hidden.iter().filter(|f| f.known.role == Role::Base && allocators::family(&f.symbol) == family);
        let allocates = of_family.clone().any(|f| f.known.shape.allocates());
        allocates && of_family.any(|f| f.known.shape == Shape::Free0)
    };
    // glibc's cfree is its free; beside a preloaded free, what still reaches it is no program's call.
    let is_second_name_of_a_loser = |f: &FoundFunction| {
        let same = |other: &&FoundFunction| {
            other.address == f.address && allocators::family(&other.symbol) == allocators::family(&f.symbol)
        };
        let first =
            functions.iter().filter(|other| other.exported).filter(same).min_by_key(|other| other.known.rank);
        first.is_some_and(|first| !wins(&first.symbol))
    };
    functions
        .iter()
        .filter(|f| match (f.exported, f.known.role) {
            (true, Role::Base) => wins(&f.symbol) && !is_second_name_of_a_loser(f),
            (true, Role::Operator) => has_base && wins(&f.symbol),
            (false, Role::Base) => !is_linker && complete(allocators::family(&f.symbol)),
            (false, Role::Operator) => has_base && !is_linker,
        })
        .collect()
}

/// One probe for each entry of `functions`, without those that only pass their block on to another one.
fn probes_of(
    file: &Described<'_>,
    is_executable: bool,
    functions: &[&FoundFunction],
    chosen_symbols: &HashSet<&str>,
    refusals: &mut Vec<String>,
) -> Vec<Probe> {
    let addresses: HashSet<u64> = functions.iter().map(|function| function.address).collect();
    let mut by_entry: BTreeMap<u64, &FoundFunction> = BTreeMap::new();
    for function in functions {
        let hits_another = match &function.forwards_to {
            Some(Forward::Address(target)) => *target != function.address && addresses.contains(target),
            Some(Forward::Symbol(symbol)) => {
                *symbol != function.symbol && chosen_symbols.contains(symbol.as_str())
            }
            None => false,
        };
        if hits_another {
            continue;
        }
        let named = by_entry.entry(function.offset).or_insert(function);
        if function.known.rank < named.known.rank {
            *named = function;
        }
    }
    let code = AllocatorCode::of(&by_entry);
    let mut probes = Vec::with_capacity(by_entry.len());
    for function in by_entry.values() {
        let FoundFunction { symbol, known, offset, .. } = function;
        let (cut, kind) = match &function.probing {
            Probing::Sites { cut, .. } => (cut, cut.kind),
            Probing::Refused(why) => {
                refusals.push(format!("{symbol} in {}: {why}", file.path.display()));
                continue;
            }
        };
        let direct_is_own = !is_executable && function.exported;
        let Some(mut sites) = code.sites(file, function, cut, direct_is_own) else {
            refusals.push(format!("{symbol} in {}: its code lies too far apart", file.path.display()));
            continue;
        };
        sites.extend(code.sites_of_unprobed(file, function, cut));
        if code.own_of(function.address).len() > OWN_CODE {
            refusals.push(format!(
                "{symbol} in {}: calls that the allocator makes itself may be counted, from more places than can be \
                 told apart",
                file.path.display()
            ));
        }
        probes.push(Probe {
            symbol: symbol.clone(),
            function: known.function,
            shape: known.shape,
            entry: *offset,
            kind,
            sites,
            unseen_exits: cut.unseen_exits,
            why: cut.why.as_ref().map(ToString::to_string),
        });
    }
    probes
}

/// Which of a file's probed functions call or jump to which.
struct AllocatorCode {
    /// Code that calls allocation functions on behalf of one that was called, and which.
    calls: Vec<(Range<u64>, Vec<u64>)>,
    /// Those of it that may run in a call whose beginning is not seen.
    unbegun: HashSet<Range<u64>>,
    /// Functions that another one may jump to at its end.
    joined: HashSet<u64>,
    probed: HashSet<u64>,
}

impl AllocatorCode {
    fn of(functions: &BTreeMap<u64, &FoundFunction>) -> Self {
        let probed = functions.values().map(|function| function.address).collect();
        let mut code = Self { calls: Vec::new(), unbegun: HashSet::new(), joined: HashSet::new(), probed };
        let begins = |address: &u64| {
            let of_address = functions.values().find(|function| function.address == *address);
            of_address.is_some_and(|f| matches!(&f.probing, Probing::Sites { cut, .. } if cut.begins_first))
        };
        let mut passes_on: HashMap<u64, &[u64]> = HashMap::new();
        for function in functions.values() {
            if let Probing::Sites { cut, calls } = &function.probing {
                code.joined.extend(&cut.passes_on);
                passes_on.insert(function.address, &cut.passes_on);
                for call in calls.iter().filter(|(_, targets)| !targets.is_empty()) {
                    let between = cut.between.iter().find(|(range, _)| *range == call.0);
                    if !between.map_or_else(|| begins(&function.address), |(_, by)| by.iter().all(begins)) {
                        code.unbegun.insert(call.0.clone());
                    }
                    if !code.calls.contains(call) {
                        code.calls.push(call.clone());
                    }
                }
            }
        }
        // Who calls a function that ends in a jump calls where that leads, too.
        for (_, targets) in &mut code.calls {
            let mut next = 0;
            while let Some(target) = targets.get(next) {
                let further = passes_on.get(target).copied().unwrap_or_default();
                let new: Vec<u64> = further.iter().filter(|to| !targets.contains(to)).copied().collect();
                targets.extend(new);
                next += 1;
            }
        }
        code.calls.sort_by_key(|(range, _)| range.start);
        code
    }

    /// The code whose calls of the function at `address` are the allocator's own, in order, merged.
    fn own_of(&self, address: u64) -> Vec<Range<u64>> {
        let calling = self.calls.iter().filter(|(_, targets)| targets.contains(&address));
        merged(calling.map(|(range, _)| range.clone()).collect(), 0)
    }

    /// Whether the function at `address` is called by such code only while a call is under way whose beginning is seen.
    fn is_within_begun(&self, address: u64) -> bool {
        let mut calling = self.calls.iter().filter(|(_, targets)| targets.contains(&address));
        calling.all(|(range, _)| !self.unbegun.contains(range))
    }

    /// A cut's sites, all or none.
    fn sites(
        &self,
        file: &Described<'_>,
        function: &FoundFunction,
        cut: &Cut,
        direct_is_own: bool,
    ) -> Option<Vec<Site>> {
        let own = self.own_of(function.address);
        let sites = cut.sites.iter().map(|site| {
            let mut record = ProbeRecord {
                condition: site.condition,
                size: site.size.to_bits(),
                factor: site.factor.to_bits(),
                result: site.result.to_bits(),
                caller_bp: site.caller_bp.to_bits(),
                shared: site.shared.into(),
                joined: self.joined.contains(&function.address).into(),
                passes_on: (function.known.shape == Shape::Free0 && !cut.passes_on.is_empty()).into(),
                direct_is_own: direct_is_own.into(),
                within_begun: (function.known.shape.allocates() && self.is_within_begun(function.address))
                    .into(),
                pushed: site.pushed,
                from_entry: i32::try_from(site.address.wrapping_sub(function.address) as i64).ok()?,
                ..ProbeRecord::new(function.known.function, function.known.shape, site.role)
            };
            for (slot, range) in record.own.iter_mut().zip(&own) {
                let distance = |to: u64| i32::try_from(to.wrapping_sub(site.address) as i64).ok();
                *slot = OwnCode { start: distance(range.start)?, end: distance(range.end)? };
                record.own_count += 1;
            }
            let (offset, _) = file.elf.code_offset(site.address)?;
            Some(Site { offset, record, emulated: site.emulated, text: site.text.clone() })
        });
        sites.collect()
    }

    /// Where a function goes on in another one that is not probed for its own sake, as another file's is called: that
    /// one's results, for the calls whose beginnings are kept.
    fn sites_of_unprobed(&self, file: &Described<'_>, function: &FoundFunction, cut: &Cut) -> Vec<Site> {
        let unprobed = cut.passes_on.iter().filter(|entry| !self.probed.contains(entry));
        let targets = unprobed.filter_map(|entry| {
            let target = file.symbols.functions.iter().find(|target| target.address == *entry)?;
            match &target.probing {
                Probing::Sites { cut, .. } if target.known.shape.allocates() => {
                    self.sites(file, target, cut, false)
                }
                _ => None,
            }
        });
        let results = targets.flatten().filter(|site| site.record.role != Part::Begin as u8);
        let results = results.map(|site| Site {
            record: ProbeRecord { role: Part::Result as u8, shared: 1, ..site.record },
            ..site
        });
        if function.known.shape.allocates() { results.collect() } else { Vec::new() }
    }
}

/// The order in which the dynamic linker searches `files` for a symbol: the executable, what was preloaded, then
/// the needed libraries breadth first, then what was loaded later, in the given order. `preloaded` holds file
/// names or paths, as LD_PRELOAD does. Returns indexes into `files`.
pub fn resolution_order(files: &[(&Path, &ElfFacts)], executable: usize, preloaded: &[&Path]) -> Vec<usize> {
    let preloaded = preloaded.iter().filter_map(|name| by_name(files, name));
    let mut order = breadth_first(files, std::iter::once(executable).chain(preloaded));
    let rest: Vec<usize> = (0..files.len()).filter(|index| !order.contains(index)).collect();
    order.extend(rest);
    order
}

/// Which of `files`, the kernel's executable first, is the program. It is another one where the dynamic linker was
/// started with the program as its argument (ld.so(8)).
pub fn program(files: &[(&Path, &ElfFacts)]) -> usize {
    let by_hand = files.first().is_some_and(|(_, elf)| is_loader(elf) && elf.interpreter.is_none());
    // libc names an interpreter, too, but itself as well.
    let is_program = |(_, elf): &(&Path, &ElfFacts)| elf.interpreter.is_some() && elf.soname.is_none();
    files.iter().position(is_program).filter(|_| by_hand).unwrap_or(0)
}

/// Whether a file is the dynamic linker, by the name that it gives itself.
pub fn is_loader(elf: &ElfFacts) -> bool {
    elf.soname.as_deref().is_some_and(|soname| soname.starts_with("ld-"))
}

/// `executable` and what it needs, breadth first.
pub fn needed_from(files: &[(&Path, &ElfFacts)], executable: usize) -> Vec<usize> {
    breadth_first(files, std::iter::once(executable))
}

fn breadth_first(files: &[(&Path, &ElfFacts)], first: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut order = Vec::with_capacity(files.len());
    let enqueue = |order: &mut Vec<usize>, index: usize| {
        if index < files.len() && !order.contains(&index) {
            order.push(index);
        }
    };
    first.for_each(|index| enqueue(&mut order, index));
    let mut next = 0;
    while let Some(&index) = order.get(next) {
        next += 1;
        for name in &files[index].1.needed {
            by_name(files, Path::new(name)).into_iter().for_each(|index| enqueue(&mut order, index));
        }
    }
    order
}

fn by_name(files: &[(&Path, &ElfFacts)], name: &Path) -> Option<usize> {
    files.iter().position(|(path, elf)| {
        let file_name = path.file_name().map(Path::new);
        let soname = elf.soname.as_deref().map(Path::new);
        *path == name || soname == Some(name) || file_name == name.file_name().map(Path::new)
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
