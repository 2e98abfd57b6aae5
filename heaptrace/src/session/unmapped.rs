//! Looks for live blocks whose memory is not mapped any more, while their frees would still be seen.

use super::{Session, monotonic_ns};
use crate::process::{maps::Mapping, procfs};
use heaptrace_common::record::process_state;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// What a look takes at most, but for its last process: it is time in which forks are not followed.
const AT_MOST: Duration = Duration::from_secs(2);

impl Session {
    /// See the module. For whenever blocks are about to be read; the last time before [`Session::detach`].
    pub fn look_for_unmapped(&mut self) {
        if !self.probes || self.counting.is_over() {
            return;
        }
        let began = Instant::now();
        self.builder.read_processes(&self.tracer.maps);
        let holds = |record: &u32| self.builder.record(*record).is_some_and(|record| record.live_count > 0);
        let records: Vec<u32> = self.builder.running().map(|(record, _)| record).filter(holds).collect();
        let since_ns = monotonic_ns();
        let first = self.mappings_of(records, began);
        let suspects = match self.builder.suspects(&self.tracer.maps, &first, since_ns) {
            Ok(suspects) => suspects,
            Err(error) => return self.note(format!("live blocks could not be read: {error}")),
        };
        let again = self.mappings_of(suspects.records().collect(), began);
        self.builder.convict(&suspects, &again);
    }

    /// Finds which blocks are over although no free was seen; call [`Session::drain`] first.
    pub(super) fn judge_blocks(&mut self) {
        if let Err(error) = self.builder.judge_blocks(&self.tracer.maps) {
            self.note(format!("blocks that ended without a free could not be looked for: {error}"));
        }
    }

    /// The mappings of each record's process, if they are those of its image. Of whom they are missing, all blocks stay
    /// live: that it is gone, or replaces its image, is no loss.
    fn mappings_of(&mut self, records: Vec<u32>, began: Instant) -> HashMap<u32, Vec<Mapping>> {
        let mut read = HashMap::new();
        let mut left = 0;
        for record in records {
            let Some(pid) = self.builder.record(record).map(|record| record.tgid) else { continue };
            if began.elapsed() > AT_MOST {
                left += 1;
                continue;
            }
            match procfs::read_whole_maps(pid) {
                Ok(Some(mappings)) => _ = read.insert(record, mappings),
                Ok(None) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => self.note(format!("unmapped blocks of process {pid} count as live: {error}")),
            }
        }
        if left > 0 {
            self.note(format!(
                "the mappings of {left} processes were not looked at, as that took too long: their unmapped blocks count \
                 as live"
            ));
        }
        // All of what follows is about what was when the mappings were opened.
        self.builder.read_processes(&self.tracer.maps);
        self.take_code_changes();
        read.retain(|record, mappings| self.is_still(*record, mappings));
        read
    }

    /// Whether `mappings`, which were just read, are of a record's image. An exec's news come before its memory can be
    /// looked at: `begin_new_exec` (fs/exec.c) holds `exec_update_lock`, which `mm_access` (kernel/fork.c) waits for. Where
    /// those were lost, its libraries are not yet mapped, as the kernel's side ends the old record before the program runs.
    fn is_still(&self, record: u32, mappings: &[Mapping]) -> bool {
        let Some(of) = self.builder.record(record) else { return false };
        of.state == process_state::RUNNING
            && self.tracer.maps.index_of(of.tgid) == Some(record)
            && !self.pending_code.has_begun_exec(of.tgid, of.started_ns)
            && self.builder.is_of_image(record, mappings)
    }
}
