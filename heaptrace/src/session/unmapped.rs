//! Looks for live blocks whose memory is not mapped any more, while their frees would still be seen.

use super::{Session, monotonic_ns};
use crate::{
    bpf::Calls,
    model::Note,
    process::{maps::Mapping, procfs},
    rss::Rounds,
};
use heaptrace_common::record::process_state;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// What a look at all processes takes at most, but for its last process: it is time in which forks are not followed.
pub(super) const AT_MOST: Duration = Duration::from_secs(2);

/// While tracing for the end's sake, tables that have room for more blocks are not read: that takes some 10 ms a million.
const MOST_BLOCKS: u32 = 4 << 20;

impl Session {
    /// See the module; and where frees are not traced, for blocks that their heaps have for free. For whenever blocks are about to be
    /// read; the last time before [`Session::detach`].
    pub fn look_for_unmapped(&mut self) {
        self.look_for_unmapped_within(AT_MOST);
    }

    /// The same within less time, but for the last process.
    pub(super) fn look_for_unmapped_within(&mut self, at_most: Duration) {
        if self.calls == Calls::Followed && !self.counting.is_over() {
            self.look_at_all_origins();
        }
        if !self.probes || self.counting.is_over() {
            return;
        }
        self.builder.read_processes(&mut self.tracer.maps);
        let records = self.holders();
        let began = Instant::now();
        let looked = self.look_at(&records, || began.elapsed() < at_most);
        if looked < records.len() {
            self.note(Note::MappingsNotRead);
        }
        if !self.frees {
            // Reading one takes longer.
            self.look_into_heaps(&records, at_most.max(AT_MOST / 2));
        }
    }

    /// Looks at processes whose turn it is: they may have ended by the end, or have mapped the memory again. For once a
    /// second, after [`Session::drain`].
    pub fn look_for_unmapped_some(&mut self) {
        if self.calls == Calls::Followed {
            let holders: Vec<u32> = self.builder.holders().into_iter().map(|(record, _)| record).collect();
            let began = Instant::now();
            let due = self.looks.due(self.counting.elapsed(), &holders);
            if !due.is_empty() {
                let last = self.look_at_origins(&due, || Rounds::goes_on(began.elapsed()));
                self.looks.over(self.counting.elapsed(), began.elapsed(), last);
            }
        }
        if !self.probes || self.tracer.maps.live_capacity() > MOST_BLOCKS {
            return;
        }
        let began = Instant::now();
        let records = self.looks.due(self.counting.elapsed(), &self.holders());
        if records.is_empty() {
            return;
        }
        let looked = self.look_at(&records, || Rounds::goes_on(began.elapsed()));
        let last = looked.checked_sub(1).map(|last| records[last]);
        self.looks.over(self.counting.elapsed(), began.elapsed(), last);
    }

    /// Records that run and have live blocks, in order.
    fn holders(&self) -> Vec<u32> {
        let holds = |record: &u32| self.builder.record(*record).is_some_and(|record| record.live_count() > 0);
        self.builder.running().map(|(record, _)| record).filter(holds).collect()
    }

    /// Looks at these records' processes, as long as `goes_on`; gives at how many.
    fn look_at(&mut self, records: &[u32], mut goes_on: impl FnMut() -> bool) -> usize {
        let since_ns = monotonic_ns();
        let mut read = HashMap::new();
        let mut looked = 0;
        for record in records.iter().take_while(|_| goes_on()) {
            self.read_mappings(*record, &mut read);
            looked += 1;
        }
        self.keep_still(&mut read);
        let suspects = match self.builder.suspects(&self.tracer.maps, &read, since_ns) {
            Ok(suspects) => suspects,
            Err(error) => {
                self.note(Note::LiveBlocksUnreadable { reason: error.to_string() });
                return looked;
            }
        };
        let mut again = HashMap::new();
        suspects.records().for_each(|record| self.read_mappings(record, &mut again));
        self.keep_still(&mut again);
        self.builder.convict(&suspects, &again);
        looked
    }

    /// Finds which blocks are over although no free was seen; call [`Session::drain`] first.
    pub(super) fn judge_blocks(&mut self) {
        if let Err(error) = self.builder.judge_blocks(&self.tracer.maps) {
            self.note(Note::UnmappedBlocksUnknown { reason: error.to_string() });
        }
    }

    fn read_mappings(&mut self, record: u32, to: &mut HashMap<u32, Vec<Mapping>>) {
        let Some(pid) = self.builder.record(record).map(|record| record.tgid) else { return };
        match procfs::read_whole_maps(pid) {
            Ok(Some(mappings)) => _ = to.insert(record, mappings),
            // All its blocks stay live, which is what is said of processes that ended. One that execs has none.
            Ok(None) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => self.note(Note::MappingsUnreadable { pid, reason: error.to_string() }),
        }
    }

    /// Keeps those that are of their records' images.
    fn keep_still(&mut self, read: &mut HashMap<u32, Vec<Mapping>>) {
        // After they were read: what has happened since tells what was not yet told then.
        self.builder.read_processes(&mut self.tracer.maps);
        self.take_code_changes();
        read.retain(|record, mappings| self.is_still(*record, mappings));
    }

    /// Whether what was just read of a record's process is of its image.
    pub(super) fn is_image_still(&self, record: u32) -> bool {
        let Some(of) = self.builder.record(record) else { return false };
        of.state == process_state::RUNNING
            && self.tracer.maps.index_of(of.tgid) == Some(record)
            && !self.pending_code.has_begun_exec(of.tgid, of.started_ns)
    }

    /// Whether `mappings`, which were just read, are of a record's image. An exec's news come before its memory can be
    /// looked at: `begin_new_exec` (fs/exec.c) holds `exec_update_lock`, which `mm_access` (kernel/fork.c) waits for. Where
    /// those were lost, its libraries are not yet mapped, as the kernel's side ends the old record before the program runs.
    fn is_still(&self, record: u32, mappings: &[Mapping]) -> bool {
        self.is_image_still(record) && self.builder.is_of_image(record, mappings)
    }
}
