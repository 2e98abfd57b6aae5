//! Which files are looked into for names: regular ones, and none too large.

use crate::process::foreign;
pub use crate::process::foreign::Links;
use rustix::fs::ResolveFlags;
use std::{fs::File, io, os::fd::AsFd, path::Path};

/// The largest file that is looked into: the debug files of browsers have some 5 GB. Mapping one costs nothing by itself,
/// but a checksum reads all of it.
pub const MAX_FILE: u64 = 16 << 30;

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
    fit(foreign::open_by_name(path, links))
}

/// As [`open_regular`], from the folder `below`.
pub fn open_below(below: impl AsFd, path: &Path, resolve: ResolveFlags) -> Result<File, Unfit> {
    fit(foreign::open_below(below, path, resolve))
}

fn fit(opened: io::Result<File>) -> Result<File, Unfit> {
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Unfit::NotRegular,
        _ => Unfit::Absent,
    })?;
    let length = file.metadata().map_err(|_| Unfit::Absent)?.len();
    if length > MAX_FILE { Err(Unfit::TooLarge) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode};
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
