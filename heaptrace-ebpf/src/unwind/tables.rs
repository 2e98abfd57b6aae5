//! The unwind tables in the maps. Every index is masked or looked up, so that no value can lead outside.

use heaptrace_common::unwind::{
    MAX_MAPPINGS, MAX_RULES, NO_TABLE, Page, Published, Row, Rule, SHARD, UnwindMapping,
    lookup::{CACHE, Place, Tables, search},
};

use super::{in_force::InForce, new, scratch::Scratch};
use crate::{
    maps::{UNWIND_CACHE, UNWIND_MAPPINGS, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES},
    mask::mask,
};

/// Elements in a shard are indexed by the low bits.
const IN_SHARD: u64 = SHARD as u64 - 1;

/// The tables of a walk.
pub struct MapTables {
    scratch: *mut Scratch,
    in_force: InForce,
    published: Published,
    exact: bool,
}

impl MapTables {
    /// # Safety
    /// `scratch` is claimed.
    #[inline(always)]
    pub unsafe fn of(scratch: *mut Scratch, exact: bool) -> Self {
        let in_force = unsafe { (*scratch).unwinder.in_force };
        Self { scratch, in_force, published: if exact { in_force.exact } else { in_force.calls }, exact }
    }

    /// The mapping of the list that a search meets at `index`.
    #[inline(always)]
    fn listed(&self, index: u32) -> Option<*const UnwindMapping> {
        let list = self.published.list()?;
        let mappings = UNWIND_MAPPINGS.get_ptr(list.element())?.cast::<UnwindMapping>();
        let place = mask::<{ MAX_MAPPINGS as u64 - 1 }>(u64::from(list.place(index)));
        Some(unsafe { mappings.add(place) })
    }
}

impl Tables for MapTables {
    type Rows = *const u32;

    #[inline(always)]
    fn search(&self, _current: &mut UnwindMapping, pc: u64) -> Place {
        // It is the scratch buffer's.
        Place::from_bits(unsafe { uw_search(self.scratch, pc, u64::from(self.exact)) })
    }

    #[inline(always)]
    fn generation(&self) -> u16 {
        self.published.generation()
    }

    #[inline(always)]
    fn has_new(&self) -> bool {
        self.in_force.unseen != 0
    }

    #[inline(always)]
    fn newest(&self, pc: u64) -> Option<UnwindMapping> {
        let InForce { head, process, unseen, .. } = self.in_force;
        let mut mapping = new::find(process, head, u64::from(unseen), pc)?;
        if self.exact {
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
        Some(unsafe { (*self.listed(index)?).start })
    }

    #[inline(always)]
    fn mapping(&self, index: u32) -> Option<UnwindMapping> {
        Some(unsafe { *self.listed(index)? })
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

/// [`search`] for the walk in `scratch`, as [`Place::to_bits`]. A global function: verified once, and not once for each
/// way that leads to it.
///
/// # Safety
/// `scratch` is null or claimed; the null test is the verifier's wish.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn uw_search(scratch: *mut Scratch, pc: u64, exact: u64) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    let tables = unsafe { MapTables::of(scratch, exact != 0) };
    let current = unsafe { &mut (*scratch).unwinder.current };
    // What was found last is of other tables, before and after.
    if exact != 0 {
        *current = UnwindMapping::UNUSED;
    }
    let found = search(&tables, current, pc).to_bits();
    if exact != 0 {
        *current = UnwindMapping::UNUSED;
    }
    found
}
