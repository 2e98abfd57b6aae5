//! The unwind tables in the maps. Every index is masked or looked up, so that no value can lead outside.

use heaptrace_common::unwind::{
    NO_TABLE, Page, Published, Row, Rule, SHARD, UnwindMapping,
    lookup::{Place, Tables, search},
};

use super::{in_force::InForce, new, scratch::Scratch};
use crate::{
    maps::{UNWIND_CACHE, UNWIND_MAPPINGS, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES},
    value::{Lookup, Value, at},
};

/// The tables of a walk.
pub struct MapTables {
    scratch: Value<Scratch>,
    in_force: InForce,
    published: Published,
    exact: bool,
}

impl MapTables {
    #[inline(always)]
    pub fn of(scratch: Value<Scratch>, exact: bool) -> Self {
        let in_force = at!(scratch.unwinder.in_force).get();
        Self { scratch, in_force, published: if exact { in_force.exact } else { in_force.calls }, exact }
    }

    /// The mapping of the list that a search meets at `index`.
    #[inline(always)]
    fn listed(&self, index: u32) -> Option<Value<UnwindMapping>> {
        let list = self.published.list()?;
        Some(UNWIND_MAPPINGS.value(list.element())?.masked(u64::from(list.place(index))))
    }
}

impl Tables for MapTables {
    type Rows = Value<[u32; SHARD]>;

    #[inline(always)]
    fn search(&self, _current: &mut UnwindMapping, pc: u64) -> Place {
        // It is the scratch buffer's.
        // SAFETY: a claimed buffer, see `Scratch`.
        Place::from_bits(unsafe { uw_search(self.scratch.as_ptr(), pc, u64::from(self.exact)) })
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
        UNWIND_CACHE.value(0).map_or(0, |cache| cache.masked(slot).load())
    }

    #[inline(always)]
    fn cache(&mut self, slot: u64, entry: u64) {
        if let Some(cache) = UNWIND_CACHE.value(0) {
            cache.masked(slot).store(entry);
        }
    }

    #[inline(always)]
    fn start(&self, index: u32) -> Option<u64> {
        let mapping = self.listed(index)?;
        Some(at!(mapping.start).get())
    }

    #[inline(always)]
    fn mapping(&self, index: u32) -> Option<UnwindMapping> {
        Some(self.listed(index)?.get())
    }

    #[inline(always)]
    fn page(&self, index: u32) -> Option<Page> {
        let shard = UNWIND_PAGES.value(index / SHARD as u32)?;
        Some(Page(shard.masked(u64::from(index)).get()))
    }

    #[inline(always)]
    fn rows(&self, index: u32) -> Option<Value<[u32; SHARD]>> {
        UNWIND_ROWS.value(index / SHARD as u32)
    }

    #[inline(always)]
    fn row(&self, rows: Value<[u32; SHARD]>, index: u32) -> Row {
        Row(rows.masked(u64::from(index)).get())
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Rule {
        UNWIND_RULES.value(0).map_or(Rule::NONE, |rules| Rule(rules.masked(u64::from(index)).get()))
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
    // SAFETY: the caller's word.
    let Some(scratch) = (unsafe { Value::given(scratch) }) else { return 0 };
    let tables = MapTables::of(scratch, exact != 0);
    let current = at!(scratch.unwinder.current);
    // SAFETY: who has claimed the buffer alone uses it, and `tables` does not.
    let current = unsafe { &mut *current.as_ptr() };
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
