//! The unwind tables' maps, as userspace writes them: through shared memory, while the BPF side reads.
//!
//! A process gets a new list of mappings by one store of its number, so a walk sees the list before or the one
//! after. At its end a walk looks whether that number is still the same, and else is made again: what it read may have
//! been given to others. So lists and tables are used again only after that store.

use super::{
    array::SharedArray,
    error::LoadError,
    taken::{take, take_array},
};
use crate::unwind::{RowKind, store::Arrays};
use aya::{
    Ebpf,
    maps::{HashMap as BpfHashMap, MapData},
};
use heaptrace_common::unwind::{
    CodeFile, CodeFileKey, LIST_PART, LIST_PARTS, List, MAX_MAPPINGS, MAX_RULES, NEW_SLOTS, NewMapping,
    NewMappings, PAGE_BITS, Published, SHARD, UnwindMapping,
    lookup::CACHE,
    memo::{MEMOS, Memo},
};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// MiB of code that one shard of pages describes.
const SHARD_MIB: u32 = (SHARD << PAGE_BITS >> 20) as u32;

/// Sizes of the unwind tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindSizes {
    /// Shards of rows, 256 KiB each. At most 256 (`Page` has 24 bits for a row's index).
    pub row_shards: u32,
    /// Shards of pages, 256 KiB each; one describes 64 MiB of code.
    pub page_shards: u32,
    /// Lists of up to 128 mappings, 4 KiB each: one for a process that has tables, one more for its exact rows, and a few
    /// for what is being replaced. More mappings take two or four.
    pub lists: u32,
}

impl Default for UnwindSizes {
    /// 27 MiB: 4 million rows (libLLVM has 161,000), 1 GiB of code, which has some 2 million, and 1,200 processes.
    fn default() -> Self {
        Self { row_shards: 64, page_shards: 16, lists: 1280 }
    }
}

impl UnwindSizes {
    /// Room for `rows` rows, `code_mib` MiB of code and `lists` lists, and what rounding up adds.
    pub fn new(rows: u32, code_mib: u32, lists: u32) -> Self {
        Self { row_shards: rows.div_ceil(SHARD as u32), page_shards: code_mib.div_ceil(SHARD_MIB), lists }
    }

    /// Rows that there is room for.
    pub fn rows(&self) -> u32 {
        self.row_shards * SHARD as u32
    }

    /// MiB of code that there is room for.
    pub fn code_mib(&self) -> u32 {
        self.page_shards * SHARD_MIB
    }

    /// The least that maps can have.
    pub const NONE: Self = Self { row_shards: 1, page_shards: 1, lists: 1 };

    /// Elements of `UNWIND_MAPPINGS`.
    pub(super) fn list_elements(&self) -> u32 {
        self.lists.div_ceil(LIST_PARTS as u32)
    }

    /// Kernel memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.row_shards + self.page_shards) * (SHARD * 4) as u64
            + u64::from(self.list_elements()) * (MAX_MAPPINGS * size_of::<UnwindMapping>()) as u64
            + (MAX_RULES * 8 + CACHE * 8 + NEW_SLOTS * size_of::<NewMappings>()) as u64
    }
}

/// Why a process's mappings were not published, or not all. It goes on by frame pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("all lists of mappings are in use")]
    NoList,
    #[error("there is no process record {0}")]
    NoRecord(u32),
}

/// Losses, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnwindLosses {
    /// Mappings past `MAX_MAPPINGS` of one process.
    pub mappings: u64,
}

/// The memory of rows, pages and rules, for the store of tables. What a published process refers to must not be
/// changed before it is published anew or forgotten, and the walks under way then are over.
pub struct UnwindArrays {
    rows: SharedArray<[u32; SHARD]>,
    pages: SharedArray<[u32; SHARD]>,
    rules: SharedArray<[u64; MAX_RULES]>,
}

impl UnwindArrays {
    pub(super) fn take(ebpf: &mut Ebpf, sizes: UnwindSizes) -> Result<Self, LoadError> {
        Ok(Self {
            rows: take_array(ebpf, "UNWIND_ROWS", sizes.row_shards)?,
            pages: take_array(ebpf, "UNWIND_PAGES", sizes.page_shards)?,
            rules: take_array(ebpf, "UNWIND_RULES", 1)?,
        })
    }
}

