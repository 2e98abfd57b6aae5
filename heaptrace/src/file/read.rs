//! Reads a record file into a profile, as far as it is good. Trusts nothing in it.

use super::budget::{Budget, Decoded};
use super::lives::Lives;
use super::{
    Codec, FREE_CONTENT, HEADER, Kind, MAGIC, MAX_CONTENT, MAX_EXPANSION, Skipped, Version, plausible,
    wire::Wire,
};
use crate::created;
use crate::model::{Chunk, Footprint, Names, ProcessId, Profile, Residency, Start};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::mem;
use std::ops::ControlFlow;
use std::path::Path;

/// What a record file held.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// `coverage.finished` says whether the recorder finished and all of it could be read.
    pub profile: Profile,
    /// Whether the file is whole: it has its end marker, and nothing before that is missing or damaged.
    pub complete: bool,
    /// What was left out, if the file ends in a damaged or partial block.
    pub cut: Option<Cut>,
    pub version: Version,
    /// What this version does not know, or has no use for.
    pub skipped: Skipped,
    /// Bytes of it that were read.
    pub size: u64,
    /// Bytes of memory that a recording of this size may take beyond what this one takes.
    pub room: u64,
}

/// Where reading stopped short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Number of the first block that could not be read; the start is block 0.
    pub block: usize,
    /// Its place in the file, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    pub why: String,
}

/// Why nothing could be read. Texts follow "failed to read FILE: ".
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no such file")]
    NotFound,
    #[error("permission denied")]
    PermissionDenied,
    #[error(transparent)]
    Io(io::Error),
    #[error("not a heaptrace record file: {0}")]
    NotHeaptrace(String),
    #[error("made by a newer heaptrace: file format {found}, while this version reads {} to {}", Version::OLDEST, Version::CURRENT.major)]
    Newer { found: u32 },
    #[error(
        "made by an older heaptrace: file format {found}, while this version reads {} to {}; record again",
        Version::OLDEST,
        Version::CURRENT.major
    )]
    Older { found: u32 },
    #[error("truncated before its first complete block: it ends after {length} bytes")]
    Truncated { length: u64 },
    #[error("corrupt: block {block} at offset {offset}: {why}")]
    Corrupt { block: usize, offset: u64, why: String },
}

impl From<io::Error> for ReadError {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            _ => Self::Io(err),
        }
    }
}

/// Reads the record file at `path`.
///
/// # Errors
/// [`ReadError`] if there is not at least a good start and one good chunk.
pub fn read(path: &Path) -> Result<Recording, ReadError> {
    read_from(BufReader::with_capacity(1 << 16, created::open(path)?))
}

/// Is shown the profile after each chunk that was folded into it, with the processes that the chunk told of. Reading ends
/// there where it breaks.
pub type Watch<'a> = dyn FnMut(&Profile, &[ProcessId]) -> ControlFlow<()> + 'a;

/// A record file that may be read several times: each time what it had when it was opened, which it may have more than by
/// then.
#[derive(Debug)]
pub struct Source {
    file: File,
    /// `None` for pipes and the like, which are read once.
    length: Option<u64>,
}

impl Source {
    /// # Errors
    /// [`ReadError`] if there is none, or it is not for us to read.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = created::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { length: metadata.is_file().then_some(metadata.len()), file })
    }

    /// Whether it can be read more than once.
    pub fn is_repeatable(&self) -> bool {
        self.length.is_some()
    }

    /// Reads it from the beginning, watched.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&mut self, watch: &mut Watch<'_>) -> Result<Recording, ReadError> {
        if self.length.is_some() {
            self.file.rewind()?;
        }
        let input = (&self.file).take(self.length.unwrap_or(u64::MAX));
        read_blocks(BufReader::with_capacity(1 << 16, input), watch)
    }
}

/// Reads a record file from `input`.
///
/// # Errors
/// As [`read`].
pub fn read_from(input: impl Read) -> Result<Recording, ReadError> {
    read_blocks(input, &mut |_, _| ControlFlow::Continue(()))
}

