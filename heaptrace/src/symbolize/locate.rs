//! Which file holds a module's symbols, on the machine that a report is made on.

use crate::model::{Module, Process};
use std::fs;
use std::path::{Path, PathBuf};

/// Where distributions keep files by build ID: debug files as `.debug`, in Fedora also links to the binaries.
const BUILD_ID_DIRS: [&str; 2] = ["/usr/lib/debug/.build-id", "/usr/lib/.build-id"];

/// The file to read for `module`: its path, if that still holds the same build, else one with its build ID;
/// `None` where neither is there. A wrong build would give wrong names, which are worse than none.
pub fn locate_module(module: &Module) -> Option<PathBuf> {
    let path = Path::new(&module.path);
    let Some(wanted) = &module.build_id else {
        // Nothing to compare; blazesym opens only regular ELF files anyway.
        return path.is_file().then(|| path.into());
    };
    let is_wanted = |path: &Path| {
        path.is_file()
            && blazesym::helper::read_elf_build_id(path).is_ok_and(|id| id.is_some_and(|id| *id == *wanted.0))
    };
    if path.is_absolute() && is_wanted(path) {
        return Some(path.into());
    }
    let hex = wanted.to_string();
    let (first, rest) = hex.split_at_checked(2)?;
    BUILD_ID_DIRS
        .iter()
        .flat_map(|dir| [format!("{dir}/{first}/{rest}"), format!("{dir}/{first}/{rest}.debug")])
        .map(PathBuf::from)
        .find(|path| is_wanted(path))
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