impl Arrays for UnwindArrays {
    fn rows(&self) -> &[AtomicU32] {
        // SAFETY: an `AtomicU32` is laid out as a `u32`; nobody accesses this memory but by atomics or in BPF.
        unsafe { self.rows.flat::<AtomicU32>() }
    }

    fn pages(&self) -> &[AtomicU32] {
        // SAFETY: as above.
        unsafe { self.pages.flat::<AtomicU32>() }
    }

    fn rules(&self) -> &[AtomicU64] {
        // SAFETY: as above, for `u64`.
        unsafe { self.rules.flat::<AtomicU64>() }
    }
}

/// What is in force, by process record, of one kind of rows.
struct InForce {
    array: SharedArray<u64>,
    published: HashMap<u32, Published>,
}

fn store(array: &SharedArray<u64>, record: u32, published: Published) {
    if let Some(at) = array.pointer(record) {
        // SAFETY: an element of the map, aligned; the BPF side also reads and writes it whole.
        unsafe { AtomicU64::from_ptr(at) }.store(published.0, Ordering::Release);
    }
}

impl InForce {
    /// The lists in force, forked children's among them.
    fn lists(&self) -> impl Iterator<Item = List> + '_ {
        let all = (0..self.array.entries).filter_map(|record| self.array.get(record));
        all.filter_map(|published| Published(published).list())
    }
}

/// Which mappings are in force for which process. See the module.
pub struct UnwindMaps {
    cache: SharedArray<[u64; CACHE]>,
    memos: SharedArray<Memo>,
    mappings: SharedArray<[UnwindMapping; MAX_MAPPINGS]>,
    calls: InForce,
    exact: InForce,
    new: SharedArray<NewMappings>,
    /// Of each slot of `new`: everything before this head is known to userspace.
    heads: Vec<u64>,
    files: BpfHashMap<MapData, Key, Value>,
    /// By part: in nobody's use.
    free: Vec<bool>,
    /// Lists that were replaced or forgotten; forked children may still have them.
    retired: Vec<List>,
    generation: u16,
    losses: UnwindLosses,
}

impl UnwindMaps {
    /// Takes the maps out of `ebpf`, which has `processes` process records.
    pub(super) fn take(ebpf: &mut Ebpf, sizes: UnwindSizes, processes: u32) -> Result<Self, LoadError> {
        let in_force = |ebpf: &mut Ebpf, name| -> Result<InForce, LoadError> {
            Ok(InForce { array: take_array(ebpf, name, processes)?, published: HashMap::new() })
        };
        Ok(Self {
            cache: take_array(ebpf, "UNWIND_CACHE", 1)?,
            memos: take_array(ebpf, "UNWIND_MEMOS", MEMOS)?,
            mappings: take_array(ebpf, "UNWIND_MAPPINGS", sizes.list_elements())?,
            calls: in_force(ebpf, "UNWIND_PROCESSES")?,
            exact: in_force(ebpf, "UNWIND_EXACT")?,
            new: take_array(ebpf, "UNWIND_NEW", NEW_SLOTS as u32)?,
            heads: vec![0; NEW_SLOTS],
            files: take(ebpf, "CODE_FILES")?,
            free: vec![true; sizes.lists as usize],
            retired: Vec::new(),
            generation: 0,
            losses: UnwindLosses::default(),
        })
    }

    /// Says that userspace is about to learn of every mapping made so far: what is published from here on has those.
    pub fn look_at_heads(&mut self) {
        for (slot, head) in (0..).zip(&mut self.heads) {
            *head = self.new.pointer(slot).map_or(0, head_of);
        }
    }

    fn known_head(&self, record: u32) -> u64 {
        self.heads[record as usize % NEW_SLOTS]
    }

    /// Tells the BPF side which new mappings all processes' lists have. To be called once everything that was known at
    /// the last [`Self::look_at_heads`] is published.
    pub fn settle(&mut self) {
        let InForce { array, published } = &mut self.calls;
        for (record, published) in published {
            let settled = published.with_seen(self.heads[*record as usize % NEW_SLOTS]);
            if settled != *published {
                *published = settled;
                store(array, *record, settled);
            }
        }
    }