fn read_blocks(input: impl Read, watch: &mut Watch<'_>) -> Result<Recording, ReadError> {
    let mut blocks = Blocks {
        input,
        version: Version::CURRENT,
        offset: 0,
        number: 0,
        content: 0,
        budget: Budget::default(),
        lives: Lives::default(),
        skipped: Skipped::default(),
    };
    blocks.magic()?;
    let mut profile = Profile::new(blocks.start()?);
    let mut chunks = 0_usize;
    let (complete, cut) = loop {
        let (block, offset) = (blocks.number, blocks.offset);
        let why = match blocks.next() {
            Ok(Some((Kind::Chunk, content))) => match blocks.chunk(content, &mut profile) {
                Ok(told) => {
                    chunks += 1;
                    match watch(&profile, &told) {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => break (false, None),
                    }
                }
                Err(why) => why,
            },
            Ok(Some((Kind::Memory, content))) => match blocks.memory(content, &mut profile) {
                Ok(()) => continue,
                Err(why) => why,
            },
            Ok(Some((Kind::Names, content))) => match blocks.names(content, &mut profile) {
                Ok(()) => continue,
                Err(why) => why,
            },
            Ok(Some((Kind::Padding, _))) => continue,
            Ok(Some((Kind::End, _))) if chunks > 0 => break (true, None),
            Ok(Some((Kind::End, _))) => "the end, before any data".into(),
            Ok(Some((Kind::Start, _))) => "a second start".into(),
            Ok(None) if chunks == 0 => return Err(ReadError::Truncated { length: blocks.offset }),
            Ok(None) => break (false, None),
            Err(Bad::Io(err)) => return Err(err.into()),
            Err(Bad::Partial) if chunks == 0 => return Err(ReadError::Truncated { length: blocks.offset }),
            Err(Bad::Partial) => "the file ends inside it".into(),
            Err(Bad::Damaged(why)) => why,
        };
        if chunks == 0 {
            return Err(ReadError::Corrupt { block, offset, why });
        }
        break (false, Some(Cut { block, offset, why }));
    };
    profile.coverage.finished = complete;
    if complete {
        blocks.look_behind()?;
    }
    let Blocks { offset: size, budget, lives, version, skipped, .. } = blocks;
    lives.end(&mut profile);
    let room = budget.limit().saturating_sub(budget.kept);
    Ok(Recording { profile, complete, cut, version, skipped, size, room })
}

enum Bad {
    Io(io::Error),
    /// The file ends before the block does.
    Partial,
    Damaged(String),
}

/// A good block.
enum Block {
    Known(Kind, Vec<u8>),
    /// Of a kind that a newer minor version has.
    Skipped,
}

/// The file as blocks, not looking into them.
struct Blocks<R> {
    input: R,
    /// As far as it is known.
    version: Version,
    /// Bytes read so far.
    offset: u64,
    /// Number of the next block.
    number: usize,
    /// Bytes of content so far.
    content: u64,
    budget: Budget,
    lives: Lives,
    skipped: Skipped,
}

impl<R: Read> Blocks<R> {
    fn magic(&mut self) -> Result<(), ReadError> {
        let head = self.take(MAGIC.len() + 4)?;
        if head.is_empty() {
            return Err(ReadError::NotHeaptrace("it is empty".into()));
        }
        let known = head.len().min(MAGIC.len());
        if head[..known] != MAGIC[..known] {
            return Err(ReadError::NotHeaptrace(format!(
                "it begins with \"{}\"",
                head[..known].escape_ascii()
            )));
        }
        let Some(version) = head.get(MAGIC.len()..).and_then(|bytes| bytes.try_into().ok()) else {
            return Err(ReadError::Truncated { length: self.offset });
        };
        match u32::from_le_bytes(version) {
            0 => Err(ReadError::NotHeaptrace("its format version is 0".into())),
            found if found > Version::CURRENT.major => Err(ReadError::Newer { found }),
            found if found < Version::OLDEST => Err(ReadError::Older { found }),
            found => {
                self.version = Version::of_header(found);
                Ok(())
            }
        }
    }

    fn start(&mut self) -> Result<Start, ReadError> {
        let (block, offset) = (self.number, self.offset);
        let why = match self.next() {
            Ok(Some((Kind::Start, content))) => match self.budget.decode(&content, self.version, 0) {
                Ok(Decoded { value: start, version, skipped }) => {
                    self.budget.kept = content.len() as u64;
                    self.version = version;
                    self.skipped.records.add_all(skipped);
                    return Ok(start);
                }
                Err(why) => why,
            },
            Ok(Some((kind, _))) => format!("a {kind:?} where the start should be").to_lowercase(),
            Ok(None) | Err(Bad::Partial) => return Err(ReadError::Truncated { length: self.offset }),
            Err(Bad::Io(err)) => return Err(err.into()),
            Err(Bad::Damaged(why)) => why,
        };
        Err(ReadError::Corrupt { block, offset, why })
    }

