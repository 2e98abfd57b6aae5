//! From the files of a process to the probes in each: who is really called, and what is left out and why.

use super::allocators::{self, Role};
use super::candidate::{Candidate, Described};
use super::cut::Cut;
use super::own_calls::AllocatorCode;
use super::probe::{Probe, Site};
use super::proof::Proof;
use super::ranges::merged;
use super::symbols::{AllocatorKind, FileSymbols, Forward, FoundFunction, Probing};
use crate::model::AllocatorInfo;
use crate::process::elf::ElfFacts;
use crate::process::object::{FileId, Object};
use heaptrace_common::function::Function;
use heaptrace_common::probe::{OWN_CODE, ProbeRecord, Role as Part};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The probes of one file.
#[derive(Clone, Debug)]
pub struct FilePlan {
    pub file: Arc<Object>,
    pub allocator: AllocatorInfo,
    /// In order of offset, one for each entry.
    pub probes: Vec<Probe>,
    /// File offsets of the code that the choice of the probes rests on, in order, with what little lies between.
    pub code: Vec<Range<u64>>,
    /// Of all code that sites in the file rest on.
    pub proof: Arc<Proof>,
}

/// What of a file is not probed, and why: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRefusal {
    pub path: PathBuf,
    pub what: String,
}

impl fmt::Display for FileRefusal {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.path.display(), self.what)
    }
}

impl FilePlan {
    /// Whether it is of samples that the file tells of.
    pub fn is_own_samples(&self) -> bool {
        !self.probes.is_empty() && self.probes.iter().all(|probe| probe.function == Function::Sampled)
    }
}

/// The probes of a process, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In resolution order; files without probes are not listed.
    pub files: Vec<FilePlan>,
    /// The same of files that tell of samples themselves, if these are preferred; and what they do not tell.
    pub own: Vec<FilePlan>,
    pub own_refusals: Vec<FileRefusal>,
    /// They go before `files`: one of them is the program, or has the allocation functions that are called.
    pub prefers_own: bool,
    /// Only such files were looked for.
    pub only_own: bool,
    /// Why files with probes got none: strangers' servers say what is in them.
    pub served: Vec<String>,
    /// Files with an allocator inside that has no names: what they allocate is not seen.
    pub hidden: Vec<AllocatorInfo>,
    /// What was not probed that one might expect to be, one sentence each.
    pub refusals: Vec<String>,
    /// The files that were searched.
    pub looked_at: Vec<PathBuf>,
    /// The executable, if it holds Go code.
    pub go_executable: Option<PathBuf>,
    /// The executable and what it is, if it is for another machine.
    pub wrong_machine: Option<(PathBuf, String)>,
}

/// Where the probes of a plan are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Places {
    #[default]
    OneProcess,
    /// Wherever a file is mapped, also by processes in which more of its functions are called.
    AllProcesses,
}

/// What is to be probed, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub places: Places,
    /// Functions that only free, too.
    pub frees: bool,
    pub own: Own,
    /// In files whose contents a stranger's server gives, too.
    pub served: bool,
}

/// What becomes of samples that allocators tell of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Own {
    #[default]
    Unused,
    /// They go before what else would be probed in a process.
    Preferred,
    /// Nothing else is probed.
    Only,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { places: Places::default(), frees: true, own: Own::default(), served: false }
    }
}

