//! The immutable result of a recording.

use super::{
    BuildId, Cohorts, Counts, FrameId, Frees, History, LifetimeHistogram, LocationId, ModuleId, Notes, Part,
    ProcessId, Residency, SiteId, SizeHistogram, StackId, Sums, ThreadId,
};
use heaptrace_common::{function::Function, stack::StackEnd};
use std::collections::BTreeMap;

/// Everything a report is made of. Tables are interned and refer to each other by index; nothing here is
/// computed twice, and nothing changes once it is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Version of the heaptrace that recorded it.
    pub heaptrace: String,
    pub host: Host,
    /// Start of tracing, nanoseconds since the Unix epoch.
    pub started_ns: i64,
    pub duration_ns: u64,
    pub mode: Mode,
    /// Sites are told apart by thread.
    pub by_thread: bool,
    /// How long blocks lived was counted.
    pub has_lifetimes: bool,
    pub coverage: Coverage,
    pub modules: Vec<Module>,
    pub locations: Vec<Location>,
    /// Symbols of each location, innermost inlined function first, the enclosing function last; an empty list
    /// means that none was found. As long as `locations`, or shorter where nothing was symbolized yet.
    pub symbols: Vec<Vec<Symbol>>,
    pub frames: Vec<Frame>,
    pub stacks: Vec<Stack>,
    /// Those that sites are of.
    pub threads: Vec<Thread>,
    pub processes: Vec<Process>,
    pub sites: Vec<Site>,
    /// Where the process's memory grew (brk, mmap, mremap): `totals.alloc_*` only. Another view of the same memory,
    /// not to be added to `sites`.
    pub growth: Vec<Site>,
    /// The last measurement of each process's memory; none of processes that were never measured.
    pub residency: BTreeMap<ProcessId, Residency>,
    /// How blocks of sites came and stayed, of those that have most live in the end; of none before the end.
    pub cohorts: BTreeMap<SiteId, Cohorts>,
    /// Where they were looked into; in the end.
    pub frees: Option<Box<Frees>>,
    /// How it came about, where that was looked at.
    pub history: Option<History>,
    /// What of a recording it is, where that is not all.
    pub part: Option<Part>,
    /// Totals are without what was there before, or what somebody wants to ignore; what was measured is whole.
    pub is_reduced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
}

/// What of the processes' memory was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every block, from its allocation to its free.
    Exact,
    /// Every block, until its address is handed out again: no free.
    Allocs,
    /// Blocks chosen by chance.
    Sampled(Sampling),
    /// Blocks that the processes' allocators chose by chance themselves, and their frees.
    Native,
    /// No block: calls that map memory.
    Growth,
    /// The same, and page faults.
    Faults,
}

/// How far apart samples lie where allocators choose them, if nobody said otherwise.
const NATIVE_UNIT: u64 = 512 << 10;

/// How blocks are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Bytes from one sample to the next, on average.
    pub mean: u64,
    /// Frees are seen.
    pub frees: bool,
}

impl Mode {
    /// Bytes from one sample to the next, on average; 0 where every block is recorded. Where allocators choose, what variances are
    /// in units of: [`Process::own_sample_bytes`] says how far their samples lie apart.
    pub const fn sample_bytes(self) -> u64 {
        match self {
            Self::Sampled(sampling) => sampling.mean,
            Self::Native => NATIVE_UNIT,
            Self::Exact | Self::Allocs | Self::Growth | Self::Faults => 0,
        }
    }

    /// Whether allocation functions were probed.
    pub const fn has_blocks(self) -> bool {
        !matches!(self, Self::Growth | Self::Faults)
    }

    /// Whether a block that is over is known to be: else it may be so long before its address is handed out again.
    pub const fn has_frees(self) -> bool {
        matches!(self, Self::Exact | Self::Native | Self::Sampled(Sampling { frees: true, .. }))
    }

    /// Whether blocks are live as far as anybody saw: there may be fewer.
    pub const fn ends_unseen(self) -> bool {
        self.has_blocks() && !self.has_frees()
    }

    /// As `--trace` and the JSON have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Allocs => "allocs",
            Self::Sampled(_) => "sampled",
            Self::Native => "native",
            Self::Growth => "growth",
            Self::Faults => "faults",
        }
    }
}

/// A file that code was mapped from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// As the process sees it (without the kernel's " (deleted)").
    pub path: String,
    pub build_id: Option<BuildId>,
}

