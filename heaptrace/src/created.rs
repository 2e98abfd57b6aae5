//! Files that a user names, to be written or read. What stands there may have been put there by somebody else, to have it
//! overwritten, to have devices of others opened, or to keep us waiting.

#![expect(clippy::disallowed_methods, reason = "what stands there is looked at before it is opened")]

use crate::process::foreign;
use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::geteuid,
};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What a path that is to be written stands for, opened where it is there.
#[derive(Debug)]
pub enum Place {
    /// A pipe, a terminal or the like, or a descriptor that was handed to us (`/dev/stdout`): written to as it is.
    Stream(File),
    /// A file, there or not, or a link to one: made anew, in place of the link.
    File,
}

/// What a path that is to be written stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Descriptor,
    /// A pipe or a device, which this is the identity of.
    Stream((u64, u64)),
    File,
}

fn refused<T>(why: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Tells what `path` stands for, and opens nothing.
///
/// # Errors
/// If it can be none of them: a folder, a disk, a socket, a pipe or device that only a link leads to, or a pipe that
/// another user has left in a folder for all.
pub fn kind(path: &Path) -> io::Result<Kind> {
    if is_descriptor(path) {
        return Ok(Kind::Descriptor);
    }
    let here = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kind::File),
        here => here?,
    };
    let kind = here.file_type();
    if kind.is_symlink() {
        return match fs::metadata(path) {
            Ok(there) if !there.is_file() => refused("it is a link to what is no file; name that itself"),
            _ => Ok(Kind::File),
        };
    }
    if kind.is_file() {
        return Ok(Kind::File);
    }
    if kind.is_dir() {
        return refused("it is a folder");
    }
    if !kind.is_fifo() && !kind.is_char_device() {
        return refused("it is neither a file nor a pipe or terminal");
    }
    // As fs.protected_fifos has it.
    if kind.is_fifo() && here.uid() != own_uid() && is_for_all(&folder_of(path).metadata()?) {
        return refused("it is a pipe that another user has left in a folder for all");
    }
    Ok(Kind::Stream((here.dev(), here.ino())))
}

/// Opens what `path` stands for, if it is there and is no file, without waiting for anybody.
///
/// # Errors
/// As [`kind`], and if it is a pipe that nobody reads.
pub fn place(path: &Path) -> io::Result<Place> {
    let here = match kind(path)? {
        Kind::File => return Ok(Place::File),
        // Behind what is there: the shell has emptied it, or was told not to.
        Kind::Descriptor => return OpenOptions::new().append(true).open(path).map(Place::Stream),
        Kind::Stream(identity) => identity,
    };
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let file = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return refused("nobody reads this pipe"),
        file => file?,
    };
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != here {
        return refused("it changed while it was opened");
    }
    wait_in_writes(&file)?;
    Ok(Place::Stream(file))
}

/// Opens what `path` stands for, for reading. A pipe that is named itself is waited for.
///
/// # Errors
/// As [`kind`], and if it is not there.
pub fn open(path: &Path) -> io::Result<File> {
    match kind(path)? {
        Kind::File => foreign::open(path),
        Kind::Descriptor => File::open(path),
        Kind::Stream(here) => {
            let file =
                OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY).open(path)?;
            let opened = file.metadata()?;
            if (opened.dev(), opened.ino()) == here {
                Ok(file)
            } else {
                refused("it changed while it was opened")
            }
        }
    }
}

/// Opens a file of ours anew, for reading, whatever name it has by now.
pub fn open_again(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Sees to it that there is a folder at `path`, of our own, in which others can do nothing.
///
/// # Errors
/// If it cannot be made, or is another's or open to others.
pub fn own_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    is_own_folder(path)
}

fn is_own_folder(path: &Path) -> io::Result<()> {
    let there = fs::symlink_metadata(path)?;
    if there.is_dir() && there.uid() == own_uid() && there.mode() & 0o077 == 0 {
        Ok(())
    } else {
        refused("it is no folder of this user alone")
    }
}

/// What is in such a folder.
///
/// # Errors
/// If there is none.
pub fn own_entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    is_own_folder(path)?;
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

/// Whether both paths lead to one file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Whether `path` leads to a folder.
pub fn is_folder(path: &Path) -> bool {
    path.is_dir()
}

/// Whether `path` leads to a file.
pub fn is_file(path: &Path) -> bool {
    path.is_file()
}

/// Whether `path` is, or leads to, an open descriptor of a process's: `/dev/stdout`, `/dev/fd/3`.
fn is_descriptor(path: &Path) -> bool {
    /// More than any system has on the way there.
    const LINKS: usize = 8;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(folder) = folder_of(&path).canonicalize() else { return false };
        if folder.starts_with("/proc") {
            return true;
        }
        // Only links of root's lead on: anybody may leave one to a descriptor of ours.
        match (fs::symlink_metadata(&path), fs::read_link(&path)) {
            (Ok(link), Ok(target))
                if link.uid() == 0 && folder.metadata().is_ok_and(|folder| !is_for_all(&folder)) =>
            {
                path = folder.join(target)
            }
            _ => return false,
        }
    }
    false
}

/// Whether others may make files in a folder.
fn is_for_all(folder: &Metadata) -> bool {
    folder.mode() & 0o002 != 0
}

/// The folder that `path` is in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn own_uid() -> u32 {
    geteuid().as_raw()
}

/// Ends O_NONBLOCK, which was for opening only.
fn wait_in_writes(file: &File) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::empty())?)
}

/// Creates a file that its owner alone can read; never what is there already, whatever it is.
pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// A new file beside its place, which it takes when it is given its name; gone again if it is not.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    /// Until named.
    beside: Option<PathBuf>,
    pub file: File,
}

impl NewFile {
    /// # Errors
    /// If nothing can be created in that folder.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        let mut number = 0;
        loop {
            let mut beside = OsString::from(".");
            beside.push(name);
            beside.push(format!(".new-{}-{number}", std::process::id()));
            let beside = folder_of(path).join(beside);
            match create_new(&beside) {
                Ok(file) => return Ok(Self { path: path.into(), beside: Some(beside), file }),
                // Somebody's, or one that was left.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives it its name, and so replaces what has it: a link, not what that leads to.
    ///
    /// # Errors
    /// What renaming fails with.
    pub fn name(&mut self) -> io::Result<()> {
        if let Some(beside) = &self.beside {
            fs::rename(beside, &self.path)?;
            self.beside = None;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // A file that stays does no harm.
            let _ = fs::remove_file(beside);
        }
    }
}

#[cfg(test)]
#[path = "created_tests.rs"]
mod tests;
