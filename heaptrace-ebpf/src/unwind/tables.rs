//! The unwind tables in the maps. Every index is masked or looked up, so that no value can lead outside.

use heaptrace_common::unwind::{
    MAX_MAPPINGS, MAX_RULES, NO_TABLE, Page, Published, Row, Rule, SHARD, UnwindMapping,
    lookup::{CACHE, Tables},
};

use crate::{
    maps::{UNWIND_CACHE, UNWIND_MAPPINGS, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES},
    mask::mask,
    unwind::new,
};

/// Elements in a shard are indexed by the low bits.
const IN_SHARD: u64 = SHARD as u64 - 1;

/// The tables of one process: those in force, and those of its new mappings.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MapTables {
    published: Published,
    head: u64,
    process: u32,
    /// How many new mappings count.
    unseen: u16,
    exact: u16,
}

impl MapTables {
    #[inline(always)]
    pub fn new(published: Published, process: u32, head: u64) -> Self {
        Self { published, head, process, unseen: published.unseen(head) as u16, exact: 0 }
    }

    /// The process's tables of exact rows.
    #[inline(always)]
    pub fn exact(self, published: Published) -> Self {
        Self { published, exact: 1, ..self }
    }

    #[inline(always)]
    fn mappings(&self) -> Option<*const UnwindMapping> {
        Some(UNWIND_MAPPINGS.get_ptr(self.published.list()?)?.cast())
    }
}

impl Tables for MapTables {
    type Rows = *const u32;

    #[inline(always)]
    fn generation(&self) -> u16 {
        self.published.generation()
    }

    #[inline(always)]
    fn has_new(&self) -> bool {
        self.unseen != 0
    }

    #[inline(always)]
    fn newest(&self, pc: u64) -> Option<UnwindMapping> {
        let mut mapping = new::find(self.process, self.head, u64::from(self.unseen), pc)?;
        if self.exact != 0 {
            // Those have no exact rows, and what they lie over is gone.
            mapping.pages_at = NO_TABLE;
        }
        Some(mapping)
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
