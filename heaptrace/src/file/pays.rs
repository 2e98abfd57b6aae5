//! What a reader of a file that is being written has taken in so far. A reader takes no more memory than the file pays for
//! (`MEMORY_PER_BYTE`): where much is said in few bytes, as of many processes that are alike, the file is made longer.

use super::{FREE_MEMORY, MEMORY_PER_BYTE};
use crate::model::{Chunk, Footprint, GrowthId, Names, ProcessId, Residency, SiteId};
use std::{collections::BTreeMap, mem};

/// What a reader has at one time beside what is counted.
const MARGIN: u64 = 4 << 20;

/// As the reader counts it: never less.
#[derive(Debug, Default)]
pub(super) struct Held {
    kept: u64,
    coverage: u64,
    processes: Elements,
    sites: Elements,
    growth: Elements,
    /// By location; those without symbols are not there.
    symbols: BTreeMap<usize, u64>,
    residency: BTreeMap<ProcessId, u64>,
}

impl Held {
    /// Bytes that a file of `written` bytes must have more, for a content of `length` bytes of which a reader takes `taken`.
    pub fn lacks(&self, written: u64, length: usize, taken: u64) -> u64 {
        // The content, and what it was decompressed from; values as they are decoded, lists that grow among them.
        let most = self.kept + MARGIN + 2 * length as u64 + 2 * taken;
        most.saturating_sub(written * MEMORY_PER_BYTE + FREE_MEMORY).div_ceil(MEMORY_PER_BYTE)
    }

    /// Counts a chunk of which a reader takes `taken` bytes.
    pub fn take_chunk(&mut self, chunk: &Chunk, taken: u64) {
        let coverage = chunk.coverage.beside();
        let freed = mem::replace(&mut self.coverage, coverage)
            + self.processes.replace(&chunk.processes, ProcessId::index)
            + self.sites.replace(&chunk.sites, SiteId::index)
            + self.growth.replace(&chunk.growth, GrowthId::index)
            + replace(&mut self.symbols, chunk.symbols.iter().map(|named| (named.0.index(), named)));
        self.kept = (self.kept + taken).saturating_sub(freed);
    }

    /// Counts names, likewise.
    pub fn take_names(&mut self, names: &Names, taken: u64) {
        let freed = replace(&mut self.symbols, names.symbols.iter().map(|named| (named.0.index(), named)));
        self.kept = (self.kept + taken).saturating_sub(freed);
    }

    /// Counts measurements, likewise.
    pub fn take_measured(&mut self, measured: &[(ProcessId, Residency)], taken: u64) {
        let freed = replace(&mut self.residency, measured.iter().map(|of| (of.0, of)));
        self.kept = (self.kept + taken).saturating_sub(freed);
    }
}

/// Bytes of each element of a table, by its index: as little as can be, as there are hundreds of thousands.
#[derive(Debug, Default)]
struct Elements(Vec<u32>);

impl Elements {
    /// Bytes that go as these are set.
    fn replace<Id: Footprint + Copy, T: Footprint>(
        &mut self,
        new: &[(Id, T)],
        index: fn(Id) -> usize,
    ) -> u64 {
        let mut freed = 0;
        for element in new {
            // More than that is more than a reader has.
            let whole = u32::try_from(element.whole()).unwrap_or(0);
            match self.0.get_mut(index(element.0)) {
                Some(slot) => freed += u64::from(mem::replace(slot, whole)),
                None => self.0.push(whole),
            }
        }
        freed
    }
}

fn replace<'v, K: Ord, T: Footprint + 'v>(
    known: &mut BTreeMap<K, u64>,
    new: impl Iterator<Item = (K, &'v T)>,
) -> u64 {
    new.filter_map(|(key, value)| known.insert(key, value.whole())).sum()
}

#[cfg(test)]
#[path = "pays_tests.rs"]
mod tests;
