//! The file behind a mapping, opened so that it stays the same file: a container's, or one that was deleted or
//! replaced since.

use super::elf::{ElfError, ElfFacts};
use super::maps::Mapping;
use super::{
    device::Device,
    foreign,
    patience::{self, Beating},
    procfs,
    served::Server,
};
use object::ReadCache;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file, as stat identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// `st_dev`; not always what /proc/PID/maps shows (btrfs, overlayfs).
    pub dev: u64,
    pub inode: u64,
}

/// A file in one state: an inode number can be given to another file, and a file be written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    pub id: FileId,
    /// Bytes.
    pub size: u64,
    /// Seconds and nanoseconds since the Unix epoch.
    pub modified: (i64, i64),
}

/// A failure to get at the file behind a mapping.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("failed to open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is another file now than the one that process {pid} maps; run as root, or with CAP_CHECKPOINT_RESTORE, to find the mapped one", path.display())]
    Replaced { pid: u32, path: PathBuf },
    #[error("{} is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("{} was not looked into: more files are mapped than can be held open", path.display())]
    TooMany { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Elf { path: PathBuf, source: ElfError },
}

/// An opened file that has not been looked into.
#[derive(Debug)]
pub struct Opened {
    pub path: PathBuf,
    pub stamp: FileStamp,
    file: File,
}

impl Opened {
    /// Opens the file that `mapping` of process `pid` maps: through map_files, which leads to the mapped file
    /// itself whatever became of its name, or else by its path as the process sees it, if that still is the file.
    pub fn behind(pid: u32, mapping: &Mapping) -> Result<Self, ObjectError> {
        let path = mapping.path.clone().unwrap_or_default();
        let link = procfs::path(pid, &format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
        match Self::through(pid, link, path) {
            // Whoever opens it by another way would wait, too.
            Err(ObjectError::Open { source, .. })
                if mapping.file().is_some() && source.kind() != io::ErrorKind::TimedOut =>
            {
                Self::by_path(pid, mapping, source)
            }
            result => result,
        }
    }

    /// map_files needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (Linux 5.9); `map_files_error` says why it failed.
    fn by_path(pid: u32, mapping: &Mapping, map_files_error: io::Error) -> Result<Self, ObjectError> {
        let path = mapping.path.clone().unwrap_or_default();
        // Leads to the executable whatever became of its name, for everyone who may read /proc/PID/maps.
        if let Ok(exe) = Self::through(pid, procfs::path(pid, "exe"), path.clone())
            && exe.is_mapped_by(mapping)
        {
            return Ok(exe);
        }
        if mapping.deleted {
            return Err(ObjectError::Open { path, source: map_files_error });
        }
        let name = path.clone();
        let found = patience::look(pid, move || opened(foreign::open_in_root(pid, &name)));
        let opened = Self::of(found.flatten(), path.clone())?;
        if opened.is_mapped_by(mapping) { Ok(opened) } else { Err(ObjectError::Replaced { pid, path }) }
    }

    fn is_mapped_by(&self, mapping: &Mapping) -> bool {
        let FileId { dev, inode } = self.stamp.id;
        let same_dev = (libc::major(dev), libc::minor(dev)) == mapping.dev
            // btrfs and overlayfs show in maps another anonymous device (major 0) than stat does.
            || mapping.dev.0 == 0 && libc::major(dev) == 0;
        same_dev && inode == mapping.inode
    }

    /// Opens the file at `path`.
    pub fn at(path: &Path) -> Result<Self, ObjectError> {
        let (device, name) = (Device::at(path), path.to_owned());
        let found = patience::look_at_files(device, move || opened(foreign::open(&name)));
        Self::of(found.flatten(), path.to_owned())
    }

    /// Opens what a link of process `pid`'s /proc leads to. To follow it may take waiting for the process's memory, and to open
    /// what is there, for its file system.
    fn through(pid: u32, link: PathBuf, path: PathBuf) -> Result<Self, ObjectError> {
        let found = patience::look(pid, move || foreign::find(&link)).flatten();
        let found = found.and_then(|found| {
            let device = Device::of(&found);
            patience::look_at_files(device, move || opened(foreign::regular(found))).flatten()
        });
        Self::of(found, path)
    }

    fn of(found: io::Result<(File, Metadata)>, path: PathBuf) -> Result<Self, ObjectError> {
        let (file, metadata) = found.map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput => ObjectError::NotRegular { path: path.clone() },
            _ => ObjectError::Open { path: path.clone(), source },
        })?;
        let stamp = FileStamp {
            id: FileId { dev: metadata.dev(), inode: metadata.ino() },
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        Ok(Self { path, stamp, file })
    }
}

