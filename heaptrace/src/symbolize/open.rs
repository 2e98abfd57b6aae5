//! Which files are looked into for names: regular ones, and none too large.

pub use crate::process::foreign::Links;
use crate::process::{device::Device, foreign, patience};
use rustix::fs::ResolveFlags;
use std::{
    fs::{File, Metadata},
    io,
    os::fd::AsFd,
    path::Path,
};

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
    /// Its file system does not answer.
    Deaf,
}

/// Opens the regular file at `path` for reading.
pub fn open_regular(path: &Path, links: Links) -> Result<File, Unfit> {
    let name = path.to_owned();
    let opened = patience::look_at_files(Device::at(path), move || fit(foreign::open_by_name(&name, links)));
    opened.unwrap_or(Err(Unfit::Deaf))
}

/// What is at `path`, which is not opened.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    let name = path.to_owned();
    patience::look_at_files(Device::at(path), move || foreign::metadata(&name)).flatten()
}

/// Whether anything is at `path`, be it a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    let name = path.to_owned();
    patience::look_at_files(Device::at(path), move || foreign::is_there(&name)).unwrap_or(true)
}

/// Of an open file, as it is now.
pub fn metadata_of(file: &File) -> io::Result<Metadata> {
    let file = file.try_clone()?;
    patience::look_at_files(Device::of(&file), move || file.metadata()).flatten()
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
