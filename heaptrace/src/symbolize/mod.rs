//! Locations to function names and source lines.
//!
//! Names come from `.symtab`, `.dynsym` and DWARF, of the file itself or of its separate debug file (found by
//! build ID and by `.gnu_debuglink`), and from perf maps. `.gnu_debugdata` is not read: that would need liblzma; nor are
//! files with shared DWARF (dwz).
//!
//! Nothing here looks into a file: this part finds and opens files, and `child/`, a process of its own without rights,
//! is asked what they hold. A file that it dies over, or spends too long on, costs its own names.

mod child;
mod gaps;
mod locate;
mod open;
mod wire;
mod worker;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

pub(crate) use child::answers;
pub use child::{ElfFile, serve};
pub use locate::DebugDirs;
pub(crate) use locate::bare_name;
pub use locate::{open_jit_dump, open_perf_map};
pub use wire::Depth;
pub(crate) use wire::{Answer, Facts, Question, hear};
pub use worker::SUBCOMMAND;

use crate::model::{BuildId, Location, Module, ModuleId, Process, ProcessId, Symbol};
use crate::process::{device::Device, patience};
use gaps::{Gaps, Why};
use open::{Links, Unfit, open_regular};
use rustix::fs::{AtFlags, StatxFlags, statx};
use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd as _, BorrowedFd},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use wire::{Limits, MAX_PLACES};
use worker::{Failure, Worker};

/// Where symbols are found.
pub struct Sources<'a> {
    /// The file that was mapped, where it is still open. Else it is looked for by its path and build ID.
    pub mapped: &'a dyn Fn(ModuleId) -> Option<Arc<File>>,
    /// Since when a file without a build ID must not have changed to be the one that was mapped; nanoseconds since the
    /// Unix epoch.
    pub unchanged_since_ns: i64,
    /// The perf map of a process that generates code, or `None`.
    pub perf_map: &'a dyn Fn(ProcessId) -> Option<File>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Of each location, in their order: innermost inlined function first, the enclosing one last, an empty list where
    /// none was found.
    pub symbols: Vec<Vec<Symbol>>,
    /// Whose names are missing and why, one sentence each.
    pub notes: Vec<String>,
}

/// What reading names may cost. Files of different owners never share a child, and an owner whose files take too long
/// takes that from its own other files only.
#[derive(Clone, Debug)]
struct Bounds {
    /// For one file, and each way of reading it. The largest that was measured, Chromium's debug file, takes 20 s.
    file: Duration,
    /// For all files of root and of the user that heaptrace runs as, each.
    trusted: Duration,
    /// For all files of another user.
    stranger: Duration,
    /// For all files of all other users.
    strangers: Duration,
    /// Bytes of names for all files of one owner.
    names: usize,
    /// See [`Limits::memory`]. DWARF of ordinary programs takes some 100 MB, large programs' compressed one more.
    memory: u64,
    debug_dirs: DebugDirs,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            file: Duration::from_secs(60),
            trusted: Duration::from_secs(600),
            stranger: Duration::from_secs(120),
            strangers: Duration::from_secs(240),
            names: 256 << 20,
            memory: 1 << 30,
            debug_dirs: DebugDirs::default(),
        }
    }
}

/// A child of this age is replaced before the next file, so that its limit of CPU time is never the fault of files
/// before.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The symbols of each of `locations`. `modules` and `process` are what the locations refer to. Each file
/// is opened once and closed before the next, so that memory is that of the largest.
pub fn symbolize<'p>(
    locations: &[Location],
    modules: &[Module],
    process: &dyn Fn(ProcessId) -> Option<&'p Process>,
    sources: &Sources<'_>,
) -> Found {
    symbolize_with(DebugDirs::default(), locations, modules, process, sources)
}

/// The same, with debug files in other places.
pub fn symbolize_with<'p>(
    debug_dirs: DebugDirs,
    locations: &[Location],
    modules: &[Module],
    process: &dyn Fn(ProcessId) -> Option<&'p Process>,
    sources: &Sources<'_>,
) -> Found {
    symbolize_within(Bounds { debug_dirs, ..Bounds::default() }, locations, modules, process, sources)
}