    /// Puts `mappings`, in order of address, in force for a process record, and with `exact` those with tables of exact
    /// rows; what lies past `MAX_MAPPINGS` is counted.
    pub fn publish(
        &mut self,
        record: u32,
        mappings: &[UnwindMapping],
        exact: Option<&[UnwindMapping]>,
    ) -> Result<(), PublishError> {
        if self.calls.array.pointer(record).is_none() {
            return Err(PublishError::NoRecord(record));
        }
        match exact {
            Some(exact) => {
                let published = self.list(exact)?;
                self.put(RowKind::Exact, record, published);
            }
            None => self.withdraw(RowKind::Exact, record),
        }
        let seen = self.known_head(record);
        let published = self.list(mappings)?.with_seen(seen);
        self.put(RowKind::Calls, record, published);
        Ok(())
    }

    fn put(&mut self, kind: RowKind, record: u32, published: Published) {
        let in_force = self.in_force(kind);
        store(&in_force.array, record, published);
        let before = in_force.published.insert(record, published);
        self.retired.extend(before.and_then(Published::list));
    }

    fn in_force(&mut self, kind: RowKind) -> &mut InForce {
        match kind {
            RowKind::Calls => &mut self.calls,
            RowKind::Exact => &mut self.exact,
        }
    }

    /// Writes a list that no process has yet.
    fn list(&mut self, mappings: &[UnwindMapping]) -> Result<Published, PublishError> {
        // The search takes addresses as signed numbers; what lies above is the kernel's vsyscall page.
        let user: Vec<UnwindMapping> =
            mappings.iter().copied().filter(|mapping| mapping.end <= UnwindMapping::UNUSED.start).collect();
        self.losses.mappings += user.len().saturating_sub(MAX_MAPPINGS) as u64;
        let list = self.take_list(user.len()).ok_or(PublishError::NoList)?;
        let at = self.mappings.pointer(list.element()).ok_or(PublishError::NoList)?;
        let mut user = user.into_iter();
        for place in places(list) {
            // SAFETY: within the element, and the list, which no process has.
            unsafe {
                at.cast::<UnwindMapping>()
                    .add(place)
                    .write_volatile(user.next().unwrap_or(UnwindMapping::UNUSED))
            };
        }
        Ok(Published::new(list, self.next_generation(), 0))
    }

    /// The process record has ended, or is to be walked by frame pointers.
    pub fn forget(&mut self, record: u32) {
        for kind in [RowKind::Calls, RowKind::Exact] {
            self.withdraw(kind, record);
        }
    }

