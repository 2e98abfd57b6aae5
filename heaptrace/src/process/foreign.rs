//! Files that others have a say in: a traced process names them, and may put anything in their place at any time. Only
//! regular files are opened: opening a FIFO waits for whoever writes, and opening a device does what its driver does.

#![expect(clippy::disallowed_methods, reason = "this is where they are used with care")]

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// What may be between a path and its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Symbolic links: what the file holds proves that it is the one.
    Followed,
    /// None, as nothing else tells that it is the one.
    Refused,
}

/// Opens the regular file at `path` for reading; links are followed, those of /proc too. Errors with `InvalidInput` where
/// it is no regular file, as all here do.
pub fn open(path: &Path) -> io::Result<File> {
    regular(find(path)?)
}

/// What is at `path`, not opened; links are followed, those of /proc too. For [`regular`].
pub fn find(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH).open(path)
}

/// Opens the regular file that we know as `path`; no link of /proc leads there.
pub fn open_by_name(path: &Path, links: Links) -> io::Result<File> {
    let resolve = match links {
        Links::Followed => ResolveFlags::NO_MAGICLINKS,
        Links::Refused => ResolveFlags::NO_SYMLINKS,
    };
    open_below(CWD, path, resolve)
}

/// As [`open_by_name`], from the folder `below`.
pub fn open_below(below: impl AsFd, path: &Path, resolve: ResolveFlags) -> io::Result<File> {
    regular(File::from(look_up(below, path, OFlags::empty(), resolve)?))
}

/// Opens the regular file that process `pid` knows as `path`: no link leads out of its root.
pub fn open_in_root(pid: u32, path: &Path) -> io::Result<File> {
    regular(File::from(in_root(Path::new(&format!("/proc/{pid}/root")), path, OFlags::empty())?))
}

/// What is at `path`, which is not opened; links are followed. By the time that it is opened it may be another.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    fs::metadata(path)
}

/// Whether anything is at `path`, be it a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// `path` without links, as they are now.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// The folder `path` within the folder `root`, to look up names from.
pub fn folder_in_root(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    in_root(root, path, OFlags::DIRECTORY)
}

fn in_root(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    look_up(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Finds what is at `path`, without opening it. (openat2 is in Linux 5.6.)
fn look_up(below: impl AsFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    Ok(openat2(below, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Opens for reading what `found`, opened by O_PATH, is: whatever lies at its path by now.
pub fn regular(found: File) -> io::Result<File> {
    if !found.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(again)
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
    use std::{os::unix::fs::symlink, process};

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        symlink("/dev/zero", &link).unwrap();
        for path in [&pipe, &link, folder.path()] {
            for opened in [open(path), open_by_name(path, Links::Followed), open_in_root(process::id(), path)]
            {
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
        assert!(open_by_name(Path::new(&own), Links::Followed).is_err());
    }
}
