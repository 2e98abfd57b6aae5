//! tracefs, where the numbers of tracepoints are: whether it is there and may be read. Mounts nothing.

use super::system;
use rustix::{
    fs::{Access, AtFlags, accessat},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};
use std::{
    ffi::CStr,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

/// Where it is looked for, in this order; the second is the automatic mount within debugfs.
pub const ROOTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A tracepoint that every kernel with syscall tracepoints has (CONFIG_FTRACE_SYSCALLS).
const SAMPLE: &CStr = c"events/syscalls/sys_enter_brk/id";

/// What there is.
#[derive(Debug)]
pub enum Tracefs {
    /// Mounted here, with syscall tracepoints.
    Usable(PathBuf),
    /// Mounted here by a kernel without syscall tracepoints.
    WithoutSyscalls(PathBuf),
    /// Mounted, and closed to us.
    Closed {
        root: PathBuf,
        source: io::Error,
    },
    NotMounted,
}

impl Tracefs {
    /// Looks for it.
    pub fn find() -> Self {
        Self::find_in(ROOTS.map(Path::new))
    }

    fn find_in<'a>(roots: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut best = Self::NotMounted;
        for root in roots {
            let sample = root.join(SAMPLE.to_str().unwrap_or_default());
            match (system::metadata(root.join("events")), system::open(sample)) {
                (Ok(_), Ok(_)) => return Self::Usable(root.to_owned()),
                (Ok(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    best = Self::WithoutSyscalls(root.to_owned());
                }
                (Ok(_), Err(source)) | (Err(source), _)
                    if source.kind() == io::ErrorKind::PermissionDenied
                        && matches!(best, Self::NotMounted) =>
                {
                    best = Self::Closed { root: root.to_owned(), source };
                }
                _ => {}
            }
        }
        best
    }
}

/// Whether this kernel's tracefs has syscall tracepoints, asked of an instance that is mounted nowhere. Needs
/// CAP_SYS_ADMIN (Linux 5.2, fs/fsopen.c).
pub fn has_syscalls_unmounted() -> io::Result<bool> {
    let context = fsopen("tracefs", FsOpenFlags::empty())?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::empty(), MountAttrFlags::empty())?;
    match accessat(mount, SAMPLE, Access::EXISTS, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_mounted_is_told_from_what_is_not() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (empty, bare, whole) = ("empty", "bare", "whole");
        fs::create_dir(folder.path().join(empty)).expect("empty");
        fs::create_dir_all(folder.path().join(bare).join("events")).expect("bare");
        let sample = folder.path().join(whole).join(SAMPLE.to_str().expect("text"));
        fs::create_dir_all(sample.parent().expect("parent")).expect("whole");
        fs::write(sample, "1\n").expect("sample");
        let find = |names: &[&str]| {
            let roots: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
            Tracefs::find_in(roots.iter().map(PathBuf::as_path))
        };
        assert!(matches!(find(&[empty, "missing"]), Tracefs::NotMounted));
        assert!(matches!(find(&[bare]), Tracefs::WithoutSyscalls(root) if root.ends_with(bare)));
        assert!(matches!(find(&[bare, whole]), Tracefs::Usable(root) if root.ends_with(whole)));
    }
}
