//! Where code was mapped. Recordings know of each frame its address and its place in a file; all frames between which
//! these differ by the same lie in one mapping, of which is known what lies between them.

use crate::model::{Location, ModuleId};
use std::collections::HashMap;

const PAGE: u64 = 4096;

/// Where a part of a file was mapped, as far as frames were seen in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    /// From 1.
    pub id: u64,
    pub memory_start: u64,
    pub memory_limit: u64,
    pub file_offset: u64,
    /// Names were found in it.
    pub is_named: bool,
}

/// The mappings that frames were seen in.
#[derive(Default)]
pub(super) struct Mappings {
    known: HashMap<Place, Mapping>,
}

/// A module, and by how much its addresses in memory are beyond those in the file: the same file may be mapped at several.
type Place = (ModuleId, u64);

impl Mappings {
    /// The mapping of a frame, 0 for none, and the address of its call: `return_address` is behind that. `is_named`: it is
    /// known which function it is in.
    pub fn place(&mut self, return_address: u64, location: Option<&Location>, is_named: bool) -> (u64, u64) {
        let address = return_address.saturating_sub(1);
        let Some(Location::InModule { module, offset }) = location else { return (0, address) };
        let next = self.known.len() as u64 + 1;
        // A recording whose files lie below their own offsets is damaged; then the address in the file has to do.
        let (beyond, address) = match return_address.checked_sub(*offset) {
            Some(beyond) => (beyond, address),
            None => (0, offset.saturating_sub(1)),
        };
        let mapping = self.known.entry((*module, beyond)).or_insert_with(|| Mapping {
            id: next,
            memory_start: u64::MAX,
            ..Mapping::default()
        });
        // Behind the last page there is none.
        let page = address - address % PAGE;
        mapping.memory_start = mapping.memory_start.min(page).max(beyond);
        mapping.memory_limit = mapping.memory_limit.max(page.saturating_add(PAGE));
        mapping.file_offset = mapping.memory_start - beyond;
        mapping.is_named |= is_named;
        (mapping.id, address)
    }

    /// All of them, without names.
    pub fn known(&self) -> Vec<(ModuleId, Mapping)> {
        self.known.iter().map(|((module, _), mapping)| (*module, *mapping)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_as_far_from_their_file_share_a_mapping() {
        let mut mappings = Mappings::default();
        let at = |offset| Location::InModule { module: ModuleId(0), offset };
        assert_eq!(mappings.place(0x5000_1234, Some(&at(0x1234)), true), (1, 0x5000_1233));
        assert_eq!(mappings.place(0x5000_4001, Some(&at(0x4001)), false), (1, 0x5000_4000));
        assert_eq!(mappings.place(0x7000_4000, Some(&at(0x4000)), false), (2, 0x7000_3fff));
        let mut known = mappings.known();
        known.sort_by_key(|(_, mapping)| mapping.id);
        let ranges: Vec<_> = known
            .iter()
            .map(|(_, of)| (of.memory_start, of.memory_limit, of.file_offset, of.is_named))
            .collect();
        assert_eq!(
            ranges,
            [(0x5000_1000, 0x5000_5000, 0x1000, true), (0x7000_3000, 0x7000_4000, 0x3000, false)]
        );
    }

    #[test]
    fn what_is_in_no_file_and_what_cannot_be_has_an_address_all_the_same() {
        let mut mappings = Mappings::default();
        assert_eq!(mappings.place(0, None, false), (0, 0));
        let below = Location::InModule { module: ModuleId(0), offset: 0x5000 };
        assert_eq!(mappings.place(0x1000, Some(&below), false), (1, 0x4fff));
        let last = Location::InModule { module: ModuleId(1), offset: 1 };
        assert_eq!(mappings.place(u64::MAX, Some(&last), false), (2, u64::MAX - 1));
        assert_eq!(mappings.known().len(), 2);
    }
}
