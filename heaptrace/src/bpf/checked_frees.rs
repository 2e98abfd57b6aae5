//! What frees that are looked into came to: `heaptrace_common::frees`.

use super::{error::LoadError, taken::take};
use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
};
use heaptrace_common::frees::{BAD_FREES, BadFree, BadFreeKey, FreePair, PAIRS};

/// See the module.
pub struct CheckedFrees {
    pairs: HashMap<MapData, [u32; 2], u64>,
    bad: HashMap<MapData, [u32; 4], [u64; 2]>,
}

/// All that there is.
#[derive(Debug, Default)]
pub struct FreesRead {
    /// How often.
    pub pairs: Vec<(FreePair, u64)>,
    pub bad: Vec<(BadFreeKey, BadFree)>,
    /// There was no room for more.
    pub is_full: bool,
}

impl CheckedFrees {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { pairs: take(ebpf, "FREE_PAIRS")?, bad: take(ebpf, "BAD_FREES")? })
    }

    /// # Errors
    /// If the kernel does not let us read.
    pub fn read(&self) -> Result<FreesRead, MapError> {
        let pair = |([site, by], times): ([u32; 2], u64)| (FreePair { site, by }, times);
        let bad = |([by, process, site, first], [count, address]): ([u32; 4], [u64; 2])| {
            (BadFreeKey { by, process, site, first }, BadFree { count, address })
        };
        let pairs: Vec<_> = self.pairs.iter().map(|of| of.map(pair)).collect::<Result<_, _>>()?;
        let bad: Vec<_> = self.bad.iter().map(|of| of.map(bad)).collect::<Result<_, _>>()?;
        let is_full = pairs.len() >= PAIRS as usize || bad.len() >= BAD_FREES as usize;
        Ok(FreesRead { pairs, bad, is_full })
    }
}
