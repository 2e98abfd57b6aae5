//! Files that others have a say in: a traced process names them, and may put anything in their place at any time. Only
//! regular files are opened: opening a FIFO waits for whoever writes, and opening a device does what its driver does.

use super::procfs;
use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::Path,
};

/// Opens the regular file at `path` for reading; links are followed, those of /proc too. Errors with `InvalidInput` where
/// it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    regular(File::options().read(true).custom_flags(libc::O_PATH).open(path)?)
}

/// Opens the regular file that process `pid` knows as `path`: no link leads out of its root (openat2(2), Linux 5.6).
pub fn open_in_root(pid: u32, path: &Path) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let root = File::options().read(true).custom_flags(flags).open(procfs::path(pid, "root"))?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a value of this plain C type.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: a descriptor and pointers to locals that live through the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            mem::size_of::<libc::open_how>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel gave it to us just now.
    regular(File::from(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// Opens for reading what `looked_at`, opened by O_PATH, has found.
fn regular(looked_at: File) -> io::Result<File> {
    if !looked_at.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let again = format!("/proc/self/fd/{}", looked_at.as_raw_fd());
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(again)
}

/// What is left to read, at most `most` bytes. Errors with `FileTooLarge` where there is more.
pub fn read_bounded(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink, process};

    fn fifo(path: &Path) {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a C string that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        fifo(&pipe);
        symlink("/dev/zero", &link).unwrap();
        for path in [&pipe, &link, folder.path()] {
            for opened in [open(path), open_in_root(process::id(), path)] {
                assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", path.display());
            }
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "four").unwrap();
        for most in [4, 5, u64::MAX] {
            assert_eq!(read_bounded(open(&file).unwrap(), most).unwrap(), b"four");
        }
        let error = read_bounded(open_in_root(process::id(), &file).unwrap(), 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        // Without an end.
        assert!(read_bounded(io::repeat(0), 1000).is_err());
    }

    #[test]
    fn no_link_of_proc_leads_anywhere_within_a_root() {
        let own = format!("/proc/{}/exe", process::id());
        assert!(open(Path::new(&own)).is_ok());
        assert!(open_in_root(process::id(), Path::new(&own)).is_err());
    }
}