/// A place in code, to be symbolized once. Addresses are return addresses: the call is at `offset - 1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// `offset` is the file offset (perf's and the kernel's measure), not the ELF virtual address.
    InModule { module: ModuleId, offset: u64 },
    /// Executable memory with no file behind it: JIT code, looked up in `/tmp/perf-PID.map`.
    Anonymous { process: ProcessId, address: u64 },
    /// In no known mapping.
    Unmapped { process: ProcessId, address: u64 },
}

/// One function at a location.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Demangled.
    pub name: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Whether the compiler inlined this function into the next of the list.
    pub inlined: bool,
}

/// One frame of a stack: where, and at which address in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    pub address: u64,
    pub location: LocationId,
}

/// A call stack, innermost first, from the caller of the allocation function outwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    pub frames: Vec<FrameId>,
    pub end: StackEnd,
}

/// A thread of some process, while it had this name: one that is given another is another from there on. An ID that was given out
/// again, with the same name, is not told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    pub tid: u32,
    /// At the time of its calls.
    pub name: String,
}

/// Bytes and counts of blocks. Sizes are what the program asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub alloc_bytes: u64,
    pub alloc_count: u64,
    pub free_bytes: u64,
    pub free_count: u64,
    /// Blocks that an exec took away with the process image.
    pub released_bytes: u64,
    pub released_count: u64,
    /// Blocks that are over although no free was seen: their memory was unmapped, or a newer block lies over them.
    pub gone_bytes: u64,
    pub gone_count: u64,
}

impl Totals {
    /// Outstanding bytes: allocated, neither freed nor released by exec, nor gone.
    pub fn live_bytes(&self) -> u64 {
        let over = [self.free_bytes, self.released_bytes, self.gone_bytes];
        over.into_iter().fold(self.alloc_bytes, u64::saturating_sub)
    }

    /// Outstanding blocks.
    pub fn live_count(&self) -> u64 {
        let over = [self.free_count, self.released_count, self.gone_count];
        over.into_iter().fold(self.alloc_count, u64::saturating_sub)
    }

    /// Adds `other`; a sum that no counter can hold stays at the largest.
    pub fn add(&mut self, other: &Self) {
        self.change(other, u64::saturating_add);
    }

    /// Takes `other` away; of what has less, nothing is left.
    pub fn subtract(&mut self, other: &Self) {
        self.change(other, u64::saturating_sub);
    }

    fn change(&mut self, other: &Self, by: fn(u64, u64) -> u64) {
        let Self {
            alloc_bytes,
            alloc_count,
            free_bytes,
            free_count,
            released_bytes,
            released_count,
            gone_bytes,
            gone_count,
        } = *other;
        self.alloc_bytes = by(self.alloc_bytes, alloc_bytes);
        self.alloc_count = by(self.alloc_count, alloc_count);
        self.free_bytes = by(self.free_bytes, free_bytes);
        self.free_count = by(self.free_count, free_count);
        self.released_bytes = by(self.released_bytes, released_bytes);
        self.released_count = by(self.released_count, released_count);
        self.gone_bytes = by(self.gone_bytes, gone_bytes);
        self.gone_count = by(self.gone_count, gone_count);
    }
}

/// One allocation site: a process, the function called, and the stack it was called from; and the thread, where sites are told
/// apart by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub process: ProcessId,
    pub stack: StackId,
    pub function: Function,
    pub totals: Totals,
    /// Age of the oldest live block when the recording was last drained.
    pub oldest_age_ns: Option<u64>,
    /// Of its samples, where blocks are sampled.
    pub sizes: SizeHistogram,
    /// What `totals` are estimated from, where blocks are sampled.
    pub samples: Option<Box<Samples>>,
    /// `None` also for what found no room among the sites.
    pub thread: Option<ThreadId>,
    /// Of the blocks that were freed; of its samples, where blocks are sampled.
    pub lifetimes: LifetimeHistogram,
}

/// The samples of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    pub allocated: Sums,
    pub freed: Sums,
    /// Those that ended without a free: with an exec, or as in [`Totals::gone_bytes`].
    pub gone: Sums,
}

impl Samples {
    /// Those that are live.
    pub fn live(&self) -> Sums {
        self.allocated.without(self.freed).without(self.gone)
    }
}

/// An allocator that probes were placed in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AllocatorInfo {
    /// `glibc`, `musl`, `jemalloc`, `tcmalloc`, `mimalloc`, or `unknown`.
    pub kind: String,
    pub path: String,
}