/// Plans the probes of a process that maps `candidates`, in resolution order, the executable first.
pub fn plan(candidates: &[Candidate], wanted: Wanted) -> Plan {
    let (mut own, mut own_refusals) = own_samples(candidates, wanted.own);
    if !wanted.served {
        own_refusals.extend(leave_out_served(&mut own));
    }
    if wanted.own == Own::Only {
        return Plan {
            files: own,
            only_own: true,
            refusals: own_refusals.iter().map(FileRefusal::to_string).collect(),
            looked_at: candidates.iter().map(|candidate| candidate.object.path.clone()).collect(),
            ..Plan::default()
        };
    }
    let described: Vec<Described<'_>> = candidates
        .iter()
        .map(|Candidate { object, symbols, repeated, .. }| Described {
            path: &object.path,
            elf: &object.elf,
            symbols,
            repeated: *repeated,
        })
        .collect();
    let Choice { mut probes, mut refusals } = choose(&described, wanted.places);
    if !wanted.frees {
        probes
            .iter_mut()
            .for_each(|of_file| of_file.retain(|probe| probe.shape.allocates() || probe.function.is_told()));
    }
    let files = candidates.iter().zip(probes).filter(|(_, probes)| !probes.is_empty());
    let mut files: Vec<FilePlan> = files
        .map(|(Candidate { object, symbols, .. }, probes)| FilePlan {
            file: Arc::clone(object),
            allocator: AllocatorInfo {
                kind: symbols.kind.name().to_owned(),
                path: object.path.to_string_lossy().into_owned(),
            },
            code: code_of(&probes, symbols, &object.elf),
            proof: Arc::clone(&symbols.proof),
            probes,
        })
        .collect();
    let served = if wanted.served { Vec::new() } else { leave_out_served(&mut files) };
    let served: Vec<String> = served.iter().map(FileRefusal::to_string).collect();
    refusals.extend(served.iter().cloned());
    let is_own = |file: FileId| own.iter().any(|plan| plan.file.id() == file);
    let exe = candidates.first().map(|candidate| candidate.object.id());
    let prefers_own = exe.into_iter().chain(files.iter().map(|plan| plan.file.id())).any(is_own);
    Plan {
        files,
        prefers_own,
        own,
        own_refusals,
        only_own: false,
        served,
        hidden: described.iter().filter_map(hidden).collect(),
        refusals,
        looked_at: described.iter().map(|file| file.path.to_owned()).collect(),
        go_executable: described.first().filter(|exe| exe.elf.is_go).map(|exe| exe.path.to_owned()),
        wrong_machine: None,
    }
}

/// Takes out files that the kernel would have to ask a stranger's server for, and says why of each.
fn leave_out_served(files: &mut Vec<FilePlan>) -> Vec<FileRefusal> {
    let left_out = files.extract_if(.., |plan| plan.file.stranger.is_some());
    let refusal = |plan: FilePlan| {
        let server = plan.file.stranger?;
        let what = format!(
            "not probed, as a FUSE server of {server} gives what is in it: should that not answer, no tracer of this \
             machine could place or take away probes any more (--allow-fuse has it probed)"
        );
        Some(FileRefusal { path: plan.file.path.clone(), what })
    };
    left_out.filter_map(refusal).collect()
}

/// The allocator that a file has inside, without names.
fn hidden(file: &Described<'_>) -> Option<AllocatorInfo> {
    let kind = file.symbols.hidden?.name().to_owned();
    Some(AllocatorInfo { kind, path: file.path.to_string_lossy().into_owned() })
}

/// Probes where files tell of samples, and what they do not tell.
fn own_samples(candidates: &[Candidate], wanted: Own) -> (Vec<FilePlan>, Vec<FileRefusal>) {
    if wanted == Own::Unused {
        return (Vec::new(), Vec::new());
    }
    let refusals = candidates.iter().flat_map(|Candidate { object, own, .. }| {
        own.refusals().map(|what| FileRefusal { path: object.path.clone(), what })
    });
    let files = candidates.iter().filter(|candidate| candidate.own.is_any());
    let plans = files
        .map(|Candidate { object, own, .. }| {
            let probes = own.probes();
            let sites = probes.iter().flat_map(|probe| &probe.sites);
            FilePlan {
                file: Arc::clone(object),
                allocator: AllocatorInfo {
                    kind: own.provider().to_owned(),
                    path: object.path.to_string_lossy().into_owned(),
                },
                code: merged(sites.map(|site| site.offset..site.offset + INSTRUCTION).collect(), 0),
                proof: own.proof(),
                probes,
            }
        })
        .collect();
    (plans, refusals.collect())
}

/// The most bytes of an instruction.
const INSTRUCTION: u64 = 15;

/// The code of a file's probed functions, and all sites.
fn code_of(probes: &[Probe], symbols: &FileSymbols, elf: &ElfFacts) -> Vec<Range<u64>> {
    /// Read along rather than apart.
    const BETWEEN: u64 = 4096;
    let probed = symbols.functions.iter().filter(|f| probes.iter().any(|probe| probe.entry == f.offset));
    // Sites of functions that others go on in are in no part of those.
    let sites =
        probes.iter().flat_map(|probe| &probe.sites).map(|site| site.offset..site.offset + INSTRUCTION);
    merged(super::symbols::code_of(probed, elf).chain(sites).collect(), BETWEEN)
}

