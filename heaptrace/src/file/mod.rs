//! The record file, `heaptrace.data`: its layout. [`FileWriter`] writes it block by block, [`read`] folds the
//! blocks into a [`crate::model::Profile`].
//!
//! ```text
//! magic "HEAPTRC\0", version u32
//! block: kind u8, codec u8, zero u16, stored length u32, length u32, crc32 u32, then the stored bytes
//! ```
//! Numbers are little-endian. The crc32 covers the 12 bytes before it and the stored bytes. What the content of a block
//! is made of is in `wire/`: first one `Start`, then `Chunk`s and the `Memory` of processes that they told of, then the
//! `Names` of places that they told of, last an `End` without content; between these `Padding`, where the file says too much
//! in too few bytes for a reader's bound on memory. A block is written whole and at once, so a recorder
//! that was killed leaves a file that is good up to its last whole block.
//!
//! The header's version is the major one; the start begins with the minor one. A reader reads the newer minor versions of
//! the major versions that it knows: it skips blocks of unknown kinds and what was appended to records, and says how much
//! that was ([`Skipped`]). Nothing else is skipped: in a version that is known, what is unknown is damage.

mod budget;
mod lives;
mod pays;
mod read;
mod skipped;
mod version;
mod wire;
mod write;

#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod tests;

pub use read::{Cut, ReadError, Recording, Source, Watch, read, read_from};
pub use skipped::{Count, Skipped};
pub use version::Version;
pub use write::{FileWriter, WriteError};

#[cfg(test)]
use crate::model::Chunk;
use crate::model::Start;

const MAGIC: [u8; 8] = *b"HEAPTRC\0";

/// The most bytes of one block's content. A chunk of a million frames has some 10 MB; what is larger is damage
/// or malice, and would only be read at the cost of memory.
const MAX_CONTENT: usize = 128 << 20;

/// The most bytes that one stored byte may become, past the first [`FREE_EXPANSION`] of a block. The writer stores
/// uncompressed what compresses even better.
const MAX_EXPANSION: usize = 256;

/// See [`MAX_EXPANSION`].
const FREE_EXPANSION: usize = 1 << 20;

/// Content of all blocks together, past [`MAX_EXPANSION`] of each byte of the file: what is replaced again and again takes
/// no memory, but time.
const FREE_CONTENT: u64 = 256 << 20;

/// The most memory that a recording takes, for each byte of its file; past [`FREE_MEMORY`]. Real ones take 2 to
/// 10 as a rule; where one would take more, its writer makes it longer ([`pays`]).
const MEMORY_PER_BYTE: u64 = 20;

/// See [`MEMORY_PER_BYTE`]. With 16 MB for the reader itself, and 12 MB that its allocator leaves unused between pieces,
/// this makes 96 MB; 10,000 short processes in 300 KB need half of it.
const FREE_MEMORY: u64 = 68 << 20;

const HEADER: usize = 16;

/// What a block holds. A new kind is a new minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Start = 1,
    Chunk = 2,
    End = 3,
    Memory = 4,
    Names = 5,
    /// Without meaning: see [`pays`].
    Padding = 6,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Start, Self::Chunk, Self::End, Self::Memory, Self::Names, Self::Padding]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// How a block's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Plain = 0,
    Zstd = 1,
}

impl Codec {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Plain, Self::Zstd].into_iter().find(|codec| *codec as u8 == number)
    }
}

/// Whether `stored` bytes may stand for `length` bytes of content.
fn plausible(stored: usize, length: usize) -> bool {
    length <= MAX_CONTENT && length <= FREE_EXPANSION + stored.saturating_mul(MAX_EXPANSION)
}

/// The content of a chunk's block. One of a version before 7 is to have all processes.
#[cfg(test)]
pub(crate) fn content_of(version: Version, chunk: &Chunk) -> Vec<u8> {
    if version.is_framed() { wire::content(version, chunk) } else { wire::whole(chunk) }
}

/// A whole file of this start and of chunks with these contents, stored as they are.
pub(crate) fn of_contents(version: Version, start: &Start, chunks: &[&[u8]]) -> Vec<u8> {
    let mut file = [&MAGIC[..], &version.major.to_le_bytes()].concat();
    let start = &wire::content(version, start)[..];
    let chunks = chunks.iter().map(|chunk| (Kind::Chunk, *chunk));
    for (kind, content) in [(Kind::Start, start)].into_iter().chain(chunks).chain([(Kind::End, &[][..])]) {
        let length = (content.len() as u32).to_le_bytes();
        let header = [&[kind as u8, Codec::Plain as u8, 0, 0][..], &length, &length].concat();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        crc.update(content);
        file.extend([&header[..], &crc.finalize().to_le_bytes(), content].concat());
    }
    file
}

/// A recording of each earlier format that is read: its major version, and the file.
#[cfg(test)]
pub(crate) fn kept() -> [(u32, &'static [u8]); 2] {
    [(5, include_bytes!("recordings/format-5.data")), (6, include_bytes!("recordings/format-6.data"))]
}