/// One process, by PID and start time; its images before and after an exec are one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent_pid: Option<u32>,
    pub comm: String,
    pub exe: String,
    pub allocators: Vec<AllocatorInfo>,
    pub totals: Totals,
    pub peak_live_bytes: u64,
    /// Calls that returned no memory.
    pub failed_count: u64,
    /// Frees of blocks that were never seen allocated: a lower bound of what was there before tracing.
    pub unknown_frees: u64,
    /// Blocks whose address was handed out again although no free was seen.
    pub missed_frees: u64,
    /// Calls that ended a heap with all its blocks: those that were not freed one by one count as live until their addresses
    /// are handed out again, or their memory is given back.
    pub heaps_ended: u64,
    /// Calls that gave blocks of which nothing is known; these are in no total.
    pub unseen_calls: u64,
    /// Blocks live in the parent at fork, which the child has too; not in `totals`.
    pub inherited_bytes: u64,
    pub inherited_count: u64,
    /// Inherited blocks that this process freed.
    pub inherited_free_count: u64,
    /// Blocks that found no room in the live map; in no total.
    pub lost_bytes: u64,
    pub lost_count: u64,
    /// Blocks of a size that was not asked for; in no total.
    pub filtered_bytes: u64,
    pub filtered_count: u64,
    /// Where blocks are sampled: all that were allocated, sampled or not.
    pub seen_bytes: u64,
    pub seen_count: u64,
    /// Where its allocator chose the samples itself: bytes from one to the next on average, as far as they tell. Else 0.
    pub own_sample_bytes: u64,
    /// Hits of its probes.
    pub hits: u64,
    /// Processor time that it took while it was a target, what tracing took among it, as far as it was read.
    pub cpu_ns: Option<u64>,
    /// Net growth of the program break.
    pub brk_bytes: i64,
    /// Bytes mapped and unmapped, page-rounded.
    pub mmap_bytes: u64,
    pub munmap_bytes: u64,
    /// Resident set size when last read; 0 where it never was.
    pub rss_bytes: u64,
    pub exited: bool,
    /// It has ended, or is not looked at any more: it does not live on in later chunks that do not name it.
    pub over: bool,
    /// From the process's first moment until all its probes counted. `None` if that is no time, and for processes that
    /// ran before they became targets: their first moment is when they did.
    pub attach_gap_ns: Option<u64>,
    /// From its first moment until its end, or that of tracing; and how much of that all its probes counted.
    pub life_ns: u64,
    pub attached_ns: u64,
    /// How much of it the probes were away on purpose: to keep to a budget, or as it did not grow.
    pub paused_ns: u64,
    /// They are by now.
    pub paused: bool,
}

/// Kinds of allocators that are known by the samples that they tell of: the providers of their probes, the one that goes before
/// the others first.
pub const OWN_SAMPLES: [&str; 2] = ["otel_memory", "ddheap"];

impl Process {
    /// Whether its allocator chose the samples, in a recording of this mode.
    pub fn chooses_samples(&self, mode: Mode) -> bool {
        let tells = |allocator: &AllocatorInfo| OWN_SAMPLES.contains(&allocator.kind.as_str());
        mode == Mode::Native || self.own_sample_bytes != 0 || self.allocators.iter().any(tells)
    }
}

/// A process that was to be traced and was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraceable {
    pub pid: u32,
    pub comm: String,
    pub reason: String,
}

/// Sizes of blocks that count, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeFilter {
    pub min: u64,
    pub max: u64,
}

/// What a hit of a probe costs on average, on the machine that traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitPrice {
    /// The trap into the kernel and back.
    pub trap_ns: u64,
    /// What the BPF program does.
    pub program_ns: u64,
}

impl HitPrice {
    pub fn ns(self) -> u64 {
        self.trap_ns.saturating_add(self.program_ns)
    }
}

/// What tracing cost traced processes, by their hits and what one costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overhead {
    pub hits: u64,
    pub ns: u64,
    /// The same of the processes whose processor time was read, and that time, which this is part of.
    known_ns: u64,
    pub cpu_ns: u64,
}

impl Overhead {
    /// How much of the processor time it was, of those of whom that is known. All of it at most: what a hit costs is a mean, and
    /// the time of a program that ran for a few milliseconds was read before its end.
    pub fn fraction(self) -> Option<f64> {
        (self.cpu_ns > 0).then(|| (self.known_ns as f64 / self.cpu_ns as f64).min(1.0))
    }
}

