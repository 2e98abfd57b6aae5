//! Processor time of the traced processes, of which tracing takes its share.

use crate::model::ProcessId;
use std::collections::{HashMap, HashSet, VecDeque};

/// Drains that are kept.
const RECENT: usize = 10;

/// How many drains it takes until that of all is read.
const ROUND: u32 = 10;

/// See the module.
#[derive(Default)]
pub struct CpuTimes {
    of: HashMap<ProcessId, CpuTime>,
    hits: u64,
    drains: u32,
    /// Hits of all processes' probes, and nanoseconds of processor time, from one drain to the next, the last at the end.
    recent: VecDeque<(u64, u64)>,
}

struct CpuTime {
    /// What it had taken when it became a target.
    before_ns: u64,
    now_ns: u64,
    /// At the last drain.
    drained_ns: u64,
    /// Hits of its probes, when that was read.
    hits: u64,
}

impl CpuTime {
    fn since(&self) -> u64 {
        self.now_ns - self.before_ns
    }
}

impl CpuTimes {
    /// Hits of all processes' probes, and nanoseconds of processor time, of the last drains: short times are too coarse.
    pub fn recent(&self) -> (u64, u64) {
        self.recent.iter().fold((0, 0), |(hits, ns), (more_hits, more_ns)| (hits + more_hits, ns + more_ns))
    }

    /// Hits since the drain before the last one.
    pub fn last_hits(&self) -> u64 {
        self.recent.back().map_or(0, |(hits, _)| *hits)
    }

    /// Whether it is to be read again: its probes were hit since.
    pub fn is_due(&self, process: ProcessId, hits: u64) -> bool {
        self.of.get(&process).is_none_or(|cpu| cpu.hits != hits)
    }

    /// Whether it is a process's turn to be read, whether its probes were hit or not.
    pub fn is_turn(&self, pid: u32) -> bool {
        pid % ROUND == self.drains % ROUND
    }

    /// All are read that were to be: those that run are kept. `hits` are those of all processes' probes by now.
    pub fn drained(&mut self, running: &HashSet<ProcessId>, hits: u64) {
        self.drains = self.drains.wrapping_add(1);
        self.of.retain(|process, _| running.contains(process));
        let new =
            self.of.values_mut().map(|cpu| cpu.now_ns - std::mem::replace(&mut cpu.drained_ns, cpu.now_ns));
        let hits_before = std::mem::replace(&mut self.hits, hits);
        let new = (hits.saturating_sub(hits_before), new.sum());
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(new);
    }

    /// A process has taken so much by now. Gives what that is since it became a target, which one that was `born` as a target
    /// has been all along.
    pub fn take(&mut self, process: ProcessId, now_ns: u64, born: bool, hits: u64) -> u64 {
        let before_ns = if born { 0 } else { now_ns };
        let new = CpuTime { before_ns, now_ns, drained_ns: before_ns, hits };
        let cpu = self.of.entry(process).or_insert(new);
        cpu.hits = hits;
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
        assert_eq!((times.take(found, 500, false, 0), times.take(born, 500, true, 0)), (0, 500));
        assert_eq!((times.take(found, 800, false, 3), times.take(born, 400, true, 0)), (300, 500));
        assert!(times.is_due(found, 4) && !times.is_due(found, 3) && times.is_due(ProcessId(3), 0));
    }

    #[test]
    fn a_drains_time_is_since_the_last_drain_however_often_it_is_read_between() {
        let (process, running) = (ProcessId(1), HashSet::from([ProcessId(1)]));
        let mut times = CpuTimes::default();
        times.take(process, 500, false, 0);
        times.drained(&running, 10);
        for now_ns in [600, 700, 800] {
            times.take(process, now_ns, false, 0);
        }
        times.drained(&running, 25);
        assert_eq!((times.recent(), times.last_hits()), ((25, 300), 15));
        for _ in 0..RECENT {
            times.drained(&HashSet::new(), 25);
        }
        assert_eq!((times.recent(), times.of.len()), ((0, 0), 0));
    }
}
