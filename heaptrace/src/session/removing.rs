//! Letting go of processes that run on.

use super::{Session, monotonic_ns};
use crate::bpf::MapError;
use heaptrace_common::record::process_state;

impl Session {
    /// Takes the probes of a process away, and those of children that were followed from it: what they did until now
    /// stays in the profile, as that of processes that are not looked at any more. Gives the PIDs that were let go of;
    /// none if the process was no target, or if probes are not placed by process.
    ///
    /// # Errors
    /// If the kernel side cannot be told.
    pub fn remove_pid(&mut self, pid: u32) -> Result<Vec<u32>, MapError> {
        let Some(record) = self.tracer.maps.index_of(pid).filter(|_| self.per_process) else {
            return Ok(Vec::new());
        };
        let mut removed = Vec::new();
        // Again until nothing is left: until a process was let go of, its children were followed.
        loop {
            self.builder.read_processes(&mut self.tracer.maps);
            let family = self.builder.family(record);
            let running: Vec<(u32, u32)> =
                self.builder.running().filter(|(record, _)| family.contains(record)).collect();
            if running.is_empty() {
                break;
            }
            for (record, pid) in running {
                self.tracer.maps.leave_out(record, monotonic_ns());
                self.tracer.maps.clear_index(pid)?;
                self.forget_code(record);
                removed.push(pid);
            }
        }
        let links = removed.iter().flat_map(|pid| self.unprobe(*pid)).collect();
        // At once, and not before it is done: nothing is to be said to be away that is there.
        self.tracer.release(links);
        self.detaching.wait_for_running();
        self.builder.read_processes(&mut self.tracer.maps);
        Ok(removed)
    }

    /// Whether a record's process runs on without being looked at.
    pub(super) fn is_left_out(&self, record: u32) -> bool {
        self.builder.record(record).is_some_and(|record| record.state == process_state::LEFT_OUT)
    }
}