/// What the numbers do and do not cover. Printed at the end of every report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Allocations and frees that were accounted.
    pub events: u64,
    /// What was lost, and what was set aside.
    pub counts: Counts,
    pub unknown_frees: u64,
    /// At most [`super::Cases::KEPT`]; the others are [`super::Note::LeftOut`].
    pub untraceable: Vec<Untraceable>,
    /// Which sizes were asked for, if not all.
    pub size_filter: Option<SizeFilter>,
    /// What a hit of a probe costs, where that was measured.
    pub hit_price: Option<HitPrice>,
    /// False for a file whose recorder did not finish.
    pub finished: bool,
    /// Things worth saying that no counter holds, e.g. a fallback that was taken.
    pub notes: Notes,
}

impl Process {
    /// How much of its life was not traced, or not by all its probes, after its beginning.
    pub fn missed_later_ns(&self) -> u64 {
        let rest_ns = self.life_ns.saturating_sub(self.attached_ns).saturating_sub(self.paused_ns);
        rest_ns.saturating_sub(self.attach_gap_ns.unwrap_or_default())
    }

    /// Lets time pass in which nothing else of it changes: it lives on, and as attended as before.
    pub fn live_on(&mut self, passed_ns: u64) {
        if !self.exited && !self.over {
            self.life_ns = self.life_ns.saturating_add(passed_ns);
            if self.paused {
                self.paused_ns = self.paused_ns.saturating_add(passed_ns);
            } else if self.attached_ns > 0 {
                self.attached_ns = self.attached_ns.saturating_add(passed_ns);
            } else {
                self.attach_gap_ns = self.attach_gap_ns.map(|gap_ns| gap_ns.saturating_add(passed_ns));
            }
        }
    }

    /// The share of its life in which all its probes counted.
    pub fn attached_fraction(&self) -> f64 {
        fraction(self.attached_ns, self.life_ns)
    }
}

fn fraction(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part.min(whole) as f64 / whole as f64 }
}

impl Profile {
    /// When what it is of began, in nanoseconds since the Unix epoch, and how long it is.
    pub fn time(&self) -> (i64, u64) {
        match self.part.filter(Part::is_span) {
            Some(Part { from_ns, to_ns, .. }) => {
                let began_ns = self.started_ns.saturating_add(i64::try_from(from_ns).unwrap_or(i64::MAX));
                (began_ns, to_ns.saturating_sub(from_ns))
            }
            None => (self.started_ns, self.duration_ns),
        }
    }

    /// Bytes from one sample to the next, on average: the most of all processes' where their allocators chose; 0 where every
    /// block is recorded, and where there is no sample yet.
    pub fn sample_bytes(&self) -> u64 {
        match self.mode {
            Mode::Native => self.processes.iter().map(|process| process.own_sample_bytes).max().unwrap_or(0),
            mode => mode.sample_bytes(),
        }
    }

    /// What [`super::Old`] memory is of: sites of blocks, or where none are traced those of growth.
    pub fn holders(&self) -> &[Site] {
        if self.mode.has_blocks() { &self.sites } else { &self.growth }
    }

    /// The same of all processes' lives together.
    pub fn attached_fraction(&self) -> f64 {
        let sum = |of: fn(&Process) -> u64| self.processes.iter().map(of).fold(0, u64::saturating_add);
        fraction(sum(|process| process.attached_ns), sum(|process| process.life_ns))
    }

    /// What tracing cost the processes, where what a hit costs was measured.
    pub fn overhead(&self) -> Option<Overhead> {
        let price = self.coverage.hit_price?.ns();
        let mut overhead = Overhead::default();
        let mut known_hits = 0_u64;
        for process in &self.processes {
            overhead.hits = overhead.hits.saturating_add(process.hits);
            // Of those that ended before it was read, nothing can be said.
            if let Some(cpu_ns) = process.cpu_ns.filter(|cpu_ns| *cpu_ns > 0) {
                overhead.cpu_ns = overhead.cpu_ns.saturating_add(cpu_ns);
                known_hits = known_hits.saturating_add(process.hits);
            }
        }
        overhead.ns = overhead.hits.saturating_mul(price);
        overhead.known_ns = known_hits.saturating_mul(price);
        Some(overhead)
    }

    /// Allocations by how their stack walk ended, or where they are sampled the samples, or in a mode without blocks what else is
    /// recorded; every end is present.
    pub fn stack_ends(&self) -> BTreeMap<StackEnd, u64> {
        let mut ends: BTreeMap<StackEnd, u64> = StackEnd::ALL.into_iter().map(|end| (end, 0)).collect();
        for site in self.holders() {
            if let Some(stack) = self.stacks.get(site.stack.index()) {
                let count = ends.entry(stack.end).or_default();
                let walked = site.samples.as_ref().map_or(site.totals.alloc_count, |of| of.allocated.samples);
                *count = count.saturating_add(walked);
            }
        }
        ends
    }
}
