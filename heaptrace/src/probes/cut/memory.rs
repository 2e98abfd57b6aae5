//! What a file's segments hold, by address.

use crate::process::elf::{ElfFacts, Load};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use std::ops::Range;

pub struct Memory<'data> {
    segments: Vec<(Load, &'data [u8])>,
}

impl<'data> Memory<'data> {
    pub fn new(data: &'data [u8], facts: &ElfFacts) -> Self {
        let contents = |load: &Load| {
            let rest = data.get(usize::try_from(load.offset).ok()?..)?;
            Some(&rest[..rest.len().min(usize::try_from(load.size).unwrap_or(usize::MAX))])
        };
        Self { segments: facts.loads.iter().filter_map(|load| Some((*load, contents(load)?))).collect() }
    }

    /// Nothing but code.
    pub fn of_code(address: u64, code: &'data [u8]) -> Self {
        let load = Load { address, offset: 0, size: code.len() as u64, executable: true };
        Self { segments: vec![(load, code)] }
    }

    /// The bytes from `address` on, as far as its segment has them in the file.
    pub fn bytes(&self, address: u64) -> Option<&'data [u8]> {
        self.segments.iter().find_map(|(load, bytes)| {
            let into = usize::try_from(address.checked_sub(load.address)?).ok()?;
            bytes.get(into..).filter(|rest| !rest.is_empty())
        })
    }

    pub fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(address)?.get(..8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The aligned words of what is not code.
    pub fn data_words(&self) -> impl Iterator<Item = u64> + '_ {
        let data = self.segments.iter().filter(|(load, _)| !load.executable);
        data.flat_map(|(_, bytes)| {
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
        })
    }

    /// Whether `address` is in executable memory.
    pub fn is_code(&self, address: u64) -> bool {
        let holds = |load: &Load| {
            load.executable && address.checked_sub(load.address).is_some_and(|into| into < load.size)
        };
        self.segments.iter().any(|(load, _)| holds(load))
    }

    /// Whether one executable segment holds all of `range`, which is not empty.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        self.segments.iter().any(|(load, _)| {
            load.executable
                && load.address <= range.start
                && range.start < range.end
                && range.end <= load.address.saturating_add(load.size)
        })
    }

    /// The instruction at `address`.
    pub fn instruction(&self, address: u64) -> Option<Instruction> {
        let bytes = self.bytes(address).filter(|_| self.is_code(address))?;
        let mut decoder = Decoder::with_ip(64, &bytes[..bytes.len().min(15)], address, DecoderOptions::NONE);
        Some(decoder.decode()).filter(|instruction| !instruction.is_invalid())
    }
}
