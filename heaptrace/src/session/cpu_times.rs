//! Processor time of the traced processes, of which tracing takes its share.

use crate::model::ProcessId;
use std::collections::{HashMap, HashSet};

/// See the module.
#[derive(Default)]
pub struct CpuTimes {
    of: HashMap<ProcessId, CpuTime>,
    hits: u64,
    /// Of all, when they were last begun to be read.
    before_ns: u64,
    last_second: (u64, u64),
}

struct CpuTime {
    /// What it had taken when it became a target.
    before_ns: u64,
    now_ns: u64,
}

impl CpuTime {
    fn since(&self) -> u64 {
        self.now_ns - self.before_ns
    }
}

impl CpuTimes {
    /// Hits of all processes' probes, and nanoseconds of processor time, between the last two drains.
    pub fn last_second(&self) -> (u64, u64) {
        self.last_second
    }

    /// Those that run are read anew.
    pub fn begin(&mut self, running: &HashSet<ProcessId>) {
        self.of.retain(|process, _| running.contains(process));
        self.before_ns = self.sum();
    }

    /// They are read; `hits` are those of all processes' probes by now.
    pub fn end(&mut self, hits: u64) {
        let hits_before = std::mem::replace(&mut self.hits, hits);
        self.last_second = (hits.saturating_sub(hits_before), self.sum().saturating_sub(self.before_ns));
    }

    fn sum(&self) -> u64 {
        self.of.values().map(CpuTime::since).sum()
    }

    /// A process has taken so much by now. Gives what that is since it became a target, which one that was `born` as a target
    /// has been all along.
    pub fn take(&mut self, process: ProcessId, now_ns: u64, born: bool) -> u64 {
        let before_ns = if born { 0 } else { now_ns };
        let cpu = self.of.entry(process).or_insert(CpuTime { before_ns, now_ns });
        // It is rounded, and never falls.
        cpu.now_ns = cpu.now_ns.max(now_ns);
        cpu.since()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_a_process_became_a_target_is_not_counted() {
        let (found, born) = (ProcessId(1), ProcessId(2));
        let mut times = CpuTimes::default();
        assert_eq!((times.take(found, 500, false), times.take(born, 500, true)), (0, 500));
        assert_eq!((times.take(found, 800, false), times.take(born, 400, true)), (300, 500));
        assert_eq!(times.sum(), 800);
    }
}
