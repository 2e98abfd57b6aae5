//! Looks for live blocks that the allocator holds for free, by its own books: where frees are not traced, that is how blocks are
//! known to be over before their addresses are handed out again.

use super::{Session, monotonic_ns};
use crate::{
    allocators::{
        Known,
        glibc::{NotBegun, not_begun},
        memory::ProcessMemory,
    },
    model::Note,
    process::patience,
};
use heaptrace_common::live::{LiveBlock, LiveKey};
use std::{
    cmp::Reverse,
    collections::HashSet,
    time::{Duration, Instant},
};

/// Bytes of a heap that are read at most, twice: some second each.
const HEAP_BYTES: u64 = 1 << 30;

impl Session {
    /// See the module. For whenever blocks are about to be read, where frees are not traced; of the processes in `records`, as far
    /// as there is time, but for the last one: in which forks are not followed.
    pub(super) fn look_into_heaps(&mut self, records: &[u32], at_most: Duration) {
        let began = Instant::now();
        let of = records.iter().copied().collect::<HashSet<u32>>();
        let blocks = match self.builder.blocks_of(&self.tracer.maps, &of, monotonic_ns()) {
            Ok(blocks) => blocks,
            Err(error) => return self.note(Note::LiveBlocksUnreadable { reason: error.to_string() }),
        };
        let mut of_records: Vec<(u32, Vec<(LiveKey, LiveBlock)>)> = blocks.into_iter().collect();
        of_records.sort_unstable_by_key(|(record, blocks)| (Reverse(blocks.len()), *record));
        let mut over = Vec::new();
        for (record, mut blocks) in of_records {
            // Their frees are told.
            blocks.retain(|(_, block)| block.weight() == 0);
            let Some(pid) = self.builder.record(record).map(|record| record.tgid) else { continue };
            let addresses = blocks.iter().map(|(key, _)| key.address).collect::<Vec<u64>>();
            let looked = match began.elapsed() > at_most {
                true => Err("there was no time".to_owned()),
                false => self.freed(record, pid, &addresses),
            };
            match looked {
                Ok(freed) => {
                    blocks.retain(|(key, _)| freed.binary_search(&key.address).is_ok());
                    over.push((record, blocks));
                }
                Err(reason) if self.residencies.unread.insert(pid) => {
                    self.note(Note::HeapNotRead { pid, reason });
                }
                Err(_) => {}
            }
        }
        // After they were read: what has happened since tells whether it was of this image.
        self.builder.read_processes(&mut self.tracer.maps);
        self.take_code_changes();
        for (record, blocks) in over {
            if self.is_image_still(record) {
                self.builder.end_blocks(blocks);
            }
        }
    }

    /// Those of `addresses`, in order, that a process's heap has for free, in two looks: what changes meanwhile can seem to be so in
    /// one.
    fn freed(&mut self, record: u32, pid: u32, addresses: &[u64]) -> Result<Vec<u64>, String> {
        let place = match self.allocator_of(record, pid) {
            Ok(Some(Known::Glibc(place))) => *place,
            Ok(Some(Known::Jemalloc(_))) => return Err("only glibc's heap can be".to_owned()),
            Ok(Some(Known::Other { why, .. })) => return Err(why.clone()),
            Ok(None) => return Err("its allocator's file could not be read".to_owned()),
            Err(error) if error.is_gone() => return Ok(Vec::new()),
            Err(error) => return Err(error.to_string()),
        };
        let memory = ProcessMemory { pid };
        let is_alone = self.has_glibc_alone(record);
        let look = |addresses: &[u64]| {
            if addresses.is_empty() {
                return Ok(Vec::new());
            }
            let addresses = addresses.to_vec();
            let looked = patience::look(pid, move || not_begun(&memory, &place, HEAP_BYTES, &addresses));
            let NotBegun { mut freed, mut inside } = looked
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "an arena could not be read to its end".to_owned())?;
            if is_alone {
                freed.append(&mut inside);
                freed.sort_unstable();
            }
            Ok(freed)
        };
        look(&look(addresses)?)
    }

    /// Whether no other allocator's blocks are traced, which may lie within glibc's.
    fn has_glibc_alone(&self, record: u32) -> bool {
        let process = self.builder.process_of(record);
        let process = process.and_then(|id| self.builder.symbol_inputs().processes.get(&id));
        process.is_some_and(|process| process.allocators.iter().all(|allocator| allocator.kind == "glibc"))
    }
}
