//! What holds the breakpoints of processes whose first thread is gone.

use std::collections::HashMap;

/// How the probes of a process without its first thread are kept.
pub(super) enum Kept {
    /// Held for these threads, until this is dropped.
    Held { threads: Vec<u32>, probes: Vec<Box<dyn Send>> },
    /// Placed by way of this one.
    PlacedBy(u32),
}

/// See the module.
#[derive(Default)]
pub struct Leaderless {
    pub(super) by_pid: HashMap<u32, Kept>,
    /// When they were last looked at.
    pub(super) looked_ns: u64,
}

impl Leaderless {
    /// Whether a process's first thread is gone.
    pub fn contains(&self, pid: u32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Forgets a process; gives the probes by which its breakpoints were held.
    pub(super) fn remove(&mut self, pid: u32) -> Vec<Box<dyn Send>> {
        match self.by_pid.remove(&pid) {
            Some(Kept::Held { probes, .. }) => probes,
            _ => Vec::new(),
        }
    }

    /// Forgets all, and lets go of what is held.
    pub fn clear(&mut self) {
        self.by_pid.clear();
    }
}
