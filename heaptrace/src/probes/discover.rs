//! Finds the files of a process and plans its probes. Each file is looked into once, however many processes map
//! it.

use super::candidate::Candidate;
use super::debug_file;
use super::own_samples::OwnSamples;
use super::plan::{self, Plan, Wanted};
use super::search_order;
use super::shares::{self, Shares};
use super::symbol_cache;
use super::symbols::FileSymbols;
use crate::process::elf::{ElfError, ElfFacts};
use crate::process::file_cache::FileCache;
use crate::process::foreign;
use crate::process::link_map;
use crate::process::maps::Mapping;
use crate::process::object::{FileId, FileStamp, Object, ObjectError, Opened};
use crate::process::one_inode::are_one_below;
use crate::process::patience::{self, Beating};
use crate::process::privileges::own_user;
use crate::process::procfs::{self, Identity, ProcError};
use crate::process::status::Status;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A failure to find out what to probe.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    #[error(transparent)]
    Process(#[from] ProcError),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// A process as it was when looked at.
#[derive(Clone, Debug)]
pub struct ProcessView {
    pub identity: Identity,
    /// By way of which it was looked at ([`procfs::thread_with_memory`]).
    pub thread: u32,
    pub parent_pid: u32,
    pub comm: String,
    /// As the process sees it.
    pub exe: PathBuf,
    pub status: Status,
    /// In order of address.
    pub mappings: Vec<Mapping>,
    /// The ELF files mapped executable, in resolution order.
    pub objects: Vec<Arc<Object>>,
    pub rss_bytes: u64,
}

/// Looks into files, and remembers what it saw. Holds a descriptor for each file until told to forget.
#[derive(Debug, Default)]
pub struct Discoverer {
    /// `None` for files that are no ELF files.
    cache: HashMap<FileStamp, Option<Candidate>>,
    kept: Option<Arc<FileCache>>,
    wanted: Wanted,
    shares: Shares,
}

impl Discoverer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what it knows of files from `kept`, and keeps it there; its plans are for what is `wanted`.
    pub fn with_cache(kept: Option<FileCache>, wanted: Wanted) -> Self {
        Self { kept: kept.map(Arc::new), wanted, ..Self::default() }
    }

    /// Looks at process `pid`, and plans its probes. Whether it may be probed at all is for
    /// [`super::refusal::refusal`] to say. Errors where the process is gone, or may not be looked at.
    pub fn discover(&mut self, pid: u32) -> Result<(ProcessView, Plan), DiscoverError> {
        let stat = procfs::read_stat(pid)?;
        let identity = Identity { pid, start_time: stat.start_time };
        let thread = procfs::thread_with_memory(pid);
        let status = procfs::read_status(thread)?;
        let mut view = ProcessView {
            identity,
            thread,
            parent_pid: stat.parent_pid,
            comm: stat.comm,
            exe: PathBuf::new(),
            status,
            mappings: Vec::new(),
            objects: Vec::new(),
            rss_bytes: stat.rss_pages.saturating_mul(procfs::page_size()),
        };
        if view.status.no_memory {
            return Ok((view, Plan::default()));
        }
        view.exe = procfs::exe(thread)?;
        view.mappings = procfs::read_maps(thread)?;
        let mut found = self.look_into(&view);
        let order = resolution_order(thread, &view.mappings, &found.candidates);
        let candidates: Vec<Candidate> =
            order.into_iter().map(|index| found.candidates[index].candidate.clone()).collect();
        // It has ended meanwhile, and its files went with its memory: nothing is wrong with them.
        let ended =
            found.is_any_absent && procfs::read_maps(thread).map_or(true, |mappings| mappings.is_empty());
        // What was read may have been several processes' if the PID changed hands meanwhile.
        if ended || procfs::identity(pid)? != identity {
            return Err(ProcError::Gone { pid, file: procfs::path(pid, "maps") }.into());
        }
        let mut plan = plan::plan(&candidates, self.wanted);
        plan.refusals.append(&mut found.refusals);
        plan.refusals.extend(untrusted_names(&candidates));
        plan.wrong_machine = found.wrong_machine;
        view.objects = candidates.into_iter().map(|candidate| candidate.object).collect();
        Ok((view, plan))
    }

    /// Plans the probes of a program that has not been started: `exe`, and the libraries that it will load, in
    /// resolution order (see [`crate::process::ldso::program`]). Errors where `exe` cannot be read, or is no
    /// ELF file.
    pub fn plan_for_paths(&mut self, exe: &Path, libraries: &[PathBuf]) -> Result<Plan, DiscoverError> {
        let mut candidates = match self.candidate(Opened::at(exe)?, own_user) {
            Ok(Some(candidate)) => vec![candidate],
            Ok(None) => {
                return Err(ObjectError::Elf { path: exe.to_owned(), source: ElfError::NotElf }.into());
            }
            Err(ObjectError::Elf { path, source }) => {
                return Ok(Plan { wrong_machine: Some((path, source.to_string())), ..Plan::default() });
            }
            Err(error) => return Err(error.into()),
        };
        let mut refusals = Vec::new();
        for library in libraries {
            match Opened::at(library).and_then(|opened| self.candidate(opened, own_user)) {
                Ok(candidate) => candidates.extend(candidate),
                Err(error) => refusals.push(describe(&error)),
            }
        }
        let mut plan = plan::plan(&candidates, self.wanted);
        plan.refusals.append(&mut refusals);
        plan.refusals.extend(untrusted_names(&candidates));
        Ok(plan)
    }

    /// The file behind a mapping that process `pid` made at a time of `CLOCK_MONOTONIC`; it may have ended since. `None` if it
    /// is no ELF file, or cannot be found any more.
    pub fn object_behind(&mut self, pid: u32, mapping: &Mapping, time_ns: u64) -> Option<Arc<Object>> {
        // Who has the PID by now may have mapped another file there.
        let its = Opened::behind(pid, mapping).ok().filter(|_| procfs::began_by(pid, time_ns));
        // Its path may lead to the same file from here.
        let opened = its.or_else(|| Opened::behind(std::process::id(), mapping).ok())?;
        self.candidate(opened, || shares::user_of(pid)).ok().flatten().map(|candidate| candidate.object)
    }

    /// The ELF file at `path`, if it is one.
    pub fn object_at(&mut self, path: &Path) -> Option<Arc<Object>> {
        self.candidate(Opened::at(path).ok()?, own_user).ok().flatten().map(|candidate| candidate.object)
    }

    /// The allocation functions of a file that was looked into.
    pub fn symbols(&self, object: &Object) -> Option<Arc<FileSymbols>> {
        self.cache.get(&object.stamp)?.as_ref().map(|candidate| Arc::clone(&candidate.symbols))
    }

    /// Plans the probes of a process that had `objects` mapped, in resolution order, as far as they were looked into.
    pub fn plan_of<'a>(&self, objects: impl IntoIterator<Item = &'a Arc<Object>>) -> Plan {
        let mut candidates: Vec<Candidate> = Vec::new();
        for object in objects {
            let known = self.cache.get(&object.stamp).and_then(Option::as_ref);
            if let Some(known) = known.filter(|known| {
                candidates.iter().all(|candidate| candidate.object.stamp != known.object.stamp)
            }) {
                candidates.push(known.clone());
            }
        }
        plan::plan(&candidates, self.wanted)
    }

    /// From here on, a function of a file that was looked into is probed by what is certain without its callees, or not
    /// at all if it was already; `entry` is its file offset. Gives its file's allocation functions as they are now.
    pub fn distrust(&mut self, object: &Object, entry: u64) -> Option<Arc<FileSymbols>> {
        let known = self.cache.get(&object.stamp)?.as_ref()?;
        let (read, before) = (Arc::clone(&known.object), Arc::clone(&known.symbols));
        let symbols = object.look(move || before.without_trust(&read.reader(), &read.elf, entry));
        let symbols = Arc::new(symbols.ok()?);
        let same = self.cache.values_mut().flatten().filter(|known| known.object.below == object.below);
        same.for_each(|known| known.symbols = Arc::clone(&symbols));
        Some(symbols)
    }

    /// Forgets files that nothing else holds any more, and closes them.
    pub fn forget_unused(&mut self) {
        self.cache
            .retain(|_, candidate| candidate.as_ref().is_some_and(|c| Arc::strong_count(&c.object) > 1));
        self.shares.retain(|file| self.cache.contains_key(file));
    }

    /// How many files are remembered.
    pub fn remembered(&self) -> usize {
        self.cache.len()
    }

    /// What lies below a file, as it is known of another that is the same below.
    fn below(&self, object: &Object) -> FileStamp {
        let known = self.cache.values().flatten().map(|candidate| &candidate.object);
        let same = known.into_iter().find(|known| are_one_below(known, object));
        same.map_or(object.stamp, |known| known.below)
    }

    fn look_into(&mut self, view: &ProcessView) -> Found {
        let mut found = Found::default();
        let mut seen_mappings = HashSet::new();
        let mut seen_files = HashSet::new();
        let exe = exe_id(view.thread);
        let uid = view.status.effective_uid;
        let mut too_many = 0_usize;
        let repeated = repeated(&view.mappings);
        for mapping in view.mappings.iter().filter(|mapping| mapping.permissions.execute) {
            let Some(path) = mapping.file() else { continue };
            // Files of two subvolumes of btrfs may have one number here.
            if !seen_mappings.insert((mapping.dev, mapping.inode, path)) {
                continue;
            }
            let (id, looked) = match Opened::behind(view.thread, mapping) {
                Ok(opened) => (Some(opened.stamp.id), self.candidate(opened, || uid)),
                Err(error) => (None, Err(error)),
            };
            let is_exe = id.is_some() && id == exe;
            match looked {
                Ok(Some(mut candidate)) if seen_files.insert(candidate.object.id()) => {
                    candidate.repeated = repeated.contains(&part(mapping));
                    let at = if is_exe { 0 } else { found.candidates.len() };
                    let mapped = (mapping.dev, mapping.inode);
                    found.candidates.insert(at, Located { candidate, address: mapping.start, mapped });
                }
                Ok(_) => {}
                Err(ObjectError::Elf { source, .. }) if is_exe => {
                    found.wrong_machine = Some((path.to_owned(), source.to_string()));
                }
                Err(ObjectError::TooMany { .. }) => too_many += 1,
                Err(error) => {
                    found.is_any_absent |= is_absent(&error);
                    found.refusals.push(describe(&error));
                }
            }
        }
        if too_many > 0 {
            found.refusals.push(format!(
                "{too_many} of its files were not looked into: the processes of user {uid} map more than can be held open"
            ));
        }
        found
    }

    /// What is in a file, which a process of some user maps: remembered, or read. `None` if it is no ELF file.
    fn candidate(
        &mut self,
        opened: Opened,
        user: impl FnOnce() -> u32,
    ) -> Result<Option<Candidate>, ObjectError> {
        let stamp = opened.stamp;
        if let Some(candidate) = self.cache.get(&stamp) {
            return Ok(candidate.clone());
        }
        let uid = user();
        if !self.shares.has_room(uid) {
            return Err(ObjectError::TooMany { path: opened.path });
        }
        let candidate = match opened.patiently(Object::read).flatten() {
            Ok(mut object) => {
                object.below = self.below(&object);
                let (object, kept) = (Arc::new(object), self.kept.clone());
                let read = Arc::clone(&object);
                let (symbols, own) = object
                    .look(move || {
                        let symbols = symbol_cache::symbols(&read, kept.as_deref())?;
                        Ok((symbols, OwnSamples::read(&read.reader(), &read.elf)))
                    })
                    .map_err(|source| ObjectError::Open { path: object.path.clone(), source })?
                    .map_err(|source| ObjectError::Elf { path: object.path.clone(), source })?;
                Some(Candidate { object, symbols: Arc::new(symbols), own: Arc::new(own), repeated: false })
            }
            Err(ObjectError::Elf { source: ElfError::NotElf, .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(Candidate { symbols, own, .. }) = &candidate {
            self.shares.take(stamp, uid, symbols.functions.len() + own.allocs.len() + own.frees.len());
        }
        self.cache.insert(stamp, candidate.clone());
        Ok(candidate)
    }
}

/// The files of a process, the executable first.
#[derive(Default)]
struct Found {
    candidates: Vec<Located>,
    refusals: Vec<String>,
    /// One of them is of a file that is not there.
    is_any_absent: bool,
    wrong_machine: Option<(PathBuf, String)>,
}

/// Of files with an allocator inside that has no names: what there would be of names, and is not used.
fn untrusted_names(candidates: &[Candidate]) -> impl Iterator<Item = String> + '_ {
    let nameless = candidates.iter().filter(|candidate| candidate.symbols.hidden.is_some());
    nameless.filter_map(|Candidate { object, .. }| {
        let why = debug_file::refused(object.elf.build_id.as_ref()?)?;
        Some(format!(
            "{}: names that debuginfod's client has fetched were not used: {why}",
            object.path.display()
        ))
    })
}

/// Which part of which file a mapping is of.
type Part = ((u32, u32), u64, u64);

fn part(mapping: &Mapping) -> Part {
    (mapping.dev, mapping.inode, mapping.offset)
}

/// The parts of files that are mapped executable more than once.
fn repeated(mappings: &[Mapping]) -> HashSet<Part> {
    let mut seen = HashSet::new();
    let code = mappings.iter().filter(|mapping| mapping.permissions.execute && mapping.file().is_some());
    code.map(part).filter(|part| !seen.insert(*part)).collect()
}

fn is_absent(error: &ObjectError) -> bool {
    matches!(error, ObjectError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// The error with its cause, in one line, and what would help.
fn describe(error: &ObjectError) -> String {
    match error {
        // EACCES: the file's permissions, or a folder's. EPERM: map_files, for a file that has no name any more.
        ObjectError::Open { source, .. } if source.raw_os_error() == Some(libc::EACCES) => {
            format!("{error}: {source}; run as root, or with CAP_DAC_READ_SEARCH")
        }
        ObjectError::Open { path, source } if source.raw_os_error() == Some(libc::EPERM) => format!(
            "{} was deleted or replaced on disk, and reading what is mapped is not permitted; run as root, or with \
             CAP_CHECKPOINT_RESTORE",
            path.display()
        ),
        ObjectError::Open { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

fn exe_id(pid: u32) -> Option<FileId> {
    let metadata = procfs::exe_metadata(pid).ok()?;
    Some(FileId { dev: metadata.dev(), inode: metadata.ino() })
}

/// A file, and where the process has mapped its code.
struct Located {
    candidate: Candidate,
    address: u64,
    /// Its device and inode, as the mapping has them.
    mapped: ((u32, u32), u64),
}

/// The order in which the process's linker searches its files: as it says itself, else as it can be told from outside.
fn resolution_order(pid: u32, mappings: &[Mapping], located: &[Located]) -> Vec<usize> {
    let guessed = guessed_order(pid, located);
    let said = link_map::dynamic_sections(pid).unwrap_or_default();
    let mut rank: HashMap<((u32, u32), u64), usize> = HashMap::new();
    for (place, section) in said.iter().enumerate() {
        let at = mappings.partition_point(|mapping| mapping.end <= *section);
        let mapping =
            mappings.get(at).filter(|mapping| mapping.start <= *section && mapping.file().is_some());
        if let Some(mapping) = mapping {
            rank.entry((mapping.dev, mapping.inode)).or_insert(place);
        }
    }
    // What it does not list comes last: of another namespace, or mapped by somebody else.
    let program = guessed.first().copied();
    let place = |index: &usize| {
        let place = rank.get(&located[*index].mapped).copied().unwrap_or(usize::MAX);
        (Some(*index) != program, place)
    };
    let mut order = guessed;
    order.sort_by_key(place);
    order
}

fn guessed_order(pid: u32, located: &[Located]) -> Vec<usize> {
    let files: Vec<_> =
        located.iter().map(|l| (l.candidate.object.path.as_path(), &l.candidate.object.elf)).collect();
    let program = search_order::program(&files);
    let said = preloaded(pid, program != 0);
    let mut names = split_preload(&said);
    let addresses: Vec<u64> = located.iter().map(|l| l.address).collect();
    let seen = seems_preloaded(&files, program, &addresses);
    names.extend(seen.into_iter().map(|index| files[index].0));
    search_order::resolution_order(&files, program, &names)
}

/// Files that were mapped before all needed libraries though nothing needs them: preloaded, by a process that
/// has written its title over its environment since. The kernel maps downwards, so the first lies highest.
fn seems_preloaded(files: &[(&Path, &ElfFacts)], program: usize, addresses: &[u64]) -> Vec<usize> {
    let reachable = search_order::needed_from(files, program);
    let is_loader = |index: &usize| {
        files.get(program).is_some_and(|exe| exe.1.interpreter.as_deref() == Some(files[*index].0))
            || search_order::is_loader(files[*index].1)
    };
    let libraries = reachable.iter().skip(1).filter(|index| !is_loader(index));
    let Some(highest) = libraries.map(|index| addresses[*index]).max() else { return Vec::new() };
    let mut is_reachable = vec![false; files.len()];
    reachable.iter().for_each(|index| is_reachable[*index] = true);
    let mut seen: Vec<usize> =
        (0..files.len()).filter(|i| !is_reachable[*i] && !is_loader(i) && addresses[*i] > highest).collect();
    seen.sort_by_key(|index| std::cmp::Reverse(addresses[*index]));
    seen
}

/// Bytes of an /etc/ld.so.preload.
const MOST_PRELOADED: u64 = 64 << 10;

/// What the process was told to preload: LD_PRELOAD, --preload where the linker was started `by_hand`, then its
/// /etc/ld.so.preload, where readable (ld.so(8)).
fn preloaded(pid: u32, by_hand: bool) -> Vec<u8> {
    let mut names =
        procfs::initial_environment_variable(pid, "LD_PRELOAD").ok().flatten().unwrap_or_default();
    names.push(b' ');
    if by_hand {
        let arguments = procfs::arguments(pid).unwrap_or_default();
        names.extend(preload_option(&arguments).unwrap_or_default());
        names.push(b' ');
    }
    let said = patience::look(pid, move || {
        let file = foreign::open_in_root(pid, Path::new("/etc/ld.so.preload"))?;
        foreign::read_bounded(Beating(file), MOST_PRELOADED)
    });
    names.extend(said.flatten().unwrap_or_default());
    names
}

/// The value of --preload among the dynamic linker's own `arguments`, each of which ends with a NUL.
pub(crate) fn preload_option(arguments: &[u8]) -> Option<&[u8]> {
    const WITH_VALUE: [&[u8]; 6] = [
        b"--library-path",
        b"--inhibit-rpath",
        b"--audit",
        b"--argv0",
        b"--glibc-hwcaps-prepend",
        b"--glibc-hwcaps-mask",
    ];
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
    // The first that is no option is the program, and what follows is its own.
    while let Some(option) = arguments.next().filter(|argument| argument.starts_with(b"--")) {
        if option == b"--preload" {
            return arguments.next();
        }
        if WITH_VALUE.contains(&option) {
            arguments.next();
        }
    }
    None
}

pub(crate) fn split_preload(names: &[u8]) -> Vec<&Path> {
    let separates = |byte: &u8| *byte == b':' || byte.is_ascii_whitespace();
    let names = names.split(separates).filter(|name| !name.is_empty());
    names.map(|name| Path::new(OsStr::from_bytes(name))).collect()
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
