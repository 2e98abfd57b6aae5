//! tracefs, where the numbers of tracepoints are: whether it is there and may be read. Mounts nothing.

use super::system;
use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
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
    /// include/uapi/linux/mount.h
    const FSCONFIG_CMD_CREATE: libc::c_long = 6;
    // SAFETY: a NUL-terminated name that outlives the call.
    let context = unsafe { descriptor(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 0)) }?;
    let no_key = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no key and no value.
    let created = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, no_key, no_key, 0)
    };
    if created != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    let mount = unsafe { descriptor(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0)) }?;
    // SAFETY: a NUL-terminated path that outlives the call.
    let found = unsafe { libc::faccessat(mount.as_raw_fd(), SAMPLE.as_ptr(), libc::F_OK, 0) };
    if found == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::NotFound => Ok(false),
        error => Err(error),
    }
}

/// # Safety
/// `result` is what a system call that makes a descriptor gave.
unsafe fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: by the caller: new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
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
