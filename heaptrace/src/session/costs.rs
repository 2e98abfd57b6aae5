//! What tracing costs is looked at, and of what.

use super::Session;
use crate::{model::ProcessId, process::procfs};
use std::collections::HashSet;

impl Session {
    /// What cannot wait for a drain. Ten times a second.
    pub(super) fn look_at_cost(&mut self) {
        if self.probes && !self.counting.is_over() && self.overhead.is_due(self.cpu_times.last_hits()) {
            self.builder.read_processes(&mut self.tracer.maps);
            self.overhead.look(&self.tracer, self.builder.hits());
        }
    }

    /// What a hit of a probe takes at least, if that was measured by now.
    pub fn trap_ns(&mut self) -> Option<f64> {
        self.overhead.trap_ns()
    }

    /// What fraction of the traced processes' processor time tracing took in the last ten seconds, if that is known.
    pub fn recent_overhead(&self) -> Option<f64> {
        let hit_ns = self.overhead.price()?.ns() as f64;
        let (hits, cpu_ns) = self.cpu_times.recent();
        (cpu_ns > 0).then(|| hits as f64 * hit_ns / cpu_ns as f64)
    }

    /// Reads the processor time of processes that run. For once a second.
    pub(super) fn read_cpu_times(&mut self) {
        if !self.probes {
            return;
        }
        let running: Vec<(u32, u32)> = self.builder.running().collect();
        let mut there = HashSet::new();
        for (record, pid) in running {
            let Some(process) = self.builder.process_of(record) else { continue };
            there.insert(process);
            let hits = self.builder.record(record).map_or(0, |record| record.hits());
            if self.cpu_times.is_due(process, hits) || self.cpu_times.is_turn(pid) {
                self.read_cpu_time(record, pid);
            }
        }
        self.cpu_times.drained(&there, self.builder.hits());
    }

    /// Of all, for the end.
    pub(super) fn read_all_cpu_times(&mut self) {
        let running: Vec<(u32, u32)> = self.builder.running().filter(|_| self.probes).collect();
        for (record, pid) in running {
            self.read_cpu_time(record, pid);
        }
    }

    /// Of one process, since it became a target.
    pub(super) fn read_cpu_time(&mut self, record: u32, pid: u32) -> Option<u64> {
        let process: ProcessId = self.builder.process_of(record)?;
        let now_ns = procfs::ticks_ns(procfs::read_stat(pid).ok()?.cpu_ticks);
        let hits = self.builder.record(record).map_or(0, |record| record.hits());
        let born = !self.builder.is_found(process);
        let cpu_ns = self.cpu_times.take(process, now_ns, born, hits);
        self.builder.process_mut(record)?.cpu_ns = Some(cpu_ns);
        Some(cpu_ns)
    }
}
