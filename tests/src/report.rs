//! The JSON report, schema 1, as far as tests look at it. A field that is missing is a failure.

use crate::ledger::Figures;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub mode: String,
    pub duration_s: f64,
    pub coverage: Coverage,
    pub processes: Vec<Process>,
    pub sites: Vec<Site>,
    /// Frees were not traced: what is live is at most that.
    pub live_is_bound: bool,
}

#[derive(Debug, Deserialize)]
pub struct Coverage {
    pub events: u64,
    pub lost: BTreeMap<String, u64>,
    pub unknown_frees: u64,
    pub missed_returns: u64,
    pub unpaired_returns: u64,
    pub nested_calls: u64,
    /// Of all processes' lives, how much all their probes were there for.
    pub attached_fraction: f64,
    pub stacks: Stacks,
    pub untraceable: Vec<Untraceable>,
    /// What was done otherwise than usual, in words.
    pub notes: Vec<String>,
    /// False for a file whose recorder did not finish, or that is damaged.
    pub finished: bool,
    /// What tracing cost; none where that was not measured.
    pub overhead: Option<Overhead>,
}

/// Hits of probes, and what they took.
#[derive(Debug, Deserialize)]
pub struct Overhead {
    pub hits: u64,
    pub trap_ns: u64,
    pub program_ns: u64,
    pub seconds: f64,
}

impl Coverage {
    /// The notes of functions whose calls were not as their code says.
    pub fn distrusted(&self) -> Vec<&String> {
        self.notes.iter().filter(|note| note.contains("not to be trusted")).collect()
    }
}

/// Allocations by how their stack's walk ended.
#[derive(Debug, Deserialize)]
pub struct Stacks {
    pub complete: u64,
    pub truncated: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
pub struct Untraceable {
    pub pid: u32,
    pub reason: String,
}

#[derive(Debug, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub comm: String,
    pub exe: String,
    pub live_bytes: u64,
    pub live_count: u64,
    pub peak_live_bytes: u64,
    pub alloc_bytes: u64,
    pub alloc_count: u64,
    pub free_bytes: u64,
    pub free_count: u64,
    pub brk_bytes: i64,
    pub mmap_bytes: u64,
    pub munmap_bytes: u64,
    pub rss_bytes: u64,
    pub failed_count: u64,
    pub unknown_frees: u64,
    pub missed_frees: u64,
    pub heaps_ended: u64,
    pub unseen_calls: u64,
    pub allocators: Vec<Allocator>,
    pub inherited_free_count: u64,
    pub lost_bytes: u64,
    pub lost_count: u64,
    pub filtered_bytes: u64,
    pub filtered_count: u64,
    pub exited: bool,
    pub parent_pid: Option<u32>,
    pub inherited_count: u64,
    pub attach_gap_s: Option<f64>,
    pub attached_fraction: f64,
    pub paused_s: f64,
    pub gone_bytes: u64,
    pub gone_count: u64,
    pub estimate: Option<Estimate>,
}

/// An allocator that was probed.
#[derive(Debug, Deserialize)]
pub struct Allocator {
    pub kind: String,
    pub path: String,
}

/// Where blocks are sampled: samples, and between what the truth lies, 95 times in 100.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Estimate {
    pub samples: u64,
    pub live_bytes: (u64, u64),
    pub live_count: (u64, u64),
    pub alloc_bytes: (u64, u64),
    pub alloc_count: (u64, u64),
    /// Of processes: all that was allocated, sampled or not.
    pub seen_bytes: Option<u64>,
    pub seen_count: Option<u64>,
    /// Bytes from one sample to the next, where the allocator chose them.
    pub own_sample_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct Site {
    pub pid: u32,
    pub function: String,
    /// 0 of growth and faults, of which it is not known; so with what was freed.
    #[serde(deserialize_with = "or_none")]
    pub live_bytes: u64,
    #[serde(deserialize_with = "or_none")]
    pub live_count: u64,
    pub alloc_bytes: u64,
    pub alloc_count: u64,
    #[serde(deserialize_with = "or_none")]
    pub free_bytes: u64,
    #[serde(deserialize_with = "or_none")]
    pub free_count: u64,
    pub gone_bytes: u64,
    pub gone_count: u64,
    /// Blocks by size: least, most, how many.
    pub sizes: Vec<(u64, Option<u64>, u64)>,
    pub estimate: Option<Estimate>,
    pub stack_end: String,
    pub stack: Vec<Frame>,
    /// Where threads are told apart.
    pub thread: Option<Thread>,
    /// Where that was counted: how long freed blocks lived, from and to in seconds, and how many.
    pub lifetimes: Option<Vec<(f64, Option<f64>, u64)>>,
}

/// A thread, by the name that it had.
#[derive(Debug, Deserialize)]
pub struct Thread {
    pub tid: u32,
    pub name: String,
}

fn or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[derive(Debug, Deserialize)]
pub struct Frame {
    pub module: Option<String>,
    /// In the file.
    pub offset: Option<u64>,
    pub symbol: Option<String>,
    #[serde(default)]
    pub inlined: bool,
}

impl Report {
    /// The only process with this PID.
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// The sites of one process.
    pub fn sites_of(&self, pid: u32) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(move |site| site.pid == pid)
    }
}

impl Process {
    pub fn figures(&self) -> Figures {
        let Self { alloc_bytes, alloc_count, free_bytes, free_count, live_bytes, live_count, .. } = *self;
        Figures { alloc_bytes, alloc_count, free_bytes, free_count, live_bytes, live_count }
    }
}

impl Site {
    /// The frames of the direct caller of the allocation function: those inlined into it, and itself.
    pub fn caller(&self) -> &[Frame] {
        let end = self.stack.iter().position(|frame| !frame.inlined).map_or(self.stack.len(), |i| i + 1);
        &self.stack[..end]
    }

    /// The module of the direct caller.
    pub fn module(&self) -> &str {
        self.stack.first().and_then(|frame| frame.module.as_deref()).unwrap_or("")
    }
}
