//! What was made of files, kept on disk so that it is made once and not at each start. Only of files with a build ID;
//! trusts nothing that it reads back: what is odd in any way is made anew.
//!
//! The build ID alone would let anyone who can run a program with libc's build ID plant something for libc, so all
//! is also bound to the file that it was made of: device, inode, size and the two times of change, one of which no one
//! can set.

#![expect(
    clippy::disallowed_methods,
    reason = "only this user and root lead to this folder, which is looked at first"
)]

use super::{elf::MAX_BUILD_ID, object::Object};
use rustix::{
    fs::{Mode, OFlags, mkdirat, openat},
    io::Errno,
    process::geteuid,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::{
    fd::AsRawFd as _,
    unix::fs::{MetadataExt as _, OpenOptionsExt as _},
};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The largest cache file, in bytes: LLVM's library has 1.3 MB, and 6 MB of exact rows.
const MAX_ENTRY: u64 = 32 << 20;

/// Ends of the names of all that is kept here.
const SUFFIXES: [&str; 2] = [".unwind", ".cuts"];

pub(crate) const TEMPORARY: &str = ".new-";

/// After so long a temporary file is a left-over of a process that died.
pub(crate) const STALE: Duration = Duration::from_secs(3600);

/// A directory that belongs to this user alone.
#[derive(Debug)]
pub struct FileCache {
    directory: File,
    max_bytes: u64,
    /// Bytes in the directory, as far as this process knows: counted at the first write, and anew whenever there seem
    /// to be too many, because a look at every file at each write would be quadratic.
    bytes: AtomicU64,
}

/// `FileCache::bytes` before the first write.
const NOT_COUNTED: u64 = u64::MAX;

/// How a file of the cache begins, before the checksum of the rest.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub magic: [u8; 8],
    /// Raise when the format or what it means changes; files of other versions are made anew.
    pub version: u32,
    /// What else the contents rest on.
    pub parameter: u32,
}

/// Magic, version, parameter, checksum of the rest.
pub(crate) const HEADER: usize = 20;

impl Format {
    /// A file of this format that holds `contents`.
    pub fn seal(&self, contents: &impl Serialize) -> io::Result<Vec<u8>> {
        let body = postcard::to_stdvec(contents).map_err(io::Error::other)?;
        Ok(self.sealed(&body))
    }

    /// The file of this format whose contents are encoded as `body`.
    pub(crate) fn sealed(&self, body: &[u8]) -> Vec<u8> {
        [&self.header(body)[..], body].concat()
    }

    /// What a file of this format holds; `None` if it is damaged, or of another format.
    pub fn open<T: DeserializeOwned>(&self, bytes: &[u8]) -> Option<T> {
        let (header, body) = bytes.split_at_checked(HEADER)?;
        if header != self.header(body) {
            return None;
        }
        let (contents, rest) = postcard::take_from_bytes(body).ok()?;
        rest.is_empty().then_some(contents)
    }

    fn header(&self, body: &[u8]) -> Vec<u8> {
        let Self { magic, version, parameter } = self;
        let checksum = crc32fast::hash(body);
        [&magic[..], &version.to_le_bytes(), &parameter.to_le_bytes(), &checksum.to_le_bytes()].concat()
    }
}

/// The file that something was made of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    pub build_id: Vec<u8>,
    pub dev: u64,
    pub inode: u64,
    pub size: u64,
    pub modified: (i64, i64),
    /// Unlike the other time, nobody can set this.
    pub changed: (i64, i64),
}

