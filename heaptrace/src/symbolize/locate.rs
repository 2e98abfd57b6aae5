//! Where a module's files may be: its own, and its separate debug file. Paths only; what is behind them is opened by
//! `open.rs`, and proven by its build ID or checksum.

use crate::{
    model::{BuildId, Process},
    process::{fetched::Cache, foreign, patience, procfs},
};
use rustix::fs::ResolveFlags;
use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::open::{Unfit, is_there, open_below};

/// Where distributions keep debug information.
const DEBUG_DIRS: [&str; 2] = ["/usr/lib/debug", "/lib/debug"];

/// Where Fedora keeps links to binaries by build ID; elsewhere there are only debug files.
const BINARY_DIR: &str = "/usr/lib/.build-id";

/// The longest file name (NAME_MAX, limits.h).
const MAX_FILE_NAME: usize = 255;

/// Folders that have debug files in the manner of distributions.
#[derive(Clone, Debug)]
pub struct DebugDirs {
    pub dirs: Vec<PathBuf>,
    /// What debuginfod's client has fetched.
    pub fetched: Option<Cache>,
}

impl Default for DebugDirs {
    fn default() -> Self {
        Self { dirs: DEBUG_DIRS.map(PathBuf::from).into(), fetched: None }
    }
}

impl DebugDirs {
    /// Where the binary of build `id` may be, other than where it was mapped from; the first that has it serves. (A
    /// debug file alone serves only if it has its binary's program headers, as elfutils makes them; binutils clears
    /// the file offsets in them, and then no name is found. Beside its binary, either serves.)
    pub fn binaries(&self, id: &BuildId) -> Vec<PathBuf> {
        let Some((first, rest)) = split(id) else { return Vec::new() };
        let mut paths = vec![Path::new(BINARY_DIR).join(first).join(rest)];
        paths.extend(self.fetched(id, "executable"));
        paths.extend(self.by_build_id(id));
        paths
    }

    /// Where the debug file of build `id` may be.
    pub fn by_build_id(&self, id: &BuildId) -> Vec<PathBuf> {
        let Some((first, rest)) = split(id) else { return Vec::new() };
        let installed = self.dirs.iter().map(|dir| dir.join(format!(".build-id/{first}/{rest}.debug")));
        installed.chain(self.fetched(id, "debuginfo")).collect()
    }

    /// Where debuginfod's client has put what it fetched.
    fn fetched(&self, id: &BuildId, what: &str) -> Option<PathBuf> {
        match self.fetched.as_ref()? {
            Cache::Ours(folder) => Some(folder.join(id.to_string()).join(what)),
            Cache::Refused { .. } => None,
        }
    }

    /// Where it has put something of build `id` that is not used, and why not.
    pub fn refused(&self, id: &BuildId) -> Option<(&Path, &str)> {
        match self.fetched.as_ref()? {
            Cache::Refused { folder, why } if is_there(&folder.join(id.to_string())) => Some((folder, why)),
            _ => None,
        }
    }

    /// Where the debug file `name` of the binary at `binary` may be, as gdb looks for it.
    pub fn by_name(&self, binary: &Path, name: &Path) -> Vec<PathBuf> {
        let folder = binary.parent().filter(|_| binary.is_absolute());
        let beside =
            folder.into_iter().flat_map(|folder| [folder.join(name), folder.join(".debug").join(name)]);
        let below = folder.and_then(|folder| folder.strip_prefix("/").ok());
        let in_dirs = self.dirs.iter().flat_map(|dir| {
            below.map(|below| dir.join(below).join(name)).into_iter().chain([dir.join(name)])
        });
        beside.chain(in_dirs).collect()
    }
}

/// The name in a `.gnu_debuglink`, if it is one and not a path.
pub fn bare_name(name: &[u8]) -> Option<&Path> {
    let name = std::str::from_utf8(name).ok()?;
    let is_bare = !name.is_empty() && name.len() <= MAX_FILE_NAME && !name.contains(['/', '\0']);
    (is_bare && name != "." && name != "..").then(|| Path::new(name))
}