/// The probes of each file, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// As long as the list of files.
    pub probes: Vec<Vec<Probe>>,
    pub refusals: Vec<String>,
}

/// Chooses the probes in `files`, which are in resolution order.
pub fn choose(files: &[Described<'_>], places: Places) -> Choice {
    // Of functions that cannot be probed, those that only pass a call on to the next file's are many: they give way to it.
    let mut winners: HashMap<&str, usize> = HashMap::new();
    for can_be_probed in [true, false] {
        for (index, file) in files.iter().enumerate().filter(|(_, file)| !is_linker(file)) {
            let exported = file.symbols.functions.iter().filter(|function| function.exported);
            for function in exported.filter(|function| function.is_refused() != can_be_probed) {
                winners.entry(&function.symbol).or_insert(index);
            }
        }
    }
    let mut choice = Choice::default();
    for (index, file) in files.iter().enumerate() {
        for function in file.symbols.functions.iter().filter(|function| function.exported) {
            let winner = winners.get(function.symbol.as_str()).filter(|winner| **winner > index);
            if let (Some(winner), Probing::Refused(why)) = (winner, &function.probing) {
                choice.refusals.push(format!(
                    "{} in {}: {why}; of its calls only those are seen that it passes on to {}",
                    function.symbol,
                    file.path.display(),
                    files[*winner].path.display()
                ));
            }
        }
    }
    let beside: Vec<bool> = (0..files.len()).map(|index| is_called_beside(files, &winners, index)).collect();
    let mut chosen: Vec<Vec<&FoundFunction>> = files
        .iter()
        .enumerate()
        .map(|(index, file)| {
            if file.elf.is_go {
                choice.refusals.extend(go_refusal(file, index == 0));
                return Vec::new();
            }
            called_in(file, |symbol| beside[index] || winners.get(symbol) == Some(&index))
        })
        .collect();
    if places == Places::AllProcesses {
        choice.refusals.extend(counted_twice(files, &winners));
        files.iter().zip(&mut chosen).for_each(|(file, functions)| add_ends(file, functions));
    }
    let chosen_symbols: HashSet<&str> =
        chosen.iter().flatten().filter(|function| function.exported).map(|f| f.symbol.as_str()).collect();
    let jumped_to = jumped_to(files, &chosen);
    for (index, (file, functions)) in files.iter().zip(&chosen).enumerate() {
        choice.probes.push(probes_of(
            file,
            index != 0 && (!beside[index] || is_libc(file)),
            functions,
            &Others { chosen: &chosen_symbols, jumped_to: &jumped_to },
            &mut choice.refusals,
        ));
    }
    choice
}

/// What the functions that were chosen in other files have to do with those of one.
struct Others<'a> {
    /// The symbols of all.
    chosen: &'a HashSet<&'a str>,
    jumped_to: &'a HashSet<&'a str>,
}

