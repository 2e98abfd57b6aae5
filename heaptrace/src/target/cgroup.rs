//! Cgroups (v2) as targets: where one is, its id, and who is in it.

use crate::process::system;
use std::{
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// A cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    pub folder: PathBuf,
    /// The kernel's id: the folder's inode number (`cgroup_id`, include/linux/cgroup.h; 5.5, where inode numbers
    /// have 64 bits).
    pub id: u64,
}

/// Why a cgroup cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "no cgroup2 file system is mounted (looked for in /proc/self/mountinfo), so cgroups have no paths; mount one: \
         mount -t cgroup2 none /sys/fs/cgroup"
    )]
    NotMounted,
    #[error("there is no cgroup {wanted}: {} is no folder of the cgroup2 file system on {}", folder.display(), mount.display())]
    NoSuchCgroup { wanted: String, folder: PathBuf, mount: PathBuf },
    #[error("failed to read {}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
}

impl Cgroup {
    /// The cgroup at `path`: absolute, or relative to where cgroup2 is mounted.
    pub fn find(path: &Path) -> Result<Self, CgroupError> {
        let file = PathBuf::from("/proc/self/mountinfo");
        let mountinfo = system::read(&file).map_err(|source| CgroupError::Io { file, source })?;
        let mount = mount_point(&mountinfo).ok_or(CgroupError::NotMounted)?;
        let folder = locate(path, &mount);
        let there = system::metadata(&folder).ok().filter(|meta| meta.is_dir());
        let of_mount =
            system::metadata(&mount).ok().zip(there).filter(|(mount, there)| mount.dev() == there.dev());
        match of_mount {
            Some((_, meta)) => Ok(Self { folder, id: meta.ino() }),
            None => Err(CgroupError::NoSuchCgroup { wanted: path.display().to_string(), folder, mount }),
        }
    }

    /// The PIDs of the processes in it and below, in ascending order.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let file = folder.join("cgroup.procs");
            match system::read_text(&file) {
                // 0 stands for a process of a PID namespace that we do not see.
                Ok(text) => pids
                    .extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0)),
                // Removed meanwhile; or threaded, and then its processes are the parent's (cgroup-v2.rst).
                Err(error) if folder != self.folder || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(source) => return Err(CgroupError::Io { file, source }),
            }
            let entries = system::folder(&folder).into_iter().flatten().flatten();
            folders.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}

fn locate(path: &Path, mount: &Path) -> PathBuf {
    if path.starts_with(mount) {
        return path.to_owned();
    }
    mount.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where a cgroup2 file system is mounted (proc_pid_mountinfo(5)): the one with the shortest path.
fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = fields.nth(4)?;
        // Optional fields end in a dash; the type follows.
        fields.find(|field| *field == b"-")?;
        (fields.next()? == b"cgroup2").then(|| PathBuf::from(std::ffi::OsStr::from_bytes(point)))
    });
    mounts.min_by_key(|point| point.as_os_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"24 1 0:22 / /sys rw - sysfs sysfs rw\n\
        30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n\
        31 24 0:27 / /sys/fs/cgroup/cpu rw shared:6 - cgroup cgroup rw,cpu\n";

    #[test]
    fn the_mount_is_found_by_its_type() {
        assert_eq!(mount_point(MOUNTS), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point(b"31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw\n\nx\n"), None);
    }

    #[test]
    fn paths_are_relative_to_the_mount_unless_they_lie_below_it() {
        let mount = Path::new("/sys/fs/cgroup");
        for path in ["system.slice/x", "/system.slice/x", "/sys/fs/cgroup/system.slice/x"] {
            assert_eq!(locate(Path::new(path), mount), Path::new("/sys/fs/cgroup/system.slice/x"), "{path}");
        }
    }
}
