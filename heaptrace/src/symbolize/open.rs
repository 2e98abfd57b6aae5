//! Opening files by paths that others may have made: regular files only, and nothing else is opened even for a moment,
//! as that alone can hang (a FIFO), or do something (a device).

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd as _},
    path::Path,
};

/// The largest file that is looked into: the debug files of browsers have some 5 GB. Mapping one costs nothing by itself,
/// but a checksum reads all of it.
pub const MAX_FILE: u64 = 16 << 30;

/// What may be between a path and its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Symbolic links: what the file holds proves that it is the one.
    Followed,
    /// None, as nothing else tells that it is the one.
    Refused,
}

/// Why a file is not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Not there, or not for us to read.
    Absent,
    /// A directory, FIFO, socket or device.
    NotRegular,
    TooLarge,
}

/// Opens the regular file at `path` for reading.
pub fn open_regular(path: &Path, links: Links) -> Result<File, Unfit> {
    let resolve = match links {
        Links::Followed => ResolveFlags::NO_MAGICLINKS,
        Links::Refused => ResolveFlags::NO_SYMLINKS,
    };
    open_below(CWD, path, resolve)
}

/// As [`open_regular`], from the folder `below`.
pub fn open_below(below: impl AsFd, path: &Path, resolve: ResolveFlags) -> Result<File, Unfit> {
    // Linux 5.6.
    let found = openat2(below, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(|_| Unfit::Absent)?;
    let status = fstat(&found).map_err(|_| Unfit::Absent)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Unfit::NotRegular);
    }
    if status.st_size as u64 > MAX_FILE {
        return Err(Unfit::TooLarge);
    }
    // The file that was looked at, whatever lies at its path by now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty());
    file.map(File::from).map_err(|_| Unfit::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn only_regular_files_are_opened_and_links_only_where_they_may_be() {
        let folder = tempfile::TempDir::new().expect("folder");
        let at = |name: &str| folder.path().canonicalize().expect("path").join(name);
        fs::write(at("file"), "x").expect("file");
        symlink(at("file"), at("link")).expect("link");
        symlink("/dev/zero", at("device")).expect("link");
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::RUSR | Mode::WUSR).expect("FIFO");
        File::create(at("sparse")).and_then(|file| file.set_len(1 << 40)).expect("sparse file");
        let opened = |name, links| open_regular(&at(name), links).map(drop);
        assert_eq!(opened("file", Links::Refused), Ok(()));
        assert_eq!(opened("link", Links::Followed), Ok(()));
        assert_eq!(opened("link", Links::Refused), Err(Unfit::Absent));
        assert_eq!(opened("fifo", Links::Followed), Err(Unfit::NotRegular));
        assert_eq!(opened("device", Links::Followed), Err(Unfit::NotRegular));
        assert_eq!(opened("sparse", Links::Followed), Err(Unfit::TooLarge));
        assert_eq!(opened("", Links::Followed), Err(Unfit::NotRegular), "the folder");
        assert_eq!(opened("other", Links::Followed), Err(Unfit::Absent));
    }
}