/// First byte and rest of a build ID in hex, as directories and names are made from it.
fn split(id: &BuildId) -> Option<(String, String)> {
    let hex = id.to_string();
    let (first, rest) = hex.split_at_checked(2)?;
    (!rest.is_empty()).then(|| (first.to_owned(), rest.to_owned()))
}

/// The perf map that `process`, which was there at a time of `CLOCK_MONOTONIC`, writes for the code it generates, if it still
/// runs: a map that another process of the same PID left behind, or has now, would give wrong names. Looked for in the process's
/// own /tmp, under the PID it knows itself by, and then in ours.
pub fn open_perf_map(process: &Process, there_at_ns: u64) -> Option<File> {
    let pid = process.pid;
    if process.exited {
        return None;
    }
    // Its /tmp may be on a file system that does not answer.
    patience::look(pid, move || perf_map_of(pid, there_at_ns)).ok().flatten()
}

fn perf_map_of(pid: u32, there_at_ns: u64) -> Option<File> {
    let status = procfs::read_status(pid).ok()?;
    let inner = status.ns_pids.last().copied().unwrap_or(pid);
    let map = [(procfs::path(pid, "root"), inner), (PathBuf::from("/"), pid)].into_iter().find_map(
        |(root, pid)| {
            let folder = foreign::folder_in_root(&root, Path::new("tmp")).ok()?;
            perf_map_in(folder, pid, status.effective_uid).ok().filter(|map| is_written_by(pid, map))
        },
    );
    // Last: another process may have got the PID at any time.
    map.filter(|_| procfs::began_by(pid, there_at_ns))
}

/// The same of a dump of its code, which it has mapped from `path` as a mark.
pub fn open_jit_dump(process: &Process, path: &Path, there_at_ns: u64) -> Option<File> {
    let pid = process.pid;
    if process.exited {
        return None;
    }
    let path = path.to_owned();
    let look = move || {
        let owner = procfs::read_status(pid).ok()?.effective_uid;
        let dump = foreign::open_in_root(pid, &path).ok()?;
        let metadata = dump.metadata().ok()?;
        let is_its = is_theirs(&metadata, owner) && is_written_by(pid, &dump);
        (is_its && procfs::began_by(pid, there_at_ns)).then_some(dump)
    };
    patience::look(pid, look).ok().flatten()
}

/// Whether who runs as `owner` could have read a file: their own, or root's that all may read.
fn is_theirs(metadata: &std::fs::Metadata, owner: u32) -> bool {
    metadata.uid() == owner || metadata.uid() == 0 && metadata.mode() & 0o004 != 0
}

/// Whether a file was written to since the process that has PID `pid` now began. (Files' times are a tick of the kernel's
/// behind.)
fn is_written_by(pid: u32, file: &File) -> bool {
    const TICK_NS: i64 = 10_000_000;
    let Ok(of) = file.metadata() else { return false };
    let written_ns = of.mtime().saturating_mul(1_000_000_000).saturating_add(of.mtime_nsec());
    procfs::began_by(pid, procfs::monotonic_ns_at(written_ns.saturating_add(TICK_NS)))
}

