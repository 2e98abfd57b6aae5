//! Tables on disk, so that a file's is made once and not at each start. Only files with a build ID; trusts nothing
//! that it reads back: what is odd in any way is made anew.
//!
//! The build ID alone would let anyone who can run a program with libc's build ID plant a table for libc, so a
//! table is also bound to the file that it was made of: device, inode, size and the two times of change, one of
//! which no one can set.

use super::table::{FileTable, LocalRow, PageRows, RowKind, TableStats};
use crate::process::object::Object;
use heaptrace_common::unwind::{PAGE_BITS, Rule};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const MAGIC: [u8; 8] = *b"HTUNWIND";

/// Raise when the format or what the rows mean changes; files of other versions are made anew.
const VERSION: u32 = 4;

/// Magic, version, page bits, checksum of the rest.
const HEADER: usize = 20;

/// The largest cache file, in bytes: LLVM's library has 1.3 MB, and 6 MB of exact rows.
const MAX_ENTRY: u64 = 32 << 20;

const SUFFIX: &str = ".unwind";
const TEMPORARY: &str = ".new-";

/// After so long a temporary file is a left-over of a process that died.
const STALE: Duration = Duration::from_secs(3600);

/// A directory of tables that belongs to this user alone.
#[derive(Debug)]
pub struct Cache {
    directory: File,
    max_bytes: u64,
    /// Bytes in the directory, as far as this process knows: counted at the first write, and anew whenever there seem
    /// to be too many, because a look at every file at each write would be quadratic.
    bytes: AtomicU64,
}

/// `Cache::bytes` before the first write.
const NOT_COUNTED: u64 = u64::MAX;

/// What a table was made of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    rows: RowKind,
    build_id: Vec<u8>,
    dev: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Unlike the other time, nobody can set this.
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Entry {
    identity: Identity,
    /// By which the file may be found again.
    path: PathBuf,
    stats: TableStats,
    first_page: u32,
    pages: Vec<PageRows>,
    rows: Vec<LocalRow>,
    rules: Vec<u64>,
}

impl Cache {
    /// Opens the cache in `directory`, which is made if only it is missing. Errors where it is a symbolic link,
    /// belongs to someone else or others may write to it. Its files have at most `max_bytes` in all.
    pub fn open(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(directory)?;
        let metadata = directory.metadata()?;
        if !is_ours(&metadata) || metadata.mode() & 0o022 != 0 {
            let message = "the cache directory belongs to someone else or others may write to it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(Self { directory, max_bytes, bytes: AtomicU64::new(NOT_COUNTED) })
    }

    /// The table of a file, if it is there and beyond doubt.
    pub fn load(&self, object: &Object, kind: RowKind) -> Option<FileTable> {
        let identity = Identity::of(object, kind)?;
        let path = self.path(&identity.file_name());
        let table = decode(&self.read(&path)?, &identity)?;
        // So that it is not the oldest; if that fails, it is thrown out sooner.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(table)
    }

    /// Paths of the files that have tables of `kind` here, those used last first; at most `limit`. Whether a path still
    /// leads to that file, [`Self::load`] finds out.
    pub fn paths(&self, kind: RowKind, limit: usize) -> Vec<PathBuf> {
        let Ok(directory) = fs::read_dir(self.path("")) else { return Vec::new() };
        let mut files: Vec<(SystemTime, PathBuf)> = directory
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(SUFFIX.as_bytes()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        let entries = files.into_iter().filter_map(|(_, path)| entry(&self.read(&path)?));
        entries.filter(|entry| entry.identity.rows == kind).map(|entry| entry.path).take(limit).collect()
    }

    /// What is in a file of the cache that is ours.
    fn read(&self, path: &Path) -> Option<Vec<u8>> {
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

    /// Keeps the table of a file that has a build ID, and throws out the tables not used for longest if there are
    /// too many. Errors where the directory cannot be written.
    pub fn save(&self, object: &Object, kind: RowKind, table: &FileTable) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Some(identity) = Identity::of(object, kind) else { return Ok(()) };
        let name = identity.file_name();
        let bytes = encode(identity, &object.path, table)?;
        if bytes.len() as u64 > MAX_ENTRY.min(self.max_bytes) {
            return Ok(());
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = self.path(&format!("{TEMPORARY}{}-{number}", std::process::id()));
        let written = write_new(&new, &bytes).and_then(|()| fs::rename(&new, self.path(&name)));
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
    fn path(&self, name: &str) -> PathBuf {
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
            } else if name.ends_with(SUFFIX) {
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

impl Identity {
    fn of(object: &Object, rows: RowKind) -> Option<Self> {
        let build_id = object.elf.build_id.as_ref().filter(|id| (4..=64).contains(&id.0.len()))?;
        let metadata = object.file().metadata().ok()?;
        let stamp = object.stamp;
        let unchanged =
            (metadata.mtime(), metadata.mtime_nsec()) == stamp.modified && metadata.len() == stamp.size;
        unchanged.then(|| Self {
            rows,
            build_id: build_id.0.clone(),
            dev: stamp.id.dev,
            inode: stamp.id.inode,
            size: stamp.size,
            modified: stamp.modified,
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// One for each build ID, file and kind of rows, so that copies in containers do not push each other out.
    fn file_name(&self) -> String {
        let hex: String = self.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let kind = match self.rows {
            RowKind::Calls => "",
            RowKind::Exact => "-exact",
        };
        format!("{hex}-{:x}-{:x}{kind}{SUFFIX}", self.dev, self.inode)
    }
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    metadata.uid() == unsafe { libc::geteuid() }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // create_new follows no link: what is there, whatever it is, is an error.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

fn encode(identity: Identity, path: &Path, table: &FileTable) -> io::Result<Vec<u8>> {
    let entry = Entry {
        identity,
        path: path.to_owned(),
        stats: *table.stats(),
        first_page: table.first_page(),
        pages: table.pages().to_vec(),
        rows: table.rows().to_vec(),
        rules: table.rules().iter().map(|rule| rule.0).collect(),
    };
    let body = postcard::to_stdvec(&entry).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(PAGE_BITS.to_le_bytes());
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

fn decode(bytes: &[u8], identity: &Identity) -> Option<FileTable> {
    let entry = entry(bytes).filter(|entry| entry.identity == *identity)?;
    let rules = entry.rules.into_iter().map(Rule).collect();
    FileTable::from_parts(entry.first_page, entry.pages, entry.rows, rules, entry.stats).ok()
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let expected =
        [&MAGIC[..], &VERSION.to_le_bytes(), &PAGE_BITS.to_le_bytes(), &crc32fast::hash(body).to_le_bytes()];
    if header != expected.concat() {
        return None;
    }
    let (entry, rest) = postcard::take_from_bytes::<Entry>(body).ok()?;
    rest.is_empty().then_some(entry)
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
