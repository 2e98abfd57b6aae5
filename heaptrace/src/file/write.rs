//! Writes a record file, one whole block at a time.

use super::{
    Codec, HEADER, Kind, MAGIC, MAX_CONTENT,
    pays::Held,
    plausible,
    version::Version,
    wire::{self, Wire},
};
use crate::created::{Place, create_new, is_file, open_again, place};
use crate::model::{Chunk, Footprint as _, Names, ProcessId, Residency, Start, Symbol};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::mem;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// zstd's own default: blocks are small and written while the target runs.
const ZSTD_LEVEL: i32 = 3;

/// After so many bytes of names a block ends: far below what the format holds, as one place's may be long.
const NAMES_BLOCK: usize = 16 << 20;

/// Padding is read as it is written, a block at a time.
const PADDING_BLOCK: u64 = 1 << 20;

/// Why a record file could not be written. Texts follow "failed to "; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("create {path}")]
    Create { path: PathBuf, source: io::Error },
    #[error("rename the earlier {path} to {old}")]
    Rename { path: PathBuf, old: PathBuf, source: io::Error },
    #[error("write to {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("write to {path}: a block of {length} bytes is more than the format holds ({MAX_CONTENT})")]
    TooLarge { path: PathBuf, length: usize },
}

/// A record file being written.
#[derive(Debug)]
pub struct FileWriter {
    path: PathBuf,
    file: File,
    /// Bytes up to the end of the last whole block.
    written: u64,
    held: Held,
}

impl FileWriter {
    /// Creates the file at `path` (readable by its owner only, as perf does) and writes its start. A file that
    /// is there already is kept as `PATH.old`, in place of an earlier one of that name.
    ///
    /// # Errors
    /// [`WriteError`], with the path.
    pub fn create(path: &Path, start: &Start) -> Result<Self, WriteError> {
        let place = place(path).map_err(|source| WriteError::Create { path: path.into(), source })?;
        Self::create_at(place, path, start)
    }

