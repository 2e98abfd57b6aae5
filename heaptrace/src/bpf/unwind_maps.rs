//! The unwind tables' maps, as userspace writes them: through shared memory, while the BPF side reads.
//!
//! A process gets a new list of mappings by one store of its number, so a walk sees the list before or the one
//! after. A list that was replaced is used again as late as possible: a walk that began with it takes
//! microseconds.

use super::{LoadError, maps::SharedArray};
use crate::unwind::store::Arrays;
use aya::{Ebpf, maps::Map};
use heaptrace_common::unwind::{MAX_MAPPINGS, MAX_RULES, Published, SHARD, UnwindMapping, lookup::CACHE};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    io, slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Sizes of the unwind tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindSizes {
    /// Shards of rows, 256 KiB each. At most 256 (`Page` has 24 bits for a row's index).
    pub row_shards: u32,
    /// Shards of pages, 256 KiB each; one describes 64 MiB of code.
    pub page_shards: u32,
    /// Processes that have tables at one time, and a few more lists for what is being replaced; 16 KiB each.
    pub lists: u32,
}

impl Default for UnwindSizes {
    /// 33 MiB: 4 million rows (libLLVM has 161,000), 2 GiB of code, 512 processes.
    fn default() -> Self {
        Self { row_shards: 64, page_shards: 32, lists: 576 }
    }
}

impl UnwindSizes {
    /// The least that maps can have.
    pub const NONE: Self = Self { row_shards: 1, page_shards: 1, lists: 1 };

    /// Kernel memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.row_shards + self.page_shards) * (SHARD * 4) as u64
            + u64::from(self.lists) * (MAX_MAPPINGS * size_of::<UnwindMapping>()) as u64
            + (MAX_RULES * 8 + CACHE * 8) as u64
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
    /// Publications that found no list.
    pub lists: u64,
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
            rows: take(ebpf, "UNWIND_ROWS", sizes.row_shards)?,
            pages: take(ebpf, "UNWIND_PAGES", sizes.page_shards)?,
            rules: take(ebpf, "UNWIND_RULES", 1)?,
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

/// Which mappings are in force for which process. See the module.
pub struct UnwindMaps {
    cache: SharedArray<[u64; CACHE]>,
    mappings: SharedArray<[UnwindMapping; MAX_MAPPINGS]>,
    processes: SharedArray<u64>,
    /// By process record.
    published: HashMap<u32, Published>,
    /// Lists in nobody's use, the one that was freed first in front.
    free: VecDeque<u32>,
    /// Lists that were replaced or forgotten; forked children may still have them.
    retired: VecDeque<u32>,
    generation: u16,
    losses: UnwindLosses,
}

impl UnwindMaps {
    /// Takes the maps out of `ebpf`, which has `processes` process records.
    pub(super) fn take(ebpf: &mut Ebpf, sizes: UnwindSizes, processes: u32) -> Result<Self, LoadError> {
        Ok(Self {
            cache: take(ebpf, "UNWIND_CACHE", 1)?,
            mappings: take(ebpf, "UNWIND_MAPPINGS", sizes.lists)?,
            processes: take(ebpf, "UNWIND_PROCESSES", processes)?,
            published: HashMap::new(),
            free: (0..sizes.lists).collect(),
            retired: VecDeque::new(),
            generation: 0,
            losses: UnwindLosses::default(),
        })
    }

    /// Puts `mappings`, in order of address, in force for a process record; those past `MAX_MAPPINGS` are counted.
    pub fn publish(&mut self, record: u32, mappings: &[UnwindMapping]) -> Result<(), PublishError> {
        let Some(process) = self.processes.pointer(record) else {
            return Err(PublishError::NoRecord(record));
        };
        let Some(list) = self.take_list() else {
            self.losses.lists += 1;
            return Err(PublishError::NoList);
        };
        // The search takes addresses as signed numbers; what lies above is the kernel's vsyscall page.
        let user: Vec<UnwindMapping> =
            mappings.iter().copied().filter(|mapping| mapping.end <= UnwindMapping::UNUSED.start).collect();
        self.losses.mappings += user.len().saturating_sub(MAX_MAPPINGS) as u64;
        let Some(at) = self.mappings.pointer(list) else { return Err(PublishError::NoList) };
        for n in 0..MAX_MAPPINGS {
            let mapping = user.get(n).copied().unwrap_or(UnwindMapping::UNUSED);
            // SAFETY: within the list, which no process has.
            unsafe { at.cast::<UnwindMapping>().add(n).write_volatile(mapping) };
        }
        let published = Published::new(list, self.next_generation());
        // SAFETY: an element of the map, aligned; the BPF side also reads and writes it whole.
        unsafe { AtomicU64::from_ptr(process) }.store(published.0, Ordering::Release);
        if let Some(before) = self.published.insert(record, published) {
            self.retired.extend(before.list());
        }
        Ok(())
    }

    /// The process record has ended, or is to be walked by frame pointers.
    pub fn forget(&mut self, record: u32) {
        if let Some(process) = self.processes.pointer(record) {
            // SAFETY: as in `publish`.
            unsafe { AtomicU64::from_ptr(process) }.store(0, Ordering::Release);
        }
        if let Some(before) = self.published.remove(&record) {
            self.retired.extend(before.list());
        }
    }

    /// What found no room so far.
    pub fn losses(&self) -> UnwindLosses {
        self.losses
    }

    fn in_force(&self) -> impl Iterator<Item = Published> + '_ {
        (0..self.processes.entries).filter_map(|record| self.processes.get(record)).map(Published)
    }

    fn take_list(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            let used: HashSet<u32> = self.in_force().filter_map(Published::list).collect();
            let (kept, freed) = self.retired.drain(..).partition(|list| used.contains(list));
            (self.retired, self.free) = (kept, freed);
        }
        self.free.pop_front()
    }

    /// One that no process has, whose entries the cache no longer holds.
    fn next_generation(&mut self) -> u16 {
        loop {
            self.generation = self.generation.wrapping_add(1);
            if self.generation == 0 {
                // SAFETY: the BPF side writes whole words, and userspace only here.
                for entry in unsafe { self.cache.flat::<AtomicU64>() } {
                    entry.store(0, Ordering::Relaxed);
                }
                continue;
            }
            // There are far fewer lists than generations. Only after a wrap can one be in use.
            if !self.published.values().any(|published| published.generation() == self.generation) {
                return self.generation;
            }
        }
    }
}

fn take<T: Copy>(ebpf: &mut Ebpf, name: &'static str, entries: u32) -> Result<SharedArray<T>, LoadError> {
    match ebpf.take_map(name) {
        Some(Map::Array(data)) => {
            SharedArray::new(&data, entries).map_err(|source: io::Error| LoadError::Maps { source })
        }
        _ => Err(LoadError::Object { what: format!("no array {name}") }),
    }
}

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
