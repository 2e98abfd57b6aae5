//! Allocators that a program has inside and no symbols of: they are known by what they would print, and cannot be probed.

use crate::process::elf::ElfFacts;
use memchr::memmem;
use object::ReadRef;

/// Bytes of a file's data that are gone through: more than the constants of any program but browsers.
const MOST: u64 = 64 << 20;

/// Whose messages are among a file's constants: of several, with what no program holds that does not hold the allocator.
pub(super) fn messages<'data, R: ReadRef<'data>, K: Copy>(
    data: R,
    facts: &ElfFacts,
    of: &[(&str, K)],
) -> Option<K> {
    let mut left = MOST;
    for load in facts.loads.iter().filter(|load| !load.executable) {
        left = left.checked_sub(load.size)?;
        let Ok(bytes) = data.read_bytes_at(load.offset, load.size) else { continue };
        let found = of.iter().find(|(message, _)| memmem::find(bytes, message.as_bytes()).is_some());
        if let Some((_, kind)) = found {
            return Some(*kind);
        }
    }
    None
}