    /// Process records are retired: who gets their places begins without lists, new mappings and remembered walks.
    pub fn retire(&mut self, records: &HashSet<u32>) {
        for record in records {
            self.forget(*record);
            let head = self.new.pointer(*record % NEW_SLOTS as u32).map_or(0, head_of);
            store(&self.calls.array, *record, Published::default().with_seen(head));
        }
        for memo in (0..MEMOS).filter_map(|index| self.memos.pointer(index)) {
            // SAFETY: within the mapping; the BPF side writes one only while it has made its version odd, and so do we.
            unsafe {
                if !records.contains(&(&raw const (*memo).process).read_volatile()) {
                    continue;
                }
                let version = AtomicU64::from_ptr(&raw mut (*memo).version);
                let held = version.load(Ordering::Acquire);
                // Who is writing it is another process.
                if held & 1 == 0
                    && version.compare_exchange(held, held + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                {
                    (&raw mut (*memo).count).write_volatile(0);
                    version.store(held + 2, Ordering::Release);
                }
            }
        }
    }

    fn withdraw(&mut self, kind: RowKind, record: u32) {
        let in_force = self.in_force(kind);
        store(&in_force.array, record, Published::default());
        let before = in_force.published.remove(&record);
        self.retired.extend(before.and_then(Published::list));
    }

    /// Tells the BPF side where the table of a file is. Without room for it, mappings of the file wait for userspace.
    pub fn know_file(&mut self, key: CodeFileKey, file: CodeFile) {
        let _ = self.files.insert(Key(key), Value(file), 0);
    }

    /// The table of a file is about to go.
    pub fn forget_file(&mut self, key: CodeFileKey) {
        // It may never have found room.
        let _ = self.files.remove(&Key(key));
    }

    /// Indexes of first pages that may be read: lists in force refer to them, those that forked children have of their
    /// parents too, or new mappings do, whether they still count or not.
    pub fn pages_in_use(&self) -> HashSet<u32> {
        let slots = (0..NEW_SLOTS as u32).filter_map(|slot| self.new.get(slot));
        let new = slots.flat_map(|slot| slot.entries).map(|NewMapping { mapping, .. }| mapping.pages_at);
        let lists: HashSet<List> = self.calls.lists().chain(self.exact.lists()).collect();
        let listed = lists.into_iter().filter_map(|list| Some((self.mappings.get(list.element())?, list)));
        let listed = listed.flat_map(|(mappings, list)| places(list).map(move |place| mappings[place]));
        new.chain(listed.map(|mapping| mapping.pages_at)).collect()
    }

    /// What found no room so far.
    pub fn losses(&self) -> UnwindLosses {
        self.losses
    }

    /// A list with room for so many mappings, or for as many as there can be.
    fn take_list(&mut self, mappings: usize) -> Option<List> {
        let parts = mappings.div_ceil(LIST_PART).next_power_of_two().min(LIST_PARTS);
        self.take_parts(parts).or_else(|| {
            let used: HashSet<List> = self.calls.lists().chain(self.exact.lists()).collect();
            let (kept, freed) = self.retired.drain(..).partition(|list| used.contains(list));
            self.retired = kept;
            let freed: Vec<List> = freed;
            for list in freed {
                self.free[parts_of(list)].fill(true);
            }
            self.take_parts(parts)
        })
    }

    fn take_parts(&mut self, parts: usize) -> Option<List> {
        let runs = self.free.chunks_exact(parts);
        let first = runs.enumerate().find(|(_, run)| run.iter().all(|free| *free))?.0 * parts;
        let list = List::new(first as u32, parts as u32);
        self.free[parts_of(list)].fill(false);
        Some(list)
    }

    /// One that no process has, of which neither the cache nor a remembered walk is left.
    fn next_generation(&mut self) -> u16 {
        loop {
            self.generation = self.generation.wrapping_add(1);
            if self.generation == 0 {
                // SAFETY: the BPF side writes whole words, and userspace only here.
                for entry in unsafe { self.cache.flat::<AtomicU64>() } {
                    entry.store(0, Ordering::Relaxed);
                }
                for memo in (0..MEMOS).filter_map(|index| self.memos.pointer(index)) {
                    // SAFETY: within the mapping; the BPF side reads and writes the whole word.
                    unsafe { (&raw mut (*memo).count).write_volatile(0) };
                }
                continue;
            }
            // There are far fewer lists than generations. Only after a wrap can one be in use.
            let mut published = self.calls.published.values().chain(self.exact.published.values());
            if !published.any(|published| published.generation() == self.generation) {
                return self.generation;
            }
        }
    }
}

fn head_of(new: *mut NewMappings) -> u64 {
    // SAFETY: an element of the map, aligned; BPF counts the head up atomically.
    unsafe { AtomicU64::from_ptr(&raw mut (*new).head) }.load(Ordering::Acquire)
}

fn parts_of(list: List) -> Range<usize> {
    list.first() as usize..(list.first() + list.parts()) as usize
}

/// Where a list's mappings are in its element.
fn places(list: List) -> Range<usize> {
    let start = list.place(0) as usize;
    start..start + list.parts() as usize * LIST_PART
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Key(CodeFileKey);

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Value(CodeFile);

// SAFETY: both are `repr(C)`, of integers without padding between them.
unsafe impl aya::Pod for Key {}
// SAFETY: as above.
unsafe impl aya::Pod for Value {}

impl<T: Copy, const N: usize> SharedArray<[T; N]> {
    /// All elements' elements, one after the other.
    ///
    /// # Safety
    /// `A` is the atomic type laid out as `T`, and all accesses in userspace are through it.
    unsafe fn flat<A>(&self) -> &[A] {
        const { assert!(size_of::<A>() == size_of::<T>()) };
        match self.pointer(0) {
            // SAFETY: the mapping holds `entries` arrays without gaps and lives as long as `self`.
            Some(at) => unsafe { slice::from_raw_parts(at.cast::<A>(), self.entries as usize * N) },
            None => &[],
        }
    }
}
