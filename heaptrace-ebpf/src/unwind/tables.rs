//! The unwind tables in the maps. Every index is masked or looked up, so that no value can lead outside.

use heaptrace_common::unwind::{
    MAX_MAPPINGS, MAX_RULES, Page, Published, Row, Rule, SHARD, UnwindMapping,
    lookup::{CACHE, Tables},
};

use crate::{
    maps::{UNWIND_CACHE, UNWIND_MAPPINGS, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES},
    mask::mask,
};

/// Elements in a shard are indexed by the low bits.
const IN_SHARD: u64 = SHARD as u64 - 1;

/// The tables of the process that this was published for.
pub struct MapTables(pub Published);

impl MapTables {
    #[inline(always)]
    fn mappings(&self) -> Option<*const UnwindMapping> {
        Some(UNWIND_MAPPINGS.get_ptr(self.0.list()?)?.cast())
    }
}

impl Tables for MapTables {
    type Rows = *const u32;

    #[inline(always)]
    fn generation(&self) -> u16 {
        self.0.generation()
    }

    #[inline(always)]
    fn cached(&self, slot: u64) -> u64 {
        match UNWIND_CACHE.get_ptr(0) {
            Some(cache) => unsafe {
                core::ptr::read_volatile(cache.cast::<u64>().add(mask::<{ CACHE as u64 - 1 }>(slot)))
            },
            None => 0,
        }
    }

    #[inline(always)]
    fn cache(&mut self, slot: u64, entry: u64) {
        if let Some(cache) = UNWIND_CACHE.get_ptr_mut(0) {
            unsafe {
                core::ptr::write_volatile(cache.cast::<u64>().add(mask::<{ CACHE as u64 - 1 }>(slot)), entry)
            };
        }
    }

    #[inline(always)]
    fn start(&self, index: u32) -> Option<u64> {
        let index = mask::<{ MAX_MAPPINGS as u64 - 1 }>(u64::from(index));
        Some(unsafe { (*self.mappings()?.add(index)).start })
    }

    #[inline(always)]
    fn mapping(&self, index: u32) -> Option<UnwindMapping> {
        let index = mask::<{ MAX_MAPPINGS as u64 - 1 }>(u64::from(index));
        Some(unsafe { *self.mappings()?.add(index) })
    }

    #[inline(always)]
    fn page(&self, index: u32) -> Option<Page> {
        let shard = UNWIND_PAGES.get_ptr(index / SHARD as u32)?;
        Some(Page(unsafe { *shard.cast::<u32>().add(mask::<IN_SHARD>(u64::from(index))) }))
    }

    #[inline(always)]
    fn rows(&self, index: u32) -> Option<*const u32> {
        Some(UNWIND_ROWS.get_ptr(index / SHARD as u32)?.cast())
    }

    #[inline(always)]
    fn row(&self, rows: *const u32, index: u32) -> Row {
        Row(unsafe { *rows.add(mask::<IN_SHARD>(u64::from(index))) })
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Rule {
        match UNWIND_RULES.get_ptr(0) {
            Some(rules) => {
                Rule(unsafe { *rules.cast::<u64>().add(mask::<{ MAX_RULES as u64 - 1 }>(u64::from(index))) })
            }
            None => Rule::NONE,
        }
    }
}
