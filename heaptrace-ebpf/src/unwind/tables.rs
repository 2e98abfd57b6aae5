//! The unwind tables in the maps. Every index is masked or looked up, so that no value can lead outside.

use aya_ebpf::maps::Array;
use heaptrace_common::unwind::{
    MAX_MAPPINGS, MAX_RULES, NO_TABLE, Page, Published, Row, Rule, SHARD, UnwindMapping,
    lookup::{CACHE, Place, Tables, search},
};

use crate::{
    maps::{
        UNWIND_CACHE, UNWIND_EXACT, UNWIND_MAPPINGS, UNWIND_PAGES, UNWIND_PROCESSES, UNWIND_ROWS,
        UNWIND_RULES,
    },
    mask::mask,
    stack::Scratch,
    unwind::new,
};

/// Elements in a shard are indexed by the low bits.
const IN_SHARD: u64 = SHARD as u64 - 1;

/// What is in force for one process, and how many of its new mappings count.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InForce {
    calls: Published,
    exact: Published,
    head: u64,
    process: u32,
    unseen: u32,
}

impl InForce {
    /// Now.
    #[inline(always)]
    pub fn of(process: u32) -> Self {
        // Before the head: what is new since may be in the list too, but none is in neither.
        let (calls, exact) = (published(&UNWIND_PROCESSES, process), published(&UNWIND_EXACT, process));
        let head = new::head(process);
        Self { calls, exact, head, process, unseen: calls.unseen(head) as u32 }
    }
}

impl InForce {
    /// The list of tables for calls; [`INCOMPLETE`] if there are mappings that it does not have.
    #[inline(always)]
    pub fn list(&self) -> u64 {
        list_bits(self.calls, self.unseen)
    }

    /// Whether userspace has put other lists in force since. It writes those of before, and what they refer to, only
    /// after that.
    #[inline(always)]
    pub fn was_replaced(&self) -> bool {
        // Both read anew, so that there is one branch.
        let calls = published(&UNWIND_PROCESSES, self.process).0 ^ self.calls.0;
        let exact = published(&UNWIND_EXACT, self.process).0 ^ self.exact.0;
        // How many new mappings a list has is no other list.
        (calls & !SEEN) | exact != 0
    }
}

/// In the place of a list's bits: no list has them all.
pub const INCOMPLETE: u64 = u64::MAX;

/// [`InForce::list`] of a process now.
#[inline(always)]
pub fn list_in_force(process: u32) -> u64 {
    // Before the head, as in `InForce::of`.
    let calls = published(&UNWIND_PROCESSES, process);
    list_bits(calls, calls.unseen(new::head(process)) as u32)
}

#[inline(always)]
fn list_bits(calls: Published, unseen: u32) -> u64 {
    if unseen != 0 { INCOMPLETE } else { calls.0 & !SEEN }
}

/// The bits of `Published` that change while a list stays in force.
const SEEN: u64 = 0xffff_0000;

#[inline(always)]
fn published(map: &Array<u64>, process: u32) -> Published {
    Published(map.get_ptr(process).map_or(0, |at| unsafe { core::ptr::read_volatile(at) }))
}

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
