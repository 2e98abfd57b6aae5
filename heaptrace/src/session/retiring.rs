//! Retires what is over, while tracing, so that tables do not fill with what has been: records of processes that have ended,
//! their sites, and nodes of stacks.

use super::{
    Session,
    attachments::World as _,
    over::{Waiting, What},
};
use crate::{bpf::Calls, model::Note};

/// Without a table that fills, so many of all records are worth the looks at the tables: a 16th.
const MANY: u32 = 16;

/// What comes so long after a record's end in the ring is behind all that was said of it.
const BEHIND_NS: u64 = 2_000_000_000;

impl Session {
    /// See the module. Each step is taken at another call, once the programs that ran at the last one are done.
    pub(super) fn retire(&mut self) {
        // Frees that are looked into are about sites by their numbers, to the end.
        if self.counting.is_over() || self.tracer.maps.checked_frees().is_some() {
            return;
        }
        match self.over.waiting.take() {
            Some(waiting) if !waiting.programs.is_finished() => self.over.waiting = Some(waiting),
            Some(Waiting { what: What::Records(records), .. }) => {
                self.retire_records(&records);
                // Growth calls that are shown have stacks without sites.
                let has_sites = !matches!(self.calls, Calls::Shown { .. });
                if self.over.waiting.is_none() && has_sites && self.tracer.maps.has_many_nodes() {
                    self.tracer.maps.hide_nodes();
                    self.over.waiting = Waiting::begin(What::Nodes);
                }
            }
            Some(Waiting { what: What::Nodes, .. }) => self.tracer.maps.free_hidden_nodes(),
            None => {
                let (told, newest_ns) = (&self.over.told, self.over.newest_ns);
                let records = self.builder.retirable(|record, of| {
                    told.contains(&record) || of.ended_ns.saturating_add(BEHIND_NS) < newest_ns
                });
                let many = records.len() as u32 >= self.tracer.maps.most_records() / MANY;
                if many || !records.is_empty() && self.tracer.maps.is_filling() {
                    self.tracer.maps.forget_cached(&records);
                    self.over.waiting = Waiting::begin(What::Records(records));
                }
            }
        }
    }

    fn retire_records(&mut self, records: &[u32]) {
        let counted = self.counting.counted(self.probes);
        for record in records {
            self.world().forget_code(*record);
            self.attachments.forget_record(*record);
            self.pending_code.to_be_looked_at.remove(record);
            self.residencies.allocators.remove(record);
            self.over.told.remove(record);
        }
        self.tracer.unwind.retire(&records.iter().copied().collect());
        if let Err(error) = self.builder.retire(&mut self.tracer.maps, records, counted) {
            self.note(Note::EndedBlocksNotRemoved { reason: error.to_string() });
        }
    }
}
