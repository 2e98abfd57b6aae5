//! Allocators that a program has inside and no symbols of: they are known by what they would print, and cannot be probed.

use super::symbols::AllocatorKind;
use crate::process::elf::ElfFacts;
use memchr::memmem;
use object::ReadRef;

/// Bytes of a file's data that are gone through: more than the constants of any program but browsers.
const MOST: u64 = 64 << 20;

/// What no program holds that does not hold the allocator: the beginning of its messages (jemalloc's malloc_io.c, mimalloc's
/// options.c, gperftools' tcmalloc.cc).
const MESSAGES: [(&str, AllocatorKind); 3] = [
    ("<jemalloc>: ", AllocatorKind::Jemalloc),
    ("mimalloc: error: ", AllocatorKind::Mimalloc),
    ("tcmalloc: large alloc ", AllocatorKind::Tcmalloc),
];

/// The allocator whose messages are among a file's constants.
pub(super) fn messages<'data, R: ReadRef<'data>>(data: R, facts: &ElfFacts) -> Option<AllocatorKind> {
    let mut left = MOST;
    for load in facts.loads.iter().filter(|load| !load.executable) {
        left = left.checked_sub(load.size)?;
        let Ok(bytes) = data.read_bytes_at(load.offset, load.size) else { continue };
        let found = MESSAGES.iter().find(|(message, _)| memmem::find(bytes, message.as_bytes()).is_some());
        if let Some((_, kind)) = found {
            return Some(*kind);
        }
    }
    None
}