/// The perf map of `pid`, which runs as `owner`, in `folder`. Only what it could read itself: its own file, or root's
/// that all may read; no link, and no file that was mounted there.
fn perf_map_in(folder: impl AsFd, pid: u32, owner: u32) -> Result<File, Unfit> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let map = open_below(folder, Path::new(&format!("perf-{pid}.map")), resolve)?;
    let metadata = map.metadata().map_err(|_| Unfit::Absent)?;
    if is_theirs(&metadata, owner) { Ok(map) } else { Err(Unfit::Absent) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    #[test]
    fn a_debug_link_is_a_bare_name_or_nothing() {
        assert_eq!(bare_name(b"prog.debug"), Some(Path::new("prog.debug")));
        let long = [b'a'; 256];
        for name in [&b""[..], b".", b"..", b"/dev/zero", b"../prog", b"a/b", b"a\0b", b"\xff", &long] {
            assert_eq!(bare_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn debug_files_are_looked_for_as_gdb_does() {
        let dirs = DebugDirs { dirs: vec!["/d".into()], fetched: None };
        let paths = dirs.by_name(Path::new("/opt/bin/prog"), Path::new("p.debug"));
        let expected = ["/opt/bin/p.debug", "/opt/bin/.debug/p.debug", "/d/opt/bin/p.debug", "/d/p.debug"]
            .map(PathBuf::from);
        assert_eq!(paths, expected);
        assert_eq!(dirs.by_name(Path::new("[vdso]"), Path::new("p")), [PathBuf::from("/d/p")]);
        assert_eq!(
            dirs.by_build_id(&BuildId(vec![0xab, 1, 2])),
            [PathBuf::from("/d/.build-id/ab/0102.debug")]
        );
        let fetched = DebugDirs { fetched: Some(Cache::Ours("/f".into())), ..dirs.clone() };
        assert_eq!(
            fetched.by_build_id(&BuildId(vec![0xab, 1, 2])),
            ["/d/.build-id/ab/0102.debug", "/f/ab0102/debuginfo"].map(PathBuf::from)
        );
        assert!(
            fetched.binaries(&BuildId(vec![0xab, 1, 2])).contains(&PathBuf::from("/f/ab0102/executable"))
        );
        for short in [vec![], vec![1]] {
            assert!(dirs.binaries(&BuildId(short)).is_empty());
        }
    }

    #[test]
    fn a_perf_map_is_its_processs_own_file_and_no_link() {
        let folder = tempfile::TempDir::new().expect("folder");
        let (map, other) = (folder.path().join("perf-7.map"), folder.path().join("perf-8.map"));
        fs::write(&map, "1000 10 f\n").expect("map");
        symlink(&map, &other).expect("link");
        let open = |pid, owner| perf_map_in(File::open(folder.path()).expect("folder"), pid, owner).map(drop);
        let own = fs::metadata(&map).expect("metadata").uid();
        assert_eq!(open(7, own), Ok(()));
        assert_eq!(open(8, own), Err(Unfit::Absent));
        fs::set_permissions(&map, fs::Permissions::from_mode(0o600)).expect("mode");
        assert_eq!(open(7, own + 1), Err(Unfit::Absent), "another's, which only they may read");
    }

    #[test]
    fn who_got_the_pid_later_has_no_map_for_it() {
        let pid = std::process::id();
        let map = Path::new("/tmp").join(format!("perf-{pid}.map"));
        fs::write(&map, "1000 10 f\n").expect("map");
        // Whatever it is called by now.
        let own = Process { pid, comm: "another".to_owned(), ..Process::default() };
        let opened = [u64::MAX, 0].map(|there_at_ns| open_perf_map(&own, there_at_ns).is_some());
        let file = fs::File::options().write(true).open(&map).expect("it is there");
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(86_400))
            .expect("a time");
        let left_behind = open_perf_map(&own, u64::MAX);
        fs::remove_file(&map).expect("it is there");
        assert_eq!(opened, [true, false]);
        assert!(left_behind.is_none());
    }

    /// Takes root, to mount.
    #[test]
    fn a_file_that_was_mounted_over_a_perf_map_is_not_read() {
        let folder = tempfile::TempDir::new().expect("folder");
        let (map, secret) = (folder.path().join("perf-7.map"), folder.path().join("secret"));
        fs::write(&map, "1000 10 f\n").expect("map");
        fs::write(&secret, "1000 10 secret\n").expect("secret");
        let own = fs::metadata(&map).expect("metadata").uid();
        let opened = std::thread::spawn(move || {
            // SAFETY: nothing in this thread relies on the mounts.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.ok()?;
            let private =
                rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).ok()?;
            rustix::mount::mount_bind(&secret, &map).ok()?;
            Some(perf_map_in(File::open(folder.path()).expect("folder"), 7, own).map(drop))
        });
        match opened.join().expect("the thread") {
            Some(opened) => assert_eq!(opened, Err(Unfit::Absent)),
            None => eprintln!("skipped: no mounts without root"),
        }
    }
}
