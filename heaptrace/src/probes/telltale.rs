//! Allocators that a program has inside and no symbols of: they are known by what they would print, and cannot be probed.

use crate::process::elf::ElfFacts;
use memchr::memmem;
use object::ReadRef;
use std::hint::black_box;

/// Bytes of a file's data that are gone through: more than the constants of any program but browsers.
const MOST: u64 = 64 << 20;

/// The longest message.
const LONGEST: usize = 24;

/// What the bytes of messages differ by in this program.
const VEIL: u8 = 0x80;

/// What an allocator would print, kept so that this program does not look like one that has it inside.
pub(super) struct Message {
    veiled: [u8; LONGEST],
    length: usize,
}

impl Message {
    /// To be made when this is compiled: else the text is in the program, too.
    pub(super) const fn new(text: &str) -> Self {
        let mut veiled = [0; LONGEST];
        let mut at = 0;
        while at < text.len() {
            veiled[at] = text.as_bytes()[at] ^ VEIL;
            at += 1;
        }
        Self { veiled, length: at }
    }

    pub(super) fn text(&self) -> Vec<u8> {
        // Else the compiler would do it.
        let veil = black_box(VEIL);
        self.veiled[..self.length].iter().map(|byte| byte ^ veil).collect()
    }
}

/// Whose messages are among a file's constants: of several, with what no program holds that does not hold the allocator.
pub(super) fn messages<'data, R: ReadRef<'data>, K: Copy>(
    data: R,
    facts: &ElfFacts,
    of: &[(Message, K)],
) -> Option<K> {
    let texts: Vec<(Vec<u8>, K)> = of.iter().map(|(message, kind)| (message.text(), *kind)).collect();
    let mut left = MOST;
    for load in facts.loads.iter().filter(|load| !load.executable) {
        left = left.checked_sub(load.size)?;
        let Ok(bytes) = data.read_bytes_at(load.offset, load.size) else { continue };
        let found = texts.iter().find(|(text, _)| memmem::find(bytes, text).is_some());
        if let Some((_, kind)) = found {
            return Some(*kind);
        }
    }
    None
}