    /// The next block's kind and content, if it is of a known kind; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<(Kind, Vec<u8>)>, Bad> {
        loop {
            match self.next_of_any()? {
                Some(Block::Known(kind, content)) => return Ok(Some((kind, content))),
                Some(Block::Skipped) => {}
                None => return Ok(None),
            }
        }
    }

    /// The same of any kind.
    fn next_of_any(&mut self) -> Result<Option<Block>, Bad> {
        let header = self.take(HEADER).map_err(Bad::Io)?;
        if header.is_empty() {
            return Ok(None);
        }
        let Ok(header) = <[u8; HEADER]>::try_from(header) else { return Err(Bad::Partial) };
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (stored, length, crc) = (number(4) as usize, number(8) as usize, number(12));
        let (kind, codec) = (Kind::from_number(header[0]), Codec::from_number(header[1]));
        let (Some(codec), true) = (codec, kind.is_some() || self.version.has_unknown()) else {
            return Err(Bad::Damaged(format!("unknown kind {} or codec {}", header[0], header[1])));
        };
        if stored > MAX_CONTENT || !plausible(stored, length) {
            return Err(Bad::Damaged(format!("implausible size: {stored} bytes stored for {length}")));
        }
        let bytes = self.take(stored).map_err(Bad::Io)?;
        if bytes.len() < stored {
            return Err(Bad::Partial);
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header[..12]);
        hasher.update(&bytes);
        if hasher.finalize() != crc {
            return Err(Bad::Damaged("its checksum is wrong".into()));
        }
        self.budget.read = self.offset;
        let Some(kind) = kind else {
            self.number += 1;
            self.skipped.blocks.add((HEADER + stored) as u64);
            return Ok(Some(Block::Skipped));
        };
        self.content += length as u64;
        if self.content > FREE_CONTENT.saturating_add(self.offset.saturating_mul(MAX_EXPANSION as u64)) {
            return Err(Bad::Damaged(format!(
                "implausible size: {} bytes in all blocks so far",
                self.content
            )));
        }
        self.budget.check("its content", (stored + length) as u64).map_err(Bad::Damaged)?;
        let content = match codec {
            Codec::Plain => bytes,
            // Fails, rather than grow, where there is more than `length`.
            Codec::Zstd => zstd::bulk::decompress(&bytes, length)
                .map_err(|err| Bad::Damaged(format!("cannot be decompressed: {err}")))?,
        };
        if content.len() != length {
            return Err(Bad::Damaged(format!("{} bytes where {length} were announced", content.len())));
        }
        self.number += 1;
        Ok(Some(Block::Known(kind, content)))
    }

    /// Decodes a block's content and has `fold` take it into `profile`, which gives the memory that this frees. Reports are
    /// not made of so much of what it replaces: `replaced`.
    fn take_in<T: Wire + Footprint, E: fmt::Display>(
        &mut self,
        content: Vec<u8>,
        profile: &mut Profile,
        replaced: fn(&Profile, &T) -> u64,
        fold: impl FnOnce(&mut Profile, T) -> Result<u64, E>,
    ) -> Result<(), String> {
        let Decoded { value: new, skipped, .. }: Decoded<T> =
            self.budget.decode(&content, self.version, profile.reported())?;
        drop(content);
        let taken = new.beside();
        self.budget.check("what it holds", taken.saturating_sub(replaced(profile, &new)))?;
        let freed = fold(profile, new).map_err(|err| err.to_string())?;
        self.budget.kept = (self.budget.kept + taken).saturating_sub(freed);
        self.skipped.records.add_all(skipped);
        Ok(())
    }

    /// Gives the processes that it told of.
    fn chunk(&mut self, content: Vec<u8>, profile: &mut Profile) -> Result<Vec<ProcessId>, String> {
        let mut told = Vec::new();
        let mut lives = mem::take(&mut self.lives);
        let has_all = !self.version.is_framed();
        let fold = |profile: &mut Profile, mut chunk: Chunk| {
            let (now, before) = (chunk.processes.len(), profile.processes.len());
            if has_all && now < before {
                return Err(format!("{now} processes after {before}"));
            }
            let passed_ns = mem::take(&mut chunk.passed_ns);
            let said: Vec<ProcessId> = chunk.processes.iter().map(|(id, _)| *id).collect();
            let freed = profile.fold(chunk).map_err(|err| err.to_string())?;
            lives.pass(passed_ns, said.iter().copied());
            told = said;
            Ok(freed)
        };
        let taken = self.take_in(content, profile, Profile::reported_of_replaced, fold);
        self.lives = lives;
        taken.map(|()| told)
    }

    fn memory(&mut self, content: Vec<u8>, profile: &mut Profile) -> Result<(), String> {
        self.take_in(content, profile, |_, _: &Vec<(ProcessId, Residency)>| 0, Profile::measure)
    }

    fn names(&mut self, content: Vec<u8>, profile: &mut Profile) -> Result<(), String> {
        self.take_in(content, profile, |_, _: &Names| 0, Profile::name)
    }

    /// Counts what is behind the last block.
    fn look_behind(&mut self) -> io::Result<()> {
        let mut behind = self.input.by_ref().take(Skipped::MOST_BEHIND);
        self.skipped.behind = io::copy(&mut behind, &mut io::sink())?;
        Ok(())
    }

    /// Up to `count` bytes: fewer only where the file ends. Memory grows with what is there, not with `count`.
    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }
}