impl Opened {
    /// What `look` gives, which reads from this file: its file system may never answer.
    ///
    /// # Errors
    /// `Open` if it does not.
    pub fn patiently<T: Send + 'static>(
        self,
        look: impl FnOnce(Self) -> T + Send + 'static,
    ) -> Result<T, ObjectError> {
        let path = self.path.clone();
        patience::look_at_files(Device::of(&self.file), move || look(self))
            .map_err(|source| ObjectError::Open { path, source })
    }
}

fn opened(file: io::Result<File>) -> io::Result<(File, Metadata)> {
    let file = file?;
    patience::beat();
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// An opened ELF file. Holds a descriptor, so share it.
#[derive(Debug)]
pub struct Object {
    /// As the process that it was first seen in names it.
    pub path: PathBuf,
    pub stamp: FileStamp,
    /// The file that the kernel puts breakpoints into, as the first of its names was identified: see
    /// [`super::one_inode`]. Mostly this one.
    pub below: FileStamp,
    pub elf: ElfFacts,
    /// Who says what is in it, where that is neither root nor who runs heaptrace, but a server of another's.
    pub stranger: Option<Server>,
    file: Arc<File>,
    /// Its file system asks a server.
    may_be_deaf: bool,
}

impl Object {
    /// Looks into an opened file. Errors where it is no x86_64 ELF file.
    pub fn read(opened: Opened) -> Result<Self, ObjectError> {
        let Opened { path, stamp, file } = opened;
        // Read, not mapped: a mapped file that its owner truncates meanwhile would kill us with SIGBUS.
        let elf = ElfFacts::parse(&ReadCache::new(Beating(&file)))
            .map_err(|source| ObjectError::Elf { path: path.clone(), source })?;
        let may_be_deaf = Device::of(&file).is_some_and(|device| device.may_be_deaf());
        let stranger = Server::of(&file).filter(|server| !server.is_trusted());
        Ok(Self { path, stamp, below: stamp, elf, stranger, file: Arc::new(file), may_be_deaf })
    }

    pub fn id(&self) -> FileId {
        self.stamp.id
    }

    /// Whether this is the file of `mapping`. It may have been opened by another name; and where maps and stat
    /// number devices differently (overlayfs, btrfs), the name decides.
    pub fn is_behind(&self, mapping: &Mapping) -> bool {
        let FileId { dev, inode } = self.stamp.id;
        let same_file = inode == mapping.inode && (libc::major(dev), libc::minor(dev)) == mapping.dev;
        mapping.file().is_some_and(|path| same_file || path == self.path)
    }

    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// To be read in parts, each of which is kept. Who does so within a look ([`patience::look_at_files`]) is patient.
    pub fn reader(&self) -> ReadCache<Beating<&File>> {
        ReadCache::new(Beating(&self.file))
    }

    /// What `look` gives, which reads from this file: its file system may never answer.
    ///
    /// # Errors
    /// `TimedOut` if it does not.
    pub fn look<T: Send + 'static>(&self, look: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        patience::look_at_files(Device::of(&*self.file), look)
    }

    /// A path to the file in this process, for system calls that take one. Good as long as the object lives.
    pub fn attach_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Up to `len` bytes at file offset `offset`; fewer at the end of the file.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if !self.may_be_deaf {
            return read_at(&self.file, offset, len);
        }
        let file = Arc::clone(&self.file);
        self.look(move || read_at(&file, offset, len)).flatten()
    }

    /// Name of the file without its directory.
    pub fn file_name(&self) -> &std::ffi::OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    /// So much comes soon, unless nothing does.
    const AT_ONCE: usize = 1 << 20;
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        let to = len.min(filled + AT_ONCE);
        match file.read_at(&mut bytes[filled..to], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                patience::beat();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
