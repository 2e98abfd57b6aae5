//! Looks for live blocks that the allocator holds for free, by its own books: where frees are not traced, that is how blocks are
//! known to be over before their addresses are handed out again.

use super::{Session, monotonic_ns};
use crate::{
    allocators::{Known, glibc::not_in_use, memory::ProcessMemory},
    model::Note,
    rss::Limits,
};
use heaptrace_common::{
    live::{LiveBlock, LiveKey},
    record::process_state,
};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// What a look at all processes takes at most, but for its last process: it is time in which forks are not followed.
const AT_MOST: Duration = Duration::from_secs(2);

impl Session {
    /// See the module. For whenever blocks are about to be read, where frees are not traced; of the processes in `records`, as far
    /// as there is time.
    pub(super) fn look_into_heaps(&mut self, records: &[u32]) {
        if records.is_empty() {
            return;
        }
        let began = Instant::now();
        let of = records.iter().copied().collect::<HashSet<u32>>();
        let blocks = match self.builder.blocks_of(&self.tracer.maps, &of, monotonic_ns()) {
            Ok(blocks) => blocks,
            Err(error) => return self.note(Note::LiveBlocksUnreadable { reason: error.to_string() }),
        };
        let mut over = Vec::new();
        // Those with the most blocks first.
        let mut of_records: Vec<(u32, Vec<(LiveKey, LiveBlock)>)> = blocks.into_iter().collect();
        of_records.sort_unstable_by_key(|(record, blocks)| (std::cmp::Reverse(blocks.len()), *record));
        for (record, blocks) in of_records {
            if began.elapsed() > AT_MOST {
                self.note(Note::MappingsNotRead);
                break;
            }
            let addresses = blocks.iter().map(|(key, _)| key.address).collect::<Vec<u64>>();
            let free = self.not_in_use(record, &addresses);
            over.push((record, blocks, free));
        }
        // After they were read: what has happened since tells whether it was of this image.
        self.builder.read_processes(&mut self.tracer.maps);
        self.take_code_changes();
        for (record, blocks, free) in over {
            if self.is_image_still(record) {
                let is_free = |key: &LiveKey| free.binary_search(&key.address).is_ok();
                self.builder.are_over(blocks.into_iter().filter(|(key, _)| is_free(key)));
            }
        }
    }

    /// Those of `addresses`, in order, that a process's heap holds for free, in two looks; none where it cannot be read.
    fn not_in_use(&mut self, record: u32, addresses: &[u64]) -> Vec<u64> {
        let Some(pid) = self.builder.record(record).map(|record| record.tgid) else { return Vec::new() };
        let Ok(Some(Known::Glibc(place))) = self.allocator_of(record, pid) else { return Vec::new() };
        let (memory, most) = (ProcessMemory { pid }, Limits::WHOLE.walk_bytes);
        match not_in_use(&memory, place, most, addresses) {
            Some(first) if !first.is_empty() => not_in_use(&memory, place, most, &first).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Whether what was just read of a record's process is of its image.
    pub(super) fn is_image_still(&self, record: u32) -> bool {
        let Some(of) = self.builder.record(record) else { return false };
        of.state == process_state::RUNNING
            && self.tracer.maps.index_of(of.tgid) == Some(record)
            && !self.pending_code.has_begun_exec(of.tgid, of.started_ns)
    }
}
