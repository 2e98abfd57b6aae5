//! Retires what is over, while tracing, so that tables do not fill with what has been: records of processes that have ended,
//! their sites, and nodes of stacks.

use super::Session;
use crate::{bpf::wait_for_programs, model::Note};
use heaptrace_common::event::{Event, kind};
use std::{
    collections::HashSet,
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Without a table that fills, so many of all records are worth the looks at the tables: a 16th.
const MANY: u32 = 16;

/// What comes so long after a record's end in the ring is behind all that was said of it.
const BEHIND_NS: u64 = 2_000_000_000;

/// Where the kernel cannot say that its programs are done, so much time is taken for it.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub(super) struct Retiring {
    /// Records of which the last event has come.
    told: HashSet<u32>,
    /// When the newest event was sent.
    newest_ns: u64,
    waiting: Option<Waiting>,
}

/// What waits until no program runs that began before it was found.
struct Waiting {
    programs: JoinHandle<io::Result<()>>,
    what: What,
}

enum What {
    Records(Vec<u32>),
    /// They are out of sight.
    Nodes,
}

impl Waiting {
    fn begin(what: What) -> Self {
        let programs = thread::spawn(|| {
            wait_for_programs().or_else(|_| {
                thread::sleep(LONG_ENOUGH);
                Ok(())
            })
        });
        Self { programs, what }
    }
}

impl Retiring {
    /// Takes an event that was dealt with.
    pub fn take(&mut self, event: &Event) {
        self.newest_ns = self.newest_ns.max(event.time_ns);
        match event.kind {
            kind::EXIT => _ = self.told.insert(event.process),
            kind::EXEC => _ = self.told.insert(event.other),
            _ => {}
        }
    }
}

impl Session {
    /// See the module. Each step is taken at another call, once the programs that ran at the last one are done.
    pub(super) fn retire(&mut self) {
        if self.counting.is_over() {
            return;
        }
        match self.retiring.waiting.take() {
            Some(waiting) if !waiting.programs.is_finished() => self.retiring.waiting = Some(waiting),
            Some(Waiting { what: What::Records(records), .. }) => {
                self.retire_records(&records);
                // Growth calls of which each is told have stacks without sites.
                if self.retiring.waiting.is_none() && !self.watched && self.tracer.maps.has_many_nodes() {
                    self.tracer.maps.hide_nodes();
                    self.retiring.waiting = Some(Waiting::begin(What::Nodes));
                }
            }
            Some(Waiting { what: What::Nodes, .. }) => self.tracer.maps.free_hidden_nodes(),
            None => {
                let (told, newest_ns) = (&self.retiring.told, self.retiring.newest_ns);
                let records = self.builder.retirable(|record, of| {
                    told.contains(&record) || of.ended_ns.saturating_add(BEHIND_NS) < newest_ns
                });
                let many = records.len() as u32 >= self.tracer.maps.most_records() / MANY;
                if many || !records.is_empty() && self.tracer.maps.is_filling() {
                    self.retiring.waiting = Some(Waiting::begin(What::Records(records)));
                }
            }
        }
    }

    fn retire_records(&mut self, records: &[u32]) {
        let counted = self.counting.counted(self.probes);
        for record in records {
            self.forget_code(*record);
            self.looked_at.remove(record);
            self.pending_code.to_be_looked_at.remove(record);
            self.residencies.allocators.remove(record);
            self.retiring.told.remove(record);
        }
        self.tracer.unwind.retire(&records.iter().copied().collect());
        if let Err(error) = self.builder.retire(&mut self.tracer.maps, records, counted) {
            self.note(Note::EndedBlocksNotRemoved { reason: error.to_string() });
        }
    }
}
