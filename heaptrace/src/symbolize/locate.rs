//! Which file holds a module's symbols, on the machine that a report is made on.

use super::guard::guarded;
use crate::model::{BuildId, Module, Process};
use object::read::ReadCache;
use object::{Object as _, ObjectSegment as _};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where distributions keep debug information.
const DEBUG_DIRS: [&str; 2] = ["/usr/lib/debug", "/lib/debug"];

/// Where Fedora keeps links to binaries by build ID; elsewhere there are only debug files.
const BINARY_DIR: &str = "/usr/lib/.build-id";

/// The file to read for `module`: its path, if that still holds the same build, else one with its build ID;
/// `None` where neither is there. A wrong build would give wrong names, which are worse than none. (A debug file
/// alone serves only if it has its binary's program headers, as elfutils makes them; binutils clears the file
/// offsets in them, and then no name is found. Beside its binary, either serves.)
pub fn locate_module(module: &Module) -> Option<PathBuf> {
    let path = Path::new(&module.path);
    let Some(wanted) = &module.build_id else {
        // Nothing to compare; blazesym opens only regular ELF files anyway.
        return path.is_file().then(|| path.into());
    };
    if path.is_absolute() && build_id(path).as_ref() == Some(wanted) {
        return Some(path.into());
    }
    let (first, rest) = split(wanted)?;
    let debug = debug_dirs(None).into_iter().map(|dir| dir.join(format!(".build-id/{first}/{rest}.debug")));
    [PathBuf::from(format!("{BINARY_DIR}/{first}/{rest}"))]
        .into_iter()
        .chain(debug)
        .find(|path| build_id(path).as_ref() == Some(wanted))
}

/// A binary's separate debug file, found by build ID alone. (By `.gnu_debuglink` blazesym finds it itself.)
pub(super) struct DebugFile {
    pub path: PathBuf,
    /// The binary's segments: file offset, length, address. The debug file's own offsets mean nothing.
    segments: Vec<(u64, u64, u64)>,
}

impl DebugFile {
    /// The debug file of the binary at `binary`, in `dirs` or where distributions put it.
    pub fn of(binary: &Path, dirs: Option<&[PathBuf]>) -> Option<Self> {
        let wanted = build_id(binary)?;
        let (first, rest) = split(&wanted)?;
        let path = debug_dirs(dirs)
            .into_iter()
            .map(|dir| dir.join(format!(".build-id/{first}/{rest}.debug")))
            .find(|path| build_id(path).as_ref() == Some(&wanted))?;
        let data = ReadCache::new(File::open(binary).ok()?);
        let elf = object::File::parse(&data).ok()?;
        let segments = elf
            .segments()
            .map(|segment| (segment.file_range().0, segment.file_range().1, segment.address()))
            .collect();
        Some(Self { path, segments })
    }

    /// The ELF address of the binary's file offset `offset`.
    pub fn address(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|&(start, length, address)| {
            let within = offset.checked_sub(start).filter(|within| *within < length)?;
            address.checked_add(within)
        })
    }
}

/// The build ID of the file at `path`, if it is an ELF file that has one.
fn build_id(path: &Path) -> Option<BuildId> {
    if !path.is_file() {
        return None;
    }
    guarded(|| Some(BuildId(blazesym::helper::read_elf_build_id(path).ok()??.to_vec())))
}

/// First byte and rest of a build ID in hex, as directories and names are made from it.
fn split(id: &BuildId) -> Option<(String, String)> {
    let hex = id.to_string();
    hex.split_at_checked(2).map(|(first, rest)| (first.to_owned(), rest.to_owned()))
}

fn debug_dirs(dirs: Option<&[PathBuf]>) -> Vec<PathBuf> {
    dirs.map_or_else(|| DEBUG_DIRS.map(PathBuf::from).into(), Into::into)
}

/// The perf map that `process` writes for the code it generates, if it still runs under its name: a map that
/// another process of the same PID left behind would give wrong names. Looked for in the process's own /tmp,
/// under the PID it knows itself by, and then in ours.
pub fn locate_perf_map(process: &Process) -> Option<PathBuf> {
    let pid = process.pid;
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if process.exited || comm.trim_end_matches('\n') != process.comm {
        return None;
    }
    // proc_pid_status(5): the last of NSpid is the PID in the innermost namespace.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let inner = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .and_then(|pids| pids.split_whitespace().next_back()?.parse::<u32>().ok())
        .unwrap_or(pid);
    [format!("/proc/{pid}/root/tmp/perf-{inner}.map"), format!("/tmp/perf-{pid}.map")]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}
