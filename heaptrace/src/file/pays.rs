//! What a reader of a file that is being written has taken in so far. A reader takes no more memory than the file pays for
//! (`MEMORY_PER_BYTE`): where much is said in few bytes, as of many processes that are alike, the file is made longer.

use super::{FREE_MEMORY, MEMORY_PER_BYTE};
use crate::model::{Chunk, Footprint, GrowthId, Names, ProcessId, Residency, SiteId};
use std::collections::BTreeMap;

/// What a reader has at one time beside what is counted.
const MARGIN: u64 = 4 << 20;

/// As the reader counts it: never less.
#[derive(Debug, Default)]
pub(super) struct Held {
    kept: u64,
    coverage: u64,
    processes: Besides,
    sites: Besides,
    growth: Besides,
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

    pub fn take_chunk(&mut self, chunk: &Chunk) {
        let coverage = chunk.coverage.beside();
        let freed = std::mem::replace(&mut self.coverage, coverage)
            + self.processes.replace(&chunk.processes, ProcessId::index)
            + self.sites.replace(&chunk.sites, SiteId::index)
            + self.growth.replace(&chunk.growth, GrowthId::index)
            + replace(&mut self.symbols, chunk.symbols.iter().map(|named| (named.0.index(), named)));
        self.kept = (self.kept + chunk.beside()).saturating_sub(freed);
    }

    pub fn take_names(&mut self, names: &Names) {
        let freed = replace(&mut self.symbols, names.symbols.iter().map(|named| (named.0.index(), named)));
        self.kept = (self.kept + names.beside()).saturating_sub(freed);
    }

    pub fn take_measured(&mut self, measured: &[(ProcessId, Residency)]) {
        let taken: u64 = measured.iter().map(whole).sum();
        let freed = replace(&mut self.residency, measured.iter().map(|of| (of.0, of)));
        self.kept = (self.kept + taken).saturating_sub(freed);
    }
}

/// Bytes beside each element of a table, by its index: as little as can be, as there are hundreds of thousands.
#[derive(Debug, Default)]
struct Besides(Vec<u32>);

impl Besides {
    /// Bytes that go as these are set.
    fn replace<Id: Footprint + Copy, T: Footprint>(
        &mut self,
        new: &[(Id, T)],
        index: fn(Id) -> usize,
    ) -> u64 {
        let mut freed = 0;
        for (id, value) in new {
            // More than that is more than a reader has.
            let beside = u32::try_from(value.beside()).unwrap_or(0);
            match self.0.get_mut(index(*id)) {
                Some(slot) => {
                    freed += size_of::<(Id, T)>() as u64 + Id::REPORTED + T::REPORTED + u64::from(*slot);
                    *slot = beside;
                }
                None => self.0.push(beside),
            }
        }
        freed
    }
}

fn replace<'v, K: Ord, T: Footprint + 'v>(
    known: &mut BTreeMap<K, u64>,
    new: impl Iterator<Item = (K, &'v T)>,
) -> u64 {
    new.filter_map(|(key, value)| known.insert(key, whole(value))).sum()
}

fn whole<T: Footprint>(value: &T) -> u64 {
    size_of::<T>() as u64 + T::REPORTED + value.beside()
}

#[cfg(test)]
#[path = "pays_tests.rs"]
mod tests;
