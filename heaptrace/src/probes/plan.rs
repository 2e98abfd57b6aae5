//! From the files of a process to the probes in each: who is really called, and what is left out and why.

use super::allocators::{self, Role};
use super::site::Site;
use super::symbols::{FileSymbols, Forward, FoundFunction};
use crate::model::AllocatorInfo;
use crate::process::elf::ElfFacts;
use crate::process::object::Object;
use heaptrace_common::function::{Cookie, Function, Shape};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One probe. Functions that need their result have a return probe at the same offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub symbol: String,
    pub function: Function,
    pub shape: Shape,
    /// File offset of the probe site.
    pub offset: u64,
    /// File offset of the function's entry.
    pub entry: u64,
    pub site: Site,
    /// Whether a direct call of the entry can only be the allocator's own; see [`Cookie`].
    pub direct_is_own: bool,
}

impl Probe {
    /// What the BPF side is told of it.
    pub fn cookie(&self) -> Cookie {
        // Sites lie within a prologue.
        let site = u16::try_from(self.site.offset).unwrap_or(0);
        Cookie::new(self.function, self.shape, self.site.pushed, site, self.direct_is_own)
    }
}

/// The probes of one file.
#[derive(Clone, Debug)]
pub struct FilePlan {
    pub file: Arc<Object>,
    pub allocator: AllocatorInfo,
    /// In order of offset, one for each entry.
    pub probes: Vec<Probe>,
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
                probes,
            })
            .collect(),
        refusals,
        looked_at: described.iter().map(|file| file.path.to_owned()).collect(),
        go_executable: described.first().filter(|exe| exe.elf.is_go).map(|exe| exe.path.to_owned()),
        wrong_machine: None,
    }
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
    let has_base = functions.iter().any(|f| f.known.role == Role::Base && f.known.shape.needs_return());
    let hidden: Vec<_> = functions.iter().filter(|f| !f.exported).collect();
    // The dynamic linker's own malloc serves itself, before libc is there.
    let is_linker = file.elf.soname.as_deref().is_some_and(|soname| soname.starts_with("ld-linux"));
    // A private function that happens to be called `free` is no allocator; one with its malloc is.
    let complete = |family: &str| {
        let mut of_family =
            hidden.iter().filter(|f| f.known.role == Role::Base && allocators::family(&f.symbol) == family);
        let allocates = of_family.clone().any(|f| f.known.shape.needs_return());
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
    let mut probes = Vec::with_capacity(by_entry.len());
    for function in by_entry.into_values() {
        let FoundFunction { symbol, known, offset, site, .. } = function;
        if site.why.is_refusal() {
            refusals.push(format!("{symbol} in {}: {}", file.path.display(), site.why));
            continue;
        }
        probes.push(Probe {
            symbol: symbol.clone(),
            function: known.function,
            shape: known.shape,
            offset: offset + u64::from(site.offset),
            entry: *offset,
            site: *site,
            direct_is_own: !is_executable && function.exported,
        });
    }
    probes
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

#[cfg(test)]
impl FilePlan {
    /// A plan that names this very program; only that there is one matters.
    pub(crate) fn for_tests() -> Self {
        use crate::process::object::Opened;
        let exe = std::env::current_exe().expect("exe");
        let file = Arc::new(Object::read(Opened::at(&exe).expect("opened")).expect("an ELF file"));
        Self {
            file,
            allocator: AllocatorInfo { kind: "unknown".into(), path: String::new() },
            probes: Vec::new(),
        }
    }
}