fn symbolize_within<'p>(
    bounds: Bounds,
    locations: &[Location],
    modules: &[Module],
    process: &dyn Fn(ProcessId) -> Option<&'p Process>,
    sources: &Sources<'_>,
) -> Found {
    // Sorted by place, for the sake of the caches underneath; equal ones are asked for once.
    let mut subjects: BTreeMap<Subject, BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
    for (index, location) in locations.iter().enumerate() {
        let (subject, address) = match *location {
            Location::InModule { module, offset } if module.index() < modules.len() => {
                (Subject::Module(module), offset)
            }
            Location::Anonymous { process: id, address } if process(id).is_some() => {
                (Subject::PerfMap(id), address)
            }
            _ => continue,
        };
        subjects.entry(subject).or_default().entry(call_of(address)).or_default().push(index);
    }
    // Those of root first, then ours, then others'.
    let mut by_owner: BTreeMap<Owner, Vec<Subject>> = BTreeMap::new();
    for subject in subjects.keys() {
        if let Some(owner) = owner_of(*subject, modules, sources) {
            by_owner.entry(owner).or_default().push(*subject);
        }
    }
    let mut found = vec![Vec::new(); locations.len()];
    let mut strangers = bounds.strangers;
    let mut run =
        Run { bounds, worker: None, gaps: Gaps::default(), owner: Owner::Root, share: Share::default() };
    for (owner, of_owner) in by_owner {
        (run.worker, run.owner) = (None, owner);
        let time = if owner.is_trusted() { run.bounds.trusted } else { run.bounds.stranger.min(strangers) };
        run.share = Share { time, names: run.bounds.names };
        for subject in of_owner {
            let wanted = &subjects[&subject];
            let places: Vec<u64> = wanted.keys().copied().collect();
            let symbols = match subject {
                Subject::Module(id) => {
                    run.module(&modules[id.index()], (sources.mapped)(id), &places, sources)
                }
                Subject::PerfMap(id) => {
                    let of = (sources.perf_map)(id).zip(process(id));
                    of.map(|(map, process)| run.perf_map(process, &map, &places))
                }
            };
            for (symbols, indices) in symbols.unwrap_or_default().into_iter().zip(wanted.values()) {
                for &index in indices {
                    found[index].clone_from(&symbols);
                }
            }
        }
        if !owner.is_trusted() {
            strangers = strangers.saturating_sub(time.saturating_sub(run.share.time));
        }
    }
    Found { symbols: found, notes: run.gaps.notes() }
}

/// The call instruction's last byte: the return address may already belong to the next function or line.
fn call_of(return_address: u64) -> u64 {
    return_address.saturating_sub(1)
}

/// What names are asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Module(ModuleId),
    PerfMap(ProcessId),
}

/// Whose file it is, in the order in which they have their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Root,
    Ourselves,
    Stranger(u32),
}

impl Owner {
    /// As far as the kernel knows by itself: its file system may not answer.
    fn of_open(file: &File) -> Option<Self> {
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        statx(file, c"", how, StatxFlags::UID).ok().map(|of| Self::of(of.stx_uid))
    }

    fn of(uid: u32) -> Self {
        match uid {
            0 => Self::Root,
            own if own == rustix::process::geteuid().as_raw() => Self::Ourselves,
            other => Self::Stranger(other),
        }
    }

    fn is_trusted(self) -> bool {
        matches!(self, Self::Root | Self::Ourselves)
    }
}

/// `None` where there is nothing to ask.
fn owner_of(subject: Subject, modules: &[Module], sources: &Sources<'_>) -> Option<Owner> {
    match subject {
        Subject::PerfMap(process) => Owner::of_open(&(sources.perf_map)(process)?),
        Subject::Module(id) => match (sources.mapped)(id) {
            Some(file) => Owner::of_open(&file),
            // Not there: then there may be files of its build where only root puts them.
            None => Some(
                open::metadata(Path::new(&modules[id.index()].path))
                    .map_or(Owner::Root, |file| Owner::of(file.uid())),
            ),
        },
    }
}

/// What is left for files of one owner.
#[derive(Debug, Default)]
struct Share {
    time: Duration,
    /// Bytes of names.
    names: usize,
}

/// Files are asked about one after the other.
struct Run {
    bounds: Bounds,
    /// And when it was started.
    worker: Option<(Worker, Instant)>,
    gaps: Gaps,
    /// Whose turn it is, and what is left of that owner's share.
    owner: Owner,
    share: Share,
}

