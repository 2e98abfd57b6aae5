//! What a session has to say of its own numbers: the facts that it came upon, and those that are looked up when a chunk is
//! made.

use super::{Session, tables::Unwinding};
use crate::{
    bpf::MapError,
    model::{Coverage, Note, StackTable},
    process::mapped::MappingWatch,
};
use heaptrace_common::counter::Counter;

impl Session {
    /// What the session's numbers cover so far.
    pub fn coverage(&self) -> Result<Coverage, MapError> {
        let counters = self.tracer.maps.counters()?;
        let mut coverage = self.builder.coverage(&counters, self.probes);
        coverage.counts.add(Counter::RingFull, self.unread);
        let mut notes = self.notes.clone();
        let some = |count: u64| (count > 0).then_some(count);
        let lost_mappings = self.watch.as_ref().map_or(0, MappingWatch::lost);
        notes.extend(some(lost_mappings).map(|count| Note::MappingsLost { count }));
        let refused = self.tracer.maps.stacks_refused();
        for (table, count) in [(StackTable::Sites, refused.sites), (StackTable::Frames, refused.frames)] {
            notes.extend(some(count).map(|count| Note::StacksNotKept { table, count }));
        }
        let not_grown = self.tracer.maps.growth_failure();
        notes.extend(not_grown.map(|error| Note::TablesNotGrown { reason: error.to_string() }));
        notes.extend(some(self.tracer.left_out()).map(|count| Note::TracepointsSkipped { count }));
        notes.extend(self.price_paid());
        notes.extend(self.overhead.notes());
        notes.extend(self.perf_maps.note());
        self.unwinding.iter().map(Unwinding::failures).for_each(|failures| notes.merge(failures));
        let without_table = self.unwinding.as_ref().map_or(0, |_| self.tracer.unwind.losses().mappings);
        notes.extend(some(without_table).map(|count| Note::MappingsWithoutTable { count }));
        notes.extend(
            some(self.builder.unclassed_blocks(self.counting.is_over()))
                .map(|count| Note::UnclassedBlocks { count }),
        );
        Ok(Coverage {
            untraceable: self.attachments.untraceable().cloned().collect(),
            size_filter: self.size_filter,
            hit_price: self.overhead.price(),
            notes,
            ..coverage
        })
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.take(note);
    }

    /// How many processes were to be traced and are not.
    pub fn untraceable(&self) -> u64 {
        let like = Note::LeftOut { pid: 0, comm: String::new(), reason: String::new() };
        self.attachments.untraceable().len() as u64 + self.notes.count_like(&like)
    }
}