/// Whether a file's functions may be called though another file's are found first: by itself, if it is bound to itself or was
/// opened with RTLD_DEEPBIND, or in a namespace of its own. Where nobody calls them, probes of them cost nothing. Not where one
/// of the files may pass its calls on to the next: both would count them.
fn is_called_beside(files: &[Described<'_>], winners: &HashMap<&str, usize>, index: usize) -> bool {
    let file = &files[index];
    let FileSymbols { functions, may_pass_on, .. } = file.symbols;
    let mut bases =
        functions.iter().filter(|function| function.exported && function.known.role == Role::Base);
    let loses = |function: &FoundFunction| {
        let winner = winners.get(function.symbol.as_str()).filter(|winner| **winner != index);
        winner.is_some_and(|winner| !files[*winner].symbols.may_pass_on)
    };
    // A C library reaches whoever is found first, by way of the procedure linkage table.
    !may_pass_on && !is_linker(file) && (!is_libc(file) || file.repeated) && bases.any(loses)
}

/// Whether the malloc that is called may pass its calls on to a C library: that is not probed beside it in one process, but where
/// probes are for all it is for others.
fn counted_twice(files: &[Described<'_>], winners: &HashMap<&str, usize>) -> Option<String> {
    let first = winners.get("malloc").map(|index| &files[*index]).filter(|file| file.symbols.may_pass_on)?;
    // Of a C library it is never said that it passes anything on.
    let libc = files.iter().find(|file| is_libc(file))?;
    Some(format!(
        "malloc in {} may pass its calls on to {}, which has probes in all processes: blocks may be counted twice (not with \
         -p, nor with --no-exact-children)",
        first.path.display(),
        libc.path.display()
    ))
}

fn is_libc(file: &Described<'_>) -> bool {
    matches!(file.symbols.kind, AllocatorKind::Glibc | AllocatorKind::Musl)
}

/// The entries of functions in which calls of these end.
fn ends_of(functions: &[&FoundFunction]) -> HashSet<u64> {
    let cuts = functions.iter().filter_map(|function| match &function.probing {
        Probing::Sites { cut, .. } => Some(cut),
        Probing::Refused(_) => None,
    });
    cuts.flat_map(|cut| cut.passes_on.iter().copied()).collect()
}

/// Adds the functions of the same file that chosen ones go on in, so that a call of glibc's reallocarray beside a preloaded
/// allocator is seen in realloc: in the next process realloc is called itself, and its exits are probed for one function only.
fn add_ends<'a>(file: &Described<'a>, chosen: &mut Vec<&'a FoundFunction>) {
    let ends = ends_of(chosen);
    let has = |address: u64| chosen.iter().any(|function| function.address == address);
    let added: Vec<&FoundFunction> =
        file.symbols.functions.iter().filter(|f| ends.contains(&f.address) && !has(f.address)).collect();
    chosen.extend(added);
}

/// The symbols that a chosen function jumps to at its end, of its own file's function, and another file's is called in its
/// place: glibc's reallocarray beside a preloaded realloc.
fn jumped_to<'a>(files: &[Described<'a>], chosen: &[Vec<&'a FoundFunction>]) -> HashSet<&'a str> {
    let mut symbols = HashSet::new();
    for (file, functions) in files.iter().zip(chosen) {
        let ends = ends_of(functions);
        let targets = file.symbols.functions.iter().filter(|f| f.exported && ends.contains(&f.address));
        symbols.extend(targets.map(|target| target.symbol.as_str()));
    }
    symbols
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

/// Whether the file is glibc's dynamic linker, whose own malloc serves itself before libc is there. Up to 2.31 it is exported,
/// and in a new image that has mapped no library yet nothing comes before it.
fn is_linker(file: &Described<'_>) -> bool {
    file.elf.soname.as_deref().is_some_and(|soname| soname.starts_with("ld-linux"))
}

/// The functions of a file that can be called: exported ones if `wins` says so, others by the file itself.
fn called_in<'a>(file: &Described<'a>, wins: impl Fn(&str) -> bool) -> Vec<&'a FoundFunction> {
    let functions = &file.symbols.functions;
    let has_base = functions.iter().any(|f| f.known.role == Role::Base && f.known.shape.allocates());
    let hidden: Vec<_> = functions.iter().filter(|f| !f.exported).collect();
    let is_linker = is_linker(file);
    // A private function that happens to be called `free` is no allocator; one with its malloc is.
    let complete = |family: &str| {
        let mut of_family =
            hidden.iter().filter(|f| f.known.role == Role::Base && allocators::family(&f.symbol) == family);
        let allocates = of_family.clone().any(|f| f.known.shape.allocates());
        allocates && of_family.any(|f| f.known.frees())
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

/// Where a function's calls are seen to begin, to verify its sites by.
fn entered(file: &Described<'_>, function: &FoundFunction, cut: &Cut) -> Option<Site> {
    // Without sites there is nothing to compare.
    let site = cut.entry.as_ref().filter(|_| !cut.sites.is_empty())?;
    let record = ProbeRecord {
        condition: site.condition,
        size: site.size.to_bits(),
        factor: site.factor.to_bits(),
        pushed: site.pushed,
        from_entry: i32::try_from(site.address.wrapping_sub(function.address) as i64).ok()?,
        ..ProbeRecord::new(function.known.function, function.known.shape, Part::Entered)
    };
    let (offset, _) = file.elf.code_offset(site.address)?;
    Some(Site { offset, record, emulated: site.emulated, text: site.text.clone(), semaphore: 0 })
}

/// The entries of a file's operators that free by way of its other functions, where all its operators that allocate do, too: its
/// blocks are those of the others, and end there, whatever these do with a pointer before they hand it on.
fn wrapped_frees(functions: &[&FoundFunction], hands_on: &dyn Fn(&FoundFunction) -> bool) -> HashSet<u64> {
    let (operators, others): (Vec<&FoundFunction>, Vec<&FoundFunction>) =
        functions.iter().copied().partition(|function| function.known.role == Role::Operator);
    let entries: HashSet<u64> = others.iter().map(|function| function.address).collect();
    let ends = others.iter().filter(|function| function.known.frees());
    let ends: HashSet<u64> = ends.map(|function| function.address).collect();
    let mut allocating = operators.iter().filter(|function| function.known.shape.allocates()).peekable();
    if allocating.peek().is_none() || !allocating.all(|function| hands_on(function)) {
        return HashSet::new();
    }
    let frees = operators.into_iter().filter(|function| !function.known.shape.allocates());
    let is_wrapped = |function: &&FoundFunction| match &function.probing {
        Probing::Sites { cut, calls } => {
            let reached = calls.iter().flat_map(|(_, targets)| targets).chain(&cut.passes_on);
            !entries.contains(&function.address) && reached.copied().any(|target| ends.contains(&target))
        }
        Probing::Refused(_) => false,
    };
    frees.filter(is_wrapped).map(|function| function.address).collect()
}

/// Whether the blocks of a function whose calls are only told come from one of `functions` that is seen, or told, itself.
fn is_seen_below(function: &FoundFunction, functions: &[&FoundFunction]) -> bool {
    let Probing::Sites { cut, calls } = &function.probing else { return false };
    let reached = calls.iter().flat_map(|(_, targets)| targets).chain(&cut.passes_on);
    let mut reached = reached.filter(|target| **target != function.address);
    function.known.function == Function::Unseen
        && reached.any(|target| {
            let mut at = functions.iter().filter(|other| other.address == *target);
            at.any(|other| other.known.shape.allocates() || other.known.function == Function::Unseen)
        })
}

/// One probe for each entry of `functions`, without those that only pass their block on to another one. `is_allocator`: nobody
/// but the allocator calls its exported functions directly.
fn probes_of(
    file: &Described<'_>,
    is_allocator: bool,
    functions: &[&FoundFunction],
    others: &Others<'_>,
    refusals: &mut Vec<String>,
) -> Vec<Probe> {
    let addresses: HashSet<u64> = functions.iter().map(|function| function.address).collect();
    let mut by_entry: BTreeMap<u64, &FoundFunction> = BTreeMap::new();
    let mut handing_on = Vec::new();
    let hands_on = |function: &FoundFunction| match &function.forwards_to {
        Some(Forward::Address(target)) => *target != function.address && addresses.contains(target),
        Some(Forward::Symbol(symbol)) => {
            *symbol != function.symbol && others.chosen.contains(symbol.as_str())
        }
        None => false,
    };
    let wrapped = wrapped_frees(functions, &hands_on);
    for function in functions {
        if hands_on(function) || wrapped.contains(&function.address) || is_seen_below(function, functions) {
            handing_on.push(*function);
            continue;
        }
        let named = by_entry.entry(function.offset).or_insert(function);
        if function.known.rank < named.known.rank {
            *named = function;
        }
    }
    let mut code = AllocatorCode::of(&by_entry, &handing_on);
    let jumped_to = functions.iter().filter(|f| f.exported && others.jumped_to.contains(f.symbol.as_str()));
    code.joined.extend(jumped_to.map(|function| function.address));
    let mut through_pointers = Vec::new();
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
        let direct_is_own = is_allocator && function.exported;
        let Some(mut sites) = code.sites(file, function, cut, direct_is_own) else {
            refusals.push(format!("{symbol} in {}: its code lies too far apart", file.path.display()));
            continue;
        };
        let handed_on = code.handed_on(file, function, cut);
        sites.extend(handed_on.sites);
        for target in handed_on.unseen {
            refusals.push(format!(
                "{symbol} in {}: calls of it that end in {target} are not seen",
                file.path.display()
            ));
        }
        if cut.unseen_exits > 0 {
            through_pointers.push(symbol.as_str());
        }
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
            entered: entered(file, function, cut),
            ends_here: cut.passes_on.is_empty() && cut.unseen_exits == 0 && known.role != Role::Operator,
        });
    }
    if !through_pointers.is_empty() {
        refusals.push(format!(
            "{} in {}: calls that end in a jump through a pointer, as a hook's, are not seen",
            through_pointers.join(", "),
            file.path.display()
        ));
    }
    probes
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