impl Run {
    /// Names at `offsets` of a module; `None` where there is no file to look into.
    fn module(
        &mut self,
        module: &Module,
        mapped: Option<Arc<File>>,
        offsets: &[u64],
        sources: &Sources<'_>,
    ) -> Option<Vec<Vec<Symbol>>> {
        let name = module.path.as_str();
        let (binary, facts) = match mapped {
            Some(file) => {
                let facts = self.facts(&file, name)?;
                (file, facts)
            }
            None => {
                let (file, facts) = self.on_disk(module, sources.unchanged_since_ns)?;
                (Arc::new(file), facts)
            }
        };
        let debug = self.debug_file(Path::new(name), &binary, &facts);
        if debug.as_ref().map_or(&facts, |(_, facts)| facts).has_supplement {
            self.gaps.add(Why::Supplement, name);
        }
        let files: Vec<BorrowedFd<'_>> = [&*binary]
            .into_iter()
            .chain(debug.as_ref().map(|(file, _)| file))
            .map(|file| file.as_fd())
            .collect();
        // With less each time: whatever the child died over, it may be in what is left out.
        let mut ways = vec![(Depth::Full, &files[..]), (Depth::Tables, &files[..])];
        if files.len() > 1 {
            ways.push((Depth::Tables, &files[..1]));
        }
        let mut failed = None;
        for (depth, files) in ways {
            match self.names(&Question::Elf(depth), files, offsets, name) {
                Ok(names) => {
                    if failed.is_some() {
                        self.gaps.add(Why::OnlyTables, name);
                    }
                    return Some(names);
                }
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        if let Some(why) = failed {
            self.gaps.add(why, name);
        }
        None
    }

    fn perf_map(&mut self, process: &Process, map: &File, addresses: &[u64]) -> Vec<Vec<Symbol>> {
        let name = format!("generated code of {}:{}", process.comm, process.pid);
        match self.names(&Question::PerfMap, &[map.as_fd()], addresses, &name) {
            Ok(names) => names,
            Err(why) => {
                self.gaps.add(why, &name);
                Vec::new()
            }
        }
    }

    /// The file of `module`, if it is on disk and is the one that was mapped, or another of its build. A wrong build
    /// would give wrong names, which are worse than none.
    fn on_disk(&mut self, module: &Module, unchanged_since_ns: i64) -> Option<(File, Facts)> {
        let path = Path::new(&module.path);
        let Some(wanted) = &module.build_id else {
            return self.unchanged(path, &module.path, unchanged_since_ns);
        };
        let own = path.is_absolute().then(|| path.to_owned());
        let others = self.bounds.debug_dirs.binaries(wanted);
        let own = own.and_then(|path| open_regular(&path, Links::Followed).ok().zip(Some(path)));
        let own = own.filter(|(file, _)| self.has_turn(file));
        let found = own
            .and_then(|(file, path)| self.if_of_build(file, &path, wanted))
            .or_else(|| others.into_iter().find_map(|path| self.of_build(&path, wanted)));
        if found.is_none() {
            self.tell_of_fetched(wanted, &module.path);
        }
        found
    }

    /// Whether a file may be looked into now. What was at its path when owners were sorted may have been another's, whose
    /// share this one would take.
    fn has_turn(&self, file: &File) -> bool {
        Owner::of_open(file).is_some_and(|owner| owner == Owner::Root || owner == self.owner)
    }

    /// The file at `path` without a build ID: only if nobody has put it there, nor changed it, since.
    fn unchanged(&mut self, path: &Path, name: &str, since_ns: i64) -> Option<(File, Facts)> {
        if !path.is_absolute() {
            return None;
        }
        // A mapping's path has no links, wherever they were when the file was opened.
        let file = match open_regular(path, Links::Refused) {
            Ok(file) => file,
            Err(Unfit::Absent) if !open::is_there(path) => return None,
            Err(unfit) => {
                self.gaps.add(Why::unfit(unfit).unwrap_or(Why::Changed), name);
                return None;
            }
        };
        let metadata = open::metadata_of(&file).ok()?;
        // Renaming a file sets this as well, and nobody can set it back.
        let changed_ns = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
        if changed_ns > since_ns || !self.has_turn(&file) {
            self.gaps.add(Why::Changed, name);
            return None;
        }
        let facts = self.facts(&file, name)?;
        Some((file, facts))
    }

    /// Says that there is something of a build that must not be used, if there is.
    fn tell_of_fetched(&mut self, id: &BuildId, name: &str) {
        if let Some((folder, why)) = self.bounds.debug_dirs.refused(id) {
            let why = format!("{} is not trusted, as {why}", folder.display());
            self.gaps.add(Why::Fetched(why), name);
        }
    }

    /// The file at `path`, if it is of this build.
    fn of_build(&mut self, path: &Path, wanted: &BuildId) -> Option<(File, Facts)> {
        self.if_of_build(open_regular(path, Links::Followed).ok()?, path, wanted)
    }

    fn if_of_build(&mut self, file: File, path: &Path, wanted: &BuildId) -> Option<(File, Facts)> {
        let facts = self.facts(&file, &path.to_string_lossy())?;
        (facts.build_id.as_ref() == Some(wanted)).then_some((file, facts))
    }

    fn facts(&mut self, file: &File, name: &str) -> Option<Facts> {
        match self.ask(&Question::Facts, &[file.as_fd()], Instant::now() + self.bounds.file) {
            Ok(Answer::Facts(facts)) => facts,
            Ok(_) => None,
            Err(why) => {
                self.gaps.add(why, name);
                None
            }
        }
    }

    /// The separate debug file of a binary: by build ID, else by the name that the binary gives.
    fn debug_file(&mut self, path: &Path, binary: &File, facts: &Facts) -> Option<(File, Facts)> {
        if let Some(id) = &facts.build_id {
            let paths = self.bounds.debug_dirs.by_build_id(id);
            if let Some(found) = paths.iter().find_map(|path| self.of_build(path, id)) {
                return Some(found);
            }
            self.tell_of_fetched(id, &path.to_string_lossy());
        }
        let (link, checksum) = facts.link.as_ref()?;
        let Some(link) = bare_name(link) else {
            self.gaps.add(Why::LinkIsPath, &path.to_string_lossy());
            return None;
        };
        let own = open::metadata_of(binary).ok()?;
        self.bounds.debug_dirs.by_name(path, link).into_iter().find_map(|path| {
            let file = open_regular(&path, Links::Followed).ok()?;
            let metadata = open::metadata_of(&file).ok()?;
            // A binary may name itself.
            if (metadata.dev(), metadata.ino()) == (own.dev(), own.ino()) {
                return None;
            }
            let name = path.to_string_lossy();
            let deadline = Instant::now() + self.bounds.file;
            match self.ask(&Question::Checksum, &[file.as_fd()], deadline) {
                Ok(Answer::Checksum(found)) if found == *checksum => {
                    let facts = self.facts(&file, &name)?;
                    Some((file, facts))
                }
                Ok(_) => None,
                Err(why) => {
                    self.gaps.add(why, &name);
                    None
                }
            }
        })
    }

    /// Names at `places` of what `subject` says the files are.
    fn names(
        &mut self,
        subject: &Question,
        files: &[BorrowedFd<'_>],
        places: &[u64],
        name: &str,
    ) -> Result<Vec<Vec<Symbol>>, Why> {
        let deadline = Instant::now() + self.bounds.file;
        self.ask(subject, files, deadline)?;
        let mut names = Vec::with_capacity(places.len());
        for places in places.chunks(MAX_PLACES) {
            match self.ask(&Question::Names(places.to_vec()), &[], deadline)? {
                Answer::Names { symbols, cut } if symbols.len() == places.len() => {
                    if cut {
                        self.gaps.add(Why::Cut, name);
                    }
                    self.share.names =
                        self.share.names.checked_sub(bytes_of(&symbols)).ok_or(Why::ShareUsed)?;
                    names.extend(symbols);
                }
                _ => return Err(Why::Died(None)),
            }
        }
        Ok(names)
    }

    /// Asks the child, which is started where there is none, and is gone where it fails.
    fn ask(
        &mut self,
        question: &Question,
        files: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<Answer, Why> {
        let begun = Instant::now();
        if self.share.time.is_zero() {
            return Err(Why::ShareUsed);
        }
        if files.iter().filter_map(Device::of).any(patience::is_deaf) {
            return Err(Why::Deaf);
        }
        // What names are asked of is in the child that was told.
        if !matches!(question, Question::Names(_)) {
            self.worker.take_if(|(_, started)| started.elapsed() > MAX_AGE);
        }
        let (worker, _) = match &mut self.worker {
            Some(worker) => worker,
            None => {
                let cpu = (MAX_AGE + self.bounds.file).as_secs() + 60;
                match Worker::start(Limits { memory: self.bounds.memory, cpu }) {
                    Ok(worker) => self.worker.insert((worker, begun)),
                    Err(failure) => {
                        self.gaps.nothing(failure.to_string());
                        self.share.time = Duration::ZERO;
                        return Err(Why::Died(None));
                    }
                }
            }
        };
        let answer = worker.ask(question, files, deadline.min(begun + self.share.time));
        self.share.time = self.share.time.saturating_sub(begun.elapsed());
        answer.map_err(|failure| match (failure, question) {
            (Failure::Refused(why), Question::PerfMap) => Why::PerfMap(why),
            (failure, _) => {
                self.worker = None;
                if matches!(failure, Failure::Deaf) {
                    files.iter().map(Device::of).for_each(patience::give_up);
                }
                Why::failed(&failure)
            }
        })
    }
}

fn bytes_of(symbols: &[Vec<Symbol>]) -> usize {
    let bytes = |symbol: &Symbol| symbol.name.len() + symbol.file.as_ref().map_or(0, String::len);
    symbols.iter().flatten().map(bytes).sum()
}
