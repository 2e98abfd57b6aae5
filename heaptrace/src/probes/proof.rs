//! The code that the choice of a file's sites rests on, as it was when they were chosen. A file can be written to in
//! place with its old times put back, and a build ID says nothing of the code beside it: so it is looked at again
//! through the very descriptor that probes go through, just before they go.

use crate::process::object::Object;
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;

/// The code of one file, in parts of at most [`MOST`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    parts: Vec<Part>,
}

/// Bytes of the file, and their hash. SipHash without a secret: who makes another code with the same hash can only be
/// who may write the file, and so harm all that run it anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    offset: u64,
    length: usize,
    hash: u64,
}

/// Read at once, in bytes.
const MOST: u64 = 64 << 10;

impl Proof {
    /// Of the file offsets `ranges` of a file whose bytes are `file`. What lies outside of it is left out.
    pub fn of(file: &[u8], ranges: &[Range<u64>]) -> Self {
        // What a damaged file says of its code can be of any length.
        let length = file.len() as u64;
        let parts = ranges.iter().flat_map(|range| {
            let end = range.end.min(length);
            let starts = (range.start..end).step_by(MOST as usize);
            starts.map(move |start| start..end.min(start.saturating_add(MOST)))
        });
        let parts = parts.filter_map(|part| {
            let bytes = file.get(usize::try_from(part.start).ok()?..usize::try_from(part.end).ok()?)?;
            Some(Part { offset: part.start, length: bytes.len(), hash: hash(bytes) })
        });
        Self { parts: parts.collect() }
    }

    /// Of bytes that were read at file offsets.
    pub fn of_bytes<'a>(parts: impl IntoIterator<Item = (u64, &'a [u8])>) -> Self {
        let parts = parts.into_iter();
        let part = |(offset, bytes): (u64, &[u8])| Part { offset, length: bytes.len(), hash: hash(bytes) };
        Self { parts: parts.map(part).collect() }
    }

    /// The file offset of the first part that the file behind `object` does not have any more, or that cannot be read.
    pub fn first_change(&self, object: &Object) -> Option<u64> {
        let is_there = |part: &Part| {
            let bytes = object.read_at(part.offset, part.length);
            bytes.is_ok_and(|bytes| bytes.len() == part.length && hash(&bytes) == part.hash)
        };
        self.parts.iter().find(|part| !is_there(part)).map(|part| part.offset)
    }
}

/// In this process only: the next compiler's may be another one.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
