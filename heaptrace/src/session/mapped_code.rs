//! A file's code as a process has it in memory.

use crate::{
    allocators::memory::{Memory as _, ProcessMemory},
    process::{maps::Mapping, object::Object, patience, procfs},
};
use std::{borrow::Cow, fs::File, io, ops::Range, os::unix::fs::FileExt as _, sync::Arc};

/// The memory of a process, by way of one of its threads, and where its files are mapped.
pub struct MappedCode<'a> {
    thread: u32,
    memory: Arc<File>,
    mappings: Cow<'a, [Mapping]>,
}

/// Bytes that follow each other in file and memory.
pub struct Stretch {
    /// In the file.
    pub offset: u64,
    pub in_file: Vec<u8>,
    pub in_memory: Vec<u8>,
}

impl<'a> MappedCode<'a> {
    /// With mappings that were read before: the process may have replaced its image since. `None` if its memory cannot be
    /// read.
    pub fn open(thread: u32, mappings: &'a [Mapping]) -> Option<Self> {
        let memory = Arc::new(procfs::open(thread, "mem").ok()?);
        Some(Self { thread, memory, mappings: Cow::Borrowed(mappings) })
    }

    /// As it is now: memory of an image that the process replaces meanwhile can no longer be read (`mem_rw`,
    /// fs/proc/base.c).
    pub fn now(thread: u32) -> Option<MappedCode<'static>> {
        let memory = Arc::new(procfs::open(thread, "mem").ok()?);
        Some(MappedCode { thread, memory, mappings: Cow::Owned(procfs::read_maps(thread).ok()?) })
    }

    /// What the process has of the bytes at `range` of `file`, as far as they are mapped executable and can be read.
    pub fn stretches<'s>(
        &'s self,
        file: &'s Object,
        range: Range<u64>,
    ) -> impl Iterator<Item = Stretch> + use<'s> {
        let of_file = self.mappings.iter().filter(|m| m.permissions.execute && file.is_behind(m));
        of_file.filter_map(move |mapping| {
            let (address, part) = part_in(mapping, &range)?;
            let length = usize::try_from(part.end - part.start).ok()?;
            let (thread, memory) = (self.thread, Arc::clone(&self.memory));
            let look = patience::look(thread, move || read(thread, &memory, address, length));
            let in_memory = look.flatten().ok()?;
            let in_file = file.read_at(part.start, in_memory.len()).ok()?;
            Some(Stretch { offset: part.start, in_file, in_memory })
        })
    }
}

/// Memory that is still there. What /proc has of it is asked only where nothing else is: its readers cannot even be killed
/// while they wait (`access_remote_vm`, mm/memory.c).
fn read(thread: u32, memory: &File, address: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let others = ProcessMemory { pid: thread };
    if others.read(address, &mut bytes).is_err() {
        memory.read_exact_at(&mut bytes, address)?;
        return Ok(bytes);
    }
    // Nobody has mapped that: an error as long as the memory is there, and nothing once it is gone.
    match memory.read_at(&mut [0], 0) {
        Ok(0) => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(bytes),
    }
}

/// The part of a file's `range` that a mapping of it has, and its address.
fn part_in(mapping: &Mapping, range: &Range<u64>) -> Option<(u64, Range<u64>)> {
    let end = mapping.offset.saturating_add(mapping.end - mapping.start);
    let part = range.start.max(mapping.offset)..range.end.min(end);
    (part.start < part.end).then(|| (mapping.start + (part.start - mapping.offset), part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::maps;

    #[test]
    fn a_range_is_found_where_it_is_mapped_in_parts() {
        // As after an mprotect in the middle of a library's code.
        let mappings = maps::parse(
            b"7000-9000 r-xp 00002000 fe:01 9 /lib/x.so\n9000-a000 rwxp 00004000 fe:01 9 /lib/x.so\n",
        );
        let parts = |range: Range<u64>| -> Vec<_> {
            mappings.iter().filter_map(|mapping| part_in(mapping, &range)).collect()
        };
        assert_eq!(parts(0x2010..0x2020), [(0x7010, 0x2010..0x2020)]);
        assert_eq!(parts(0x3ff0..0x4010), [(0x8ff0, 0x3ff0..0x4000), (0x9000, 0x4000..0x4010)]);
        assert_eq!(parts(0x1000..0x2000).len(), 0);
        assert_eq!(parts(0x5000..0x6000).len(), 0);
    }
}
