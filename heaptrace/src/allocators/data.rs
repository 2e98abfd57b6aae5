//! Writable memory of a library, copied, which allocators' state is looked for in.

use super::memory::Memory;
use crate::process::{maps::Mapping, object::Object};

/// How much of a file is searched for a version: more than any C library has, and most static programs.
pub const MOST_FILE: u64 = 64 << 20;

/// Writable memory of one library that is searched: glibc has 100 KiB of it.
const MOST_DATA: u64 = 16 << 20;

/// A copy of writable memory of the library.
pub struct Data {
    pub start: u64,
    pub bytes: Vec<u8>,
}

/// The library's data, and what follows it without a file (.bss).
pub fn writable(object: &Object, mappings: &[Mapping], memory: &dyn Memory) -> Vec<Data> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.permissions.write) {
        let follows = ranges.last().is_some_and(|(_, end)| *end == mapping.start);
        if object.is_behind(mapping) {
            ranges.push((mapping.start, mapping.end));
        } else if follows
            && mapping.path.is_none()
            && mapping.inode == 0
            && let Some(last) = ranges.last_mut()
        {
            last.1 = mapping.end;
        }
    }
    let copies = ranges.into_iter().filter_map(|(start, end)| {
        let size = (end - start).min(MOST_DATA);
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        memory.read(start, &mut bytes).ok()?;
        Some(Data { start, bytes })
    });
    copies.collect()
}

impl Data {
    /// The `size` bytes at `address`; `None` if they are not all in it.
    pub fn bytes(&self, address: u64, size: u64) -> Option<&[u8]> {
        let from = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(usize::try_from(size).ok()?)?)
    }

    /// The first place, at a multiple of 8, whose `size` bytes are what is looked for.
    pub fn find(&self, size: u64, is_it: impl Fn(&[u8], u64) -> bool) -> Option<u64> {
        let places = (self.start.next_multiple_of(8)..self.start + self.bytes.len() as u64).step_by(8);
        places.into_iter().find(|at| self.bytes(*at, size).is_some_and(|bytes| is_it(bytes, *at)))
    }
}
