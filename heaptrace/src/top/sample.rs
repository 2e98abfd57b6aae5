//! What the sources said at one moment.

use super::arm::ProbeCost;
use crate::process::procfs::Identity;
use std::{collections::HashMap, sync::Arc};

/// One refresh.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    pub memory: Memory,
    pub seen: Vec<Seen>,
    /// By PID: what the growth tracepoints have counted.
    pub mapped: HashMap<u32, Mapped>,
    /// By PID: what the probes have counted.
    pub traced: HashMap<u32, Traced>,
}

/// The machine's memory, in bytes (`/proc/meminfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    /// Can be had without swapping.
    pub available: u64,
    pub swap_total: u64,
    pub swap_free: u64,
}

/// What of a process changes rarely.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub uid: u32,
    /// Of the effective user ID; the number, if nobody is called so.
    pub user: String,
    pub comm: String,
    /// The arguments; empty if it has none, or they cannot be read.
    pub command: String,
    /// Version 2's; empty if it is in none.
    pub cgroup: String,
}

/// One process as `/proc` has it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub identity: Identity,
    pub parent: u32,
    pub about: Arc<About>,
    /// Bytes mapped.
    pub virt: u64,
    /// Bytes resident.
    pub res: u64,
    /// Bytes of these that are anonymous: see [`crate::process::statm::Statm::anonymous`].
    pub heap: u64,
    /// Page faults since it began.
    pub faults: u64,
    /// Processor time since it began, in nanoseconds.
    pub cpu_ns: u64,
}

/// What brk, mmap, mremap and munmap did to a process since top began, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    pub brk: i64,
    pub mmap: u64,
    pub munmap: u64,
}

impl Mapped {
    /// More or less than when top began.
    pub fn net(&self) -> i64 {
        self.brk.saturating_add_unsigned(self.mmap).saturating_sub_unsigned(self.munmap)
    }
}

/// What the allocator did in a process since its probes were placed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traced {
    pub live_bytes: u64,
    pub live_blocks: u64,
    /// Where blocks are sampled: between what the truth lies 95 times in 100.
    pub live_interval: Option<(u64, u64)>,
    pub allocs: u64,
    /// Those that a probe was hit for: of samples, more than these; or of an allocator's own samples, what it told.
    pub trapped_allocs: u64,
    /// `None` where frees are not traced.
    pub frees: Option<u64>,
    /// Frees of blocks from before.
    pub unknown_frees: u64,
    /// How long its probes have counted, and the share of its time that this is: less, where a budget has them taken away.
    pub attached_ns: u64,
    pub attached_fraction: f64,
    /// What its calls take at the least, if that was measured yet.
    pub cost: Option<ProbeCost>,
    /// The place with the most live bytes, if it is known yet.
    pub top_site: Option<String>,
}

/// What goes above and below the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Of the day, for people.
    pub clock: String,
    pub memory: Memory,
    pub processes: usize,
    /// Left out: they have no memory of their own.
    pub kernel_threads: usize,
    /// Which processes were asked for, if not all.
    pub chosen: Option<String>,
    pub interval_s: f64,
    pub sources: Sources,
    /// What was lost, or could not be had; one sentence each.
    pub notes: Vec<String>,
}

/// What runs in the kernel on our behalf, and what it costs the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// Why brk, mmap and munmap are not counted; `None` if they are.
    pub no_growth: Option<String>,
    /// What the growth tracepoints add to every system call of the machine, in nanoseconds, as measured in our own
    /// process.
    pub syscall_ns: Option<f64>,
    /// Memory of the kernel's tables for growth, in bytes.
    pub growth_bytes: u64,
    /// Processes with probes, and how many of them have a row.
    pub traced: usize,
    pub traced_shown: usize,
    /// Everything is traced (`--all`).
    pub all: bool,
    /// As `--trace` has it.
    pub mode: &'static str,
    /// What of the traced processes' numbers is not exact, in words.
    pub how: Option<String>,
    /// Frees are not traced: there may be fewer live bytes.
    pub live_is_bound: bool,
    /// Allocations and frees a second, of all traced processes.
    pub events_per_s: f64,
    /// The least that their traps take, in processors (1.0: one of them).
    pub processors: Option<f64>,
    /// Memory of the kernel's tables for tracing, in bytes.
    pub table_bytes: u64,
}
