//! What `heaptrace inspect` finds out: a process's memory as it stands, and the state of its allocator. Reads only:
//! nothing is traced, stopped or written to.

mod jemalloc_text;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod write;

#[cfg(test)]
pub(crate) use jemalloc_text::render as render_jemalloc;

use crate::{
    allocators::{
        glibc::{self, locate},
        jemalloc,
        memory::{self, ProcessMemory},
    },
    probes::{
        discover::{DiscoverError, Discoverer},
        symbols::AllocatorKind,
    },
    process::{
        patience,
        procfs::{self, ProcError},
    },
    rss::mappings,
};
use serde::Serialize;
use std::io;

/// Keys are only ever added.
const SCHEMA: u32 = 1;

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("there is no process {0}")]
    NoProcess(u32),
    #[error("process {0} has no memory of its own: it is a kernel thread, or has exited")]
    NoMemory(u32),
    #[error(transparent)]
    Process(#[from] ProcError),
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    #[error(
        "not permitted to read the memory of process {pid}; run as root, or with CAP_SYS_PTRACE ({source})"
    )]
    Denied { pid: u32, source: io::Error },
}

/// Everything that was found, which is also the JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub schema: u32,
    pub heaptrace: String,
    pub pid: u32,
    pub comm: String,
    pub exe: String,
    pub threads: u32,
    /// The most that ever was in memory; `None` where the kernel does not say.
    pub peak_resident_bytes: Option<u64>,
    pub memory: mappings::Memory,
    /// In the order in which calls resolve.
    pub allocators: Vec<Allocator>,
    /// `None` if glibc's malloc is not called, or cannot be read.
    pub glibc: Option<glibc::Glibc>,
    /// `None` if jemalloc's malloc is not called, or cannot be read.
    pub jemalloc: Option<jemalloc::Jemalloc>,
    /// Why there is nothing of an allocator, or of one of several.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Allocator {
    pub kind: &'static str,
    pub path: String,
    /// Whether its functions are called, or others of the same names before them.
    pub called: bool,
}

/// Looks at process `pid`.
///
/// # Errors
/// If there is none, or it may not be looked at.
pub fn examine(pid: u32) -> Result<Inspection, InspectError> {
    let gone = |error: ProcError| match error.is_gone() {
        true => InspectError::NoProcess(pid),
        false => InspectError::Process(error),
    };
    let mut discoverer = Discoverer::new();
    let (view, plan) = discoverer.discover(pid).map_err(|error| match error {
        DiscoverError::Process(error) => gone(error),
        error => InspectError::Discover(error),
    })?;
    if view.status.no_memory {
        return Err(InspectError::NoMemory(pid));
    }
    let memory = ProcessMemory { pid };
    permitted(&memory, &view.mappings)?;
    let mut notes = Vec::new();
    let mut allocators = Vec::new();
    let (mut state, mut jemalloc) = (None, None);
    for object in &view.objects {
        let Some(symbols) = discoverer.symbols(object).filter(|symbols| !symbols.functions.is_empty()) else {
            continue;
        };
        let planned = plan.files.iter().find(|file| file.file.id() == object.id());
        // jemalloc has a prefix to its names where a program brings its own, beside the C library's malloc.
        let is_malloc = |symbol: &str| match symbols.kind {
            AllocatorKind::Jemalloc => symbol.ends_with("malloc"),
            _ => symbol == "malloc",
        };
        let called = planned.is_some_and(|file| file.probes.iter().any(|probe| is_malloc(&probe.symbol)));
        let path = object.path.display().to_string();
        allocators.push(Allocator { kind: symbols.kind.name(), path: path.clone(), called });
        match symbols.kind {
            AllocatorKind::Glibc if called => match locate::locate(pid, object, &view.mappings, &memory) {
                Ok((place, found_by)) => {
                    match patience::look(pid, move || glibc::survey(&memory, &place, memory::MOST_BYTES)) {
                        Ok(found) => state = Some(glibc::Glibc { found_by, ..found }),
                        Err(error) => notes.push(format!("the arenas of {path} cannot be read: {error}")),
                    }
                }
                Err(error) => notes.push(format!("the arenas of {path} cannot be told: {error}")),
            },
            AllocatorKind::Glibc => {
                notes.push(format!("glibc's malloc ({path}) is not the one that the program calls"));
            }
            AllocatorKind::Jemalloc if called => match jemalloc::locate(object, &view.mappings, &memory) {
                Ok(place) => jemalloc = Some(jemalloc::survey(&memory, &place)),
                Err(error) => {
                    notes.push(format!("of the heap of {path} only the mappings can be told: {error}"))
                }
            },
            kind if planned.is_some() => notes.push(format!(
                "the allocator {} ({path}) was found; of its heap only the mappings can be told",
                kind.name()
            )),
            _ => {}
        }
    }
    if let Some((path, what)) = &plan.wrong_machine {
        notes.push(format!("{}: {what}", path.display()));
    } else if allocators.is_empty() {
        notes.push("no allocator was found; only the mappings can be told".to_owned());
    }
    let heaps: Vec<_> =
        state.iter().flat_map(|found| found.arenas.iter().flat_map(|arena| arena.heaps.clone())).collect();
    let measured = mappings::parse_smaps(&procfs::read(pid, "smaps").map_err(gone)?);
    // Sums of smaps where the kernel has no rollup (before 4.14), or shows none.
    let mut total = mappings::parse_rollup(&procfs::read(pid, "smaps_rollup").unwrap_or_default());
    // What the kernel leaves out of it.
    total.hugetlb_bytes =
        measured.iter().fold(0, |sum, measured| u64::saturating_add(sum, measured.amount.hugetlb_bytes));
    total.virtual_bytes = measured.iter().map(|measured| measured.amount.virtual_bytes).sum();
    let total_virtual = total.virtual_bytes;
    let memory = mappings::summarize(&measured, &heaps, &procfs::stack_pointers(pid), total);
    if let Some(found) = jemalloc.take_if(|found| found.stats.mapped > total_virtual) {
        notes.push(format!(
            "jemalloc {} seems to have mapped more than the process has: its statistics are not believed",
            found.version
        ));
    }
    // What was read may have been several processes' if the PID changed hands meanwhile.
    if procfs::identity(pid).map_err(gone)? != view.identity {
        return Err(InspectError::NoProcess(pid));
    }
    Ok(Inspection {
        schema: SCHEMA,
        heaptrace: env!("CARGO_PKG_VERSION").to_owned(),
        pid,
        comm: view.comm,
        exe: view.exe.display().to_string(),
        threads: view.status.threads,
        peak_resident_bytes: mappings::parse_peak(&procfs::read(pid, "status").map_err(gone)?),
        memory,
        allocators,
        glibc: state,
        jemalloc,
        notes,
    })
}

/// Whether its memory may be read: /proc may be open where this is not (Yama).
fn permitted(memory: &ProcessMemory, mappings: &[crate::process::maps::Mapping]) -> Result<(), InspectError> {
    let Some(readable) = mappings.iter().find(|mapping| mapping.permissions.read) else { return Ok(()) };
    match memory::Memory::read(memory, readable.start, &mut [0]) {
        Err(source) if source.raw_os_error() == Some(libc::EPERM) => {
            Err(InspectError::Denied { pid: memory.pid, source })
        }
        // Anything else concerns that mapping only.
        _ => Ok(()),
    }
}
