//! What tracing may cost, and what was read of processes that may not cost more.

use crate::{
    budget::{Growing, Reading, Schedule},
    model::{Note, ProcessId},
};
use std::collections::HashMap;

/// What tracing may cost, and of whom.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Of the processor time of what is traced.
    pub share: Option<f64>,
    /// Only processes that grow so fast are probed.
    pub growing: Option<Growing>,
}

/// See the module.
pub struct Budgeting {
    pub schedule: Schedule<ProcessId>,
    pub limits: Limits,
    pub seen: HashMap<ProcessId, Seen>,
    pub looks: u32,
}

/// What was read last of a process.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    pub hits: u64,
    pub cpu_ns: u64,
    /// `None` until it was read.
    pub bytes: Option<u64>,
}

impl Seen {
    /// Of a process whose probes are in place, if they are.
    pub fn reading(&self, process: ProcessId, is_on: bool) -> Reading<ProcessId> {
        let Self { hits, cpu_ns, bytes } = *self;
        Reading { process, hits, cpu_ns, bytes, is_on }
    }
}

impl Limits {
    /// Whether there are any.
    pub fn is_any(self) -> bool {
        self.share.is_some() || self.growing.is_some()
    }

    /// What reports say of them.
    pub fn notes(self) -> impl Iterator<Item = Note> {
        let budget = self.share.map(|share| Note::Budget { per_million: (share * 1e6).round() as u64 });
        let growing = self
            .growing
            .map(|growing| Note::WhenGrowing { bytes: growing.bytes, within_ns: growing.within_ns() });
        budget.into_iter().chain(growing)
    }
}

impl Budgeting {
    /// `None` where there are no limits.
    pub fn new(limits: Limits) -> Option<Self> {
        let Limits { share, growing } = limits;
        limits.is_any().then(|| Self {
            schedule: Schedule::new(share, growing),
            limits,
            seen: HashMap::new(),
            looks: 0,
        })
    }

    /// Whether targets that are new wait.
    pub fn pauses_new(&self) -> bool {
        !self.schedule.takes_new()
    }
}