impl FileIdentity {
    /// `None` if it has no build ID, or has changed since it was opened.
    pub fn of(object: &Object) -> Option<Self> {
        let build_id = object.elf.build_id.as_ref().filter(|id| (4..=MAX_BUILD_ID).contains(&id.0.len()))?;
        let metadata = object.file().metadata().ok()?;
        let stamp = object.stamp;
        let unchanged =
            (metadata.mtime(), metadata.mtime_nsec()) == stamp.modified && metadata.len() == stamp.size;
        unchanged.then(|| Self {
            build_id: build_id.0.clone(),
            dev: stamp.id.dev,
            inode: stamp.id.inode,
            size: stamp.size,
            modified: stamp.modified,
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// How what was made of it is named: one for each build ID and file, so that copies in containers do not push each
    /// other out.
    pub fn name(&self) -> String {
        let hex: String = self.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}-{:x}-{:x}", self.dev, self.inode)
    }
}

impl FileCache {
    /// Opens the cache in `directory`, which is made if it is missing. Its files have at most `max_bytes` in all.
    ///
    /// # Errors
    /// If it belongs to someone else or others may write to it; or someone else than this user and root could have led
    /// us there: a folder on the way is a symbolic link, theirs, or one that others may change.
    pub fn open(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        let refused = |what: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        let (Some(folder), Some(name)) = (directory.parent(), directory.file_name()) else {
            return refused("it is no folder in a folder");
        };
        let folder = descend(folder)?;
        let directory = make_in(&folder, name, OFlags::RDONLY)?;
        let metadata = directory.metadata()?;
        if !is_ours(&metadata) || metadata.mode() & 0o022 != 0 {
            return refused("the cache directory belongs to someone else or others may write to it");
        }
        Ok(Self { directory, max_bytes, bytes: AtomicU64::new(NOT_COUNTED) })
    }

    /// Paths of the files whose names end with `suffix`, those used last first.
    pub(crate) fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let Ok(directory) = fs::read_dir(self.path("")) else { return Vec::new() };
        let mut files: Vec<(SystemTime, PathBuf)> = directory
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(suffix.as_bytes()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        files.into_iter().map(|(_, path)| path).collect()
    }

    /// What is in a file of the cache that is ours.
    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || !is_ours(&metadata) || metadata.len() > MAX_ENTRY {
            return None;
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.take(MAX_ENTRY).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Remembers that a file was of use, so that it is not the oldest; if that fails, it is thrown out sooner.
    pub(crate) fn touch(&self, path: &Path) {
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Keeps `bytes` as the file `name`, and throws out the files not used for longest if there are too many. Errors
    /// where the directory cannot be written.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if bytes.len() as u64 > MAX_ENTRY.min(self.max_bytes) {
            return Ok(());
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = self.path(&format!("{TEMPORARY}{}-{number}", std::process::id()));
        let written = write_new(&new, bytes).and_then(|()| fs::rename(&new, self.path(name)));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        let known = self.bytes.load(Ordering::Relaxed);
        let now = known.saturating_add(bytes.len() as u64);
        let counted = if known == NOT_COUNTED || now > self.max_bytes { self.drop_oldest()? } else { now };
        self.bytes.store(counted, Ordering::Relaxed);
        Ok(())
    }

    /// Through the descriptor, so that it is the directory that was checked, wherever it may be moved.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    /// Gives the bytes that are left.
    fn drop_oldest(&self) -> io::Result<u64> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.path(""))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            // Not followed if it is a link.
            let Ok(metadata) = entry.metadata() else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is_stale = || now.duration_since(used).is_ok_and(|age| age > STALE);
            if name.starts_with(TEMPORARY) && is_stale() {
                let _ = fs::remove_file(entry.path());
            } else if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                entries.push((used, metadata.len(), entry.path()));
            }
        }
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        entries.sort_unstable();
        for (_, bytes, path) in entries {
            if total <= self.max_bytes {
                break;
            }
            // Another process may have done it already.
            let _ = fs::remove_file(path);
            total -= bytes;
        }
        Ok(total)
    }
}

/// Opens a folder, one after the other from the root, each of which only this user and root can replace. Those that are
/// missing are made.
fn descend(folder: &Path) -> io::Result<File> {
    let refused = || {
        let what = "somebody else could have put another folder in place of the cache's";
        io::Error::new(io::ErrorKind::PermissionDenied, what)
    };
    let mut names = folder.components();
    if names.next() != Some(Component::RootDir) {
        return Err(refused());
    }
    let mut at = File::open("/")?;
    // Some systems have /home as a link of root's.
    let first = names.next().map(|name| Path::new("/").join(name).canonicalize()).transpose()?;
    let first = first.unwrap_or_default();
    for name in first.components().skip(1).chain(names) {
        let Component::Normal(name) = name else { return Err(refused()) };
        at = make_in(&at, name, OFlags::PATH)?;
        let metadata = at.metadata()?;
        // In a folder like /tmp nobody can rename what is another's.
        let is_changed_by_others = metadata.mode() & 0o022 != 0 && metadata.mode() & libc::S_ISVTX == 0;
        if is_changed_by_others || !(is_ours(&metadata) || metadata.uid() == 0) {
            return Err(refused());
        }
    }
    Ok(at)
}

/// Opens a folder in another, which is made if it is missing. A link is not followed.
fn make_in(folder: &File, name: &OsStr, how: OFlags) -> io::Result<File> {
    let flags = how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(folder, name, flags, Mode::empty());
    let opened = open().or_else(|error| match error {
        Errno::NOENT => {
            // Where it fails, opening does, too.
            let _ = mkdirat(folder, name, Mode::RWXU);
            open()
        }
        error => Err(error),
    });
    Ok(File::from(opened?))
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // create_new follows no link: what is there, whatever it is, is an error.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

#[cfg(test)]
#[path = "file_cache_tests.rs"]
mod tests;