    /// The same where `path` was opened already, as far as that is to be.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_at(place: Place, path: &Path, start: &Start) -> Result<Self, WriteError> {
        let failed = |source| WriteError::Create { path: path.into(), source };
        let file = match place {
            Place::Stream(file) => file,
            Place::File => {
                // Also a link to a file, but not one that leads nowhere: that is no earlier recording.
                if is_file(path) {
                    let mut old = OsString::from(path);
                    old.push(".old");
                    let old = PathBuf::from(old);
                    let renamed = fs::rename(path, &old);
                    renamed.map_err(|source| WriteError::Rename { path: path.into(), old, source })?;
                }
                create_new(path).map_err(failed)?
            }
        };
        let mut writer = Self { path: path.into(), file, written: 0, held: Held::default() };
        let mut head = MAGIC.to_vec();
        head.extend(Version::CURRENT.major.to_le_bytes());
        writer.pack(Kind::Start, content(start), &mut head)?;
        writer.write(&head)?;
        Ok(writer)
    }

    /// Appends `chunk` as one block and hands it to the kernel; returns the bytes it took.
    ///
    /// # Errors
    /// [`WriteError`], e.g. for a full disk. What was written of the block is taken back, so that the file
    /// stays readable and a later chunk can follow.
    pub fn append(&mut self, chunk: &Chunk) -> Result<u64, WriteError> {
        let before = self.written;
        let taken = chunk.beside();
        self.write_paid(Kind::Chunk, content(chunk), taken)?;
        self.held.take_chunk(chunk, taken);
        Ok(self.written - before)
    }

    /// Appends measurements of processes, all of which an earlier chunk told of, as one block.
    ///
    /// # Errors
    /// [`WriteError`], as [`Self::append`].
    pub fn append_memory(&mut self, measured: &[(ProcessId, Residency)]) -> Result<(), WriteError> {
        if measured.is_empty() {
            return Ok(());
        }
        let measured = measured.to_vec();
        let taken = measured.beside();
        self.write_paid(Kind::Memory, content(&measured), taken)?;
        self.held.take_measured(&measured, taken);
        Ok(())
    }

    /// Appends the names of places that an earlier chunk told of, as one block or several.
    ///
    /// # Errors
    /// [`WriteError`], as [`Self::append`].
    pub fn append_names(&mut self, names: Names) -> Result<(), WriteError> {
        let length = |symbol: &Symbol| symbol.name.len() + symbol.file.as_ref().map_or(0, String::len) + 8;
        let Names { symbols, mut notes } = names;
        let mut rest = symbols.into_iter().peekable();
        while rest.peek().is_some() || !notes.is_empty() {
            let mut bytes = 0;
            let symbols = std::iter::from_fn(|| {
                let next = rest.next_if(|_| bytes < NAMES_BLOCK)?;
                bytes += next.1.iter().map(length).sum::<usize>();
                Some(next)
            });
            let names = Names { symbols: symbols.collect(), notes: mem::take(&mut notes) };
            let taken = names.beside();
            self.write_paid(Kind::Names, content(&names), taken)?;
            self.held.take_names(&names, taken);
        }
        Ok(())
    }

    /// Marks the recording as whole. Gives where it is now, if that is not where it was made: a file that was deleted
    /// meanwhile is written anew, as `PATH.kept` if its name was taken.
    ///
    /// # Errors
    /// [`WriteError`], as [`Self::append`].
    pub fn finish(mut self) -> Result<Option<PathBuf>, WriteError> {
        let mut block = Vec::new();
        self.pack(Kind::End, Vec::new(), &mut block)?;
        self.write(&block)?;
        self.keep().map_err(|source| self.write_error(source))
    }

    fn keep(&self) -> io::Result<Option<PathBuf>> {
        let ours = self.file.metadata()?;
        if !ours.is_file() || ours.nlink() > 0 {
            return Ok(None);
        }
        let mut kept = OsString::from(&self.path);
        kept.push(".kept");
        let (path, mut anew) = match create_new(&self.path) {
            Ok(file) => (self.path.clone(), file),
            Err(_) => (PathBuf::from(&kept), create_new(kept.as_ref())?),
        };
        // Opened anew, as ours is for writing only; it has no name any more but this.
        let mut content = open_again(&self.file)?;
        io::copy(&mut content, &mut anew)?;
        Ok(Some(path))
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes a block of which a reader takes `taken` bytes of memory, and before it what the file lacks for that.
    fn write_paid(&mut self, kind: Kind, content: Vec<u8>, taken: u64) -> Result<(), WriteError> {
        let length = content.len();
        let mut block = Vec::new();
        self.pack(kind, content, &mut block)?;
        let mut lacking = self.held.lacks(self.written + block.len() as u64, length, taken);
        while lacking > 0 {
            let part = lacking.min(PADDING_BLOCK);
            let mut padding = Vec::new();
            Self::put(Kind::Padding, Codec::Plain, &vec![0; part as usize], part as usize, &mut padding);
            self.write(&padding)?;
            lacking -= part;
        }
        self.write(&block)
    }

    fn pack(&self, kind: Kind, content: Vec<u8>, block: &mut Vec<u8>) -> Result<(), WriteError> {
        let length = content.len();
        if length > MAX_CONTENT {
            return Err(WriteError::TooLarge { path: self.path.clone(), length });
        }
        let packed = zstd::bulk::compress(&content, ZSTD_LEVEL).map_err(|source| self.write_error(source))?;
        let (codec, stored) = if packed.len() < length && plausible(packed.len(), length) {
            (Codec::Zstd, packed)
        } else {
            (Codec::Plain, content)
        };
        Self::put(kind, codec, &stored, length, block);
        Ok(())
    }

    fn put(kind: Kind, codec: Codec, stored: &[u8], length: usize, block: &mut Vec<u8>) {
        let mut header = [kind as u8, codec as u8, 0, 0].to_vec();
        // Both fit: neither is above MAX_CONTENT.
        header.extend((stored.len() as u32).to_le_bytes());
        header.extend((length as u32).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        crc.update(stored);
        header.extend(crc.finalize().to_le_bytes());
        debug_assert_eq!(header.len(), HEADER);
        block.extend(header);
        block.extend(stored);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if let Err(source) = self.file.write_all(bytes).and_then(|()| self.file.flush()) {
            // Best effort, as a pipe cannot be cut; the reader stops at a partial block anyway.
            if self.file.set_len(self.written).is_ok() {
                let _ = self.file.seek(SeekFrom::Start(self.written));
            }
            return Err(self.write_error(source));
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn write_error(&self, source: io::Error) -> WriteError {
        WriteError::Write { path: self.path.clone(), source }
    }
}

fn content(value: &impl Wire) -> Vec<u8> {
    wire::content(Version::CURRENT, value)
}
