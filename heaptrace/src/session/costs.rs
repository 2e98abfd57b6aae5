//! What tracing costs is looked at, and of what.

use super::Session;
use crate::{model::ProcessId, process::procfs};
use std::collections::HashSet;

impl Session {
    /// What cannot wait for a drain. Ten times a second.
    pub(super) fn look_at_cost(&mut self) {
        if self.probes && !self.counting.is_over() {
            self.overhead.look(&self.tracer);
        }
    }

    /// What fraction of the traced processes' processor time tracing took in the last second, if that is known.
    pub fn recent_overhead(&self) -> Option<f64> {
        let hit_ns = self.overhead.hit_ns()?;
        let (hits, cpu_ns) = self.cpu_times.last_second();
        (cpu_ns > 0).then(|| hits as f64 * hit_ns / cpu_ns as f64)
    }

    /// Reads the processor time of all processes that run. For once a second.
    pub(super) fn read_cpu_times(&mut self) {
        if !self.probes {
            return;
        }
        let running: Vec<(u32, u32)> = self.builder.running().collect();
        let there = running.iter().filter_map(|(record, _)| self.builder.process_of(*record));
        self.cpu_times.begin(&there.collect::<HashSet<ProcessId>>());
        for (record, pid) in running {
            self.read_cpu_time(record, pid);
        }
        self.cpu_times.end(self.builder.hits());
    }

    /// Of one process, since it became a target.
    pub(super) fn read_cpu_time(&mut self, record: u32, pid: u32) -> Option<u64> {
        let process = self.builder.process_of(record)?;
        let ticks = procfs::read_stat(pid).ok()?.cpu_ticks;
        let now_ns = ticks.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1));
        let model = self.builder.process_mut(record)?;
        let cpu_ns = self.cpu_times.take(process, now_ns, model.parent_pid.is_some());
        model.cpu_ns = Some(cpu_ns);
        Some(cpu_ns)
    }
}
