//! Loading the BPF object with its settings, and what is kept alive while tracing.

use super::{
    attach::{Attacher, HIT, Links, PlacedSite, ProbeSite, drop_at_once},
    events::EventRing,
    features::{self, Features},
    gates::{GATES, Gate},
    growing,
    kernel_types::KernelTypes,
    maps::{Maps, PROBE_ROWS},
    multi::{self, MultiProgram, Relocated},
    settings::settings,
    shares::{self, Shares},
    thread_filter,
    tracepoints::{self, Attached},
    unwind_maps::{UnwindArrays, UnwindMaps, UnwindSizes},
};
use crate::process::{privileges::Privileges, procfs, system};
use aya::{Ebpf, EbpfLoader, programs::UProbe};
use heaptrace_common::{
    check::{CHECKED_CALLS, CHECKS, Check, CheckedCall},
    live,
    probe::{Cookie, ProbeRecord},
    record::{PendingCall, ProcessRecord, SiteRecord, index, process_index},
    share::ShareRecord,
    statistics::StatisticsRecord,
    tree,
    unwind::memo::{MEMOS, Memo},
};
use std::{
    io,
    panic::resume_unwind,
    path::Path,
    process,
    sync::{Arc, OnceLock},
    thread,
};

/// The BPF object, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/heaptrace.bpf.o"));

/// Another build of the BPF programs, which keeps a map that heaptrace does not know. For tests that look at what no
/// report says.
#[derive(Clone, Copy, Debug)]
pub struct OtherBuild {
    /// Aligned to 8 bytes.
    pub object: &'static [u8],
    pub map: &'static str,
    /// Is given the map, each time that the programs were loaded and before anything of a target's is in it.
    pub take: fn(aya::maps::Map),
}

static OTHER: OnceLock<OtherBuild> = OnceLock::new();

/// From here on `build` is loaded, not the object in this program.
pub fn load_instead(build: OtherBuild) {
    // Set before, it stays.
    let _ = OTHER.set(build);
}

/// Scratch buffers of each CPU; as in the BPF side's `scratch::PER_CPU`.
const SCRATCH_PER_CPU: u32 = 4;

/// Why the kernel side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the kernel refused ({source}): {advice}")]
    Permission { source: io::Error, advice: String },
    #[error("kernel {release} is too old: it has no cookies for probes; Linux 5.15 or later is needed")]
    TooOld { release: String },
    #[error(
        "heaptrace runs in a PID namespace of its own (a container's), and BPF programs see other PIDs than it \
         does; run it on the host, or in a container that shares the host's (docker run --pid=host)"
    )]
    PidNamespace,
    #[error("the kernel refused the BPF program {name}: {source}; its log ends in: {log}")]
    Program { name: String, source: io::Error, log: String },
    #[error("the BPF object could not be loaded: {source}")]
    Ebpf { source: Box<aya::EbpfError> },
    #[error("the BPF program {name} could not be set up: {source}")]
    Setup { name: String, source: Box<aya::programs::ProgramError> },
    #[error("the BPF maps could not be mapped: {source}")]
    Maps { source: io::Error },
    #[error("the embedded BPF object is broken: {what}")]
    Object { what: String },
    #[error("{path}: {what}; a kernel with BTF (CONFIG_DEBUG_INFO_BTF) is needed")]
    KernelTypes { path: &'static str, what: String },
}

impl LoadError {
    fn permission(source: io::Error) -> Self {
        Self::Permission { source, advice: Privileges::read().advice() }
    }

    /// For a program that the kernel did not load. `EPERM` is about us: the verifier says `EACCES` or `EINVAL`.
    pub(super) fn program(name: &str, source: io::Error, log: String) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::permission(source),
            _ => Self::Program { name: name.to_owned(), source, log },
        }
    }
}

/// How stacks are walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StackMode {
    None,
    FramePointers,
    /// By unwind tables, and by frame pointers where there are none.
    #[default]
    Auto,
    /// By unwind tables only.
    Dwarf,
}

impl StackMode {
    /// Whether unwind tables are looked at.
    pub fn uses_tables(self) -> bool {
        matches!(self, Self::Auto | Self::Dwarf)
    }
}

/// Sizes of the BPF maps, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Blocks outstanding at one time.
    pub live: u32,
    /// Distinct (process, function, stack): the most that there may be, as room for them grows.
    pub sites: u32,
    /// Frames of all distinct stacks, those with the same callers once: the most that there may be.
    pub frames: u32,
    /// Process images, ended ones included.
    pub processes: u32,
    /// Calls of two traps under way at one time, of which a thread has one as a rule; rounded up to a power of two.
    pub threads: u32,
    /// Rare events that wait to be read; rounded up to what a ring of a power of two bytes holds.
    pub events: u32,
    /// Keep statistics of each process: lifetimes of blocks, and frees and failures by function.
    pub statistics: bool,
    pub unwind: UnwindSizes,
}

/// Kernel memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// At the start.
    pub first: u64,
    /// In the end, at most.
    pub most: u64,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            live: 1 << 20,
            sites: 1 << 19,
            frames: 1 << 22,
            processes: 1 << 14,
            threads: 1 << 14,
            events: RING_BYTES / EVENT_BYTES,
            statistics: false,
            unwind: UnwindSizes::default(),
        }
    }
}

/// A ring's default size, and an event's in it, with the ring's own header (`BPF_RINGBUF_HDR_SZ`).
const RING_BYTES: u32 = 1 << 20;
const EVENT_BYTES: u32 = size_of::<heaptrace_common::event::Event>() as u32 + 8;

impl MapSizes {
    /// At least a page (`ringbuf_map_alloc`, kernel/bpf/ringbuf.c).
    fn ring_bytes(&self) -> u32 {
        self.events.saturating_mul(EVENT_BYTES).checked_next_power_of_two().unwrap_or(1 << 31).max(4096)
    }

    /// The entries of `STATISTICS`, where there are `processes` records.
    fn statistics_records(&self, processes: u32) -> u32 {
        if self.statistics { processes } else { 1 }
    }

    /// The entries of `LIVE_TIMES`.
    fn live_times(&self) -> u32 {
        if self.statistics { live::lines_for(self.live) } else { 1 }
    }

    /// Kernel memory that the maps take, in bytes: at the start, and with sites and frames grown to their limits.
    pub fn memory_bytes(&self) -> Memory {
        let fixed = self.fixed_bytes();
        let (first, most) = growing::memory_bytes(self.sites, self.frames);
        Memory { first: fixed + first, most: fixed + most }
    }

    /// Sites and frames that may take what `memory` bytes leave, where they are not set to a number: frames take up to a
    /// third, and half of them where sites are set.
    pub fn within(mut self, memory: u64, sites: Option<u32>, frames: Option<u32>) -> Self {
        (self.sites, self.frames) = (1, frames.unwrap_or(1));
        let rest = |of: &Self| memory.saturating_sub(of.memory_bytes().most);
        if let Some(sites) = sites {
            self.sites = sites;
        }
        if frames.is_none() {
            self.frames = growing::frames_within(rest(&self) / if sites.is_some() { 1 } else { 3 });
        }
        if sites.is_none() {
            self.sites = growing::sites_within(rest(&self));
        }
        self
    }

    /// What does not grow.
    fn fixed_bytes(&self) -> u64 {
        // Preallocated hash maps: 48 bytes an element beside key and value, 16 a bucket (kernel/bpf/hashtab.c).
        let hash = |entries: u32, key_value: u64| {
            u64::from(entries) * (48 + key_value) + u64::from(entries.next_power_of_two()) * 16
        };
        let array = |entries: u32, element: usize| u64::from(entries) * element as u64;
        array(live::lines_for(self.live), size_of::<live::LiveLine>())
            + array(self.live_times(), size_of::<live::ExactTimes>())
            + hash(live::spill_for(self.live), 40)
            + array(PROBE_ROWS, size_of::<ProbeRecord>())
            + array(GATES, 8)
            + array(CHECKS, size_of::<Check>())
            + array(CHECKED_CALLS, size_of::<CheckedCall>())
            + array(index::cells_for(self.sites), 8)
            + array(self.processes, size_of::<SiteRecord>())
            + array(self.processes, size_of::<ProcessRecord>())
            + array(Shares::entries(self.processes), size_of::<ShareRecord>())
            + array(self.threads.next_power_of_two(), size_of::<PendingCall>())
            // PROCESS_CACHE.
            + array(1 << 16, 8)
            + u64::from(self.ring_bytes())
            // PROCESS_INDEX, SYSCALLS and CODE_FILES.
            + hash(1 << 15, 8)
            + hash(1 << 14, 88)
            + hash(1 << 12, 96)
            + array(self.processes, 16)
            + array(self.statistics_records(self.processes), size_of::<StatisticsRecord>())
            + array(MEMOS, size_of::<Memo>())
            + self.unwind.memory_bytes()
    }
}

/// Processes that are targets, running or new, without being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// All whose effective user has this id.
    User(u32),
    /// All in the cgroup of this id (its directory's inode number) or below.
    Cgroup(u64),
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Every process counts, not only registered ones.
    pub all: bool,
    /// Probes will be placed in files, not in processes.
    pub probes_for_all: bool,
    /// Children of targets are targets.
    pub follow: bool,
    pub stacks: StackMode,
    pub sizes: MapSizes,
    /// Attach to brk, mmap, munmap and mremap.
    pub growth: bool,
    /// Attach to page faults.
    pub faults: bool,
    /// Tell of every growth call, with a stack if it concerns so many bytes.
    pub watch: Option<u64>,
    /// Load what is placed in allocators.
    pub probes: bool,
    /// Only to see whether it works: neither growth nor faults are attached, and tracefs is not mounted.
    pub trial: bool,
    /// Who becomes a target by an exec, beside children of targets.
    pub members: Option<Members>,
    /// Least and largest size of the blocks that count; others are counted as filtered and looked at no further.
    pub block_sizes: Option<(u64, u64)>,
}

/// The kernel side, loaded. Tracepoints are attached; probes are placed by [`Tracer::attach`].
pub struct Tracer {
    ebpf: Ebpf,
    attacher: Attacher,
    tracepoints: Vec<Attached>,
    /// The maps that userspace reads.
    pub maps: Maps,
    /// Where processes' unwind tables are published, and the tables' memory, for a store to take.
    pub unwind: UnwindMaps,
    pub unwind_arrays: Option<UnwindArrays>,
    /// What verifies probe sites, where the kernel has multi links.
    pub(super) checker: Option<MultiProgram>,
    /// What was found out about the kernel, for the report's notes.
    pub features: Features,
}

impl Tracer {
    /// Loads the programs and attaches the tracepoints.
    pub fn load(options: &Options) -> Result<(Self, EventRing), LoadError> {
        raise_limits();
        if !system::in_first_pid_namespace() {
            return Err(LoadError::PidNamespace);
        }
        if !features::has_cookies() {
            return Err(LoadError::TooOld { release: system::kernel_release() });
        }
        let types = KernelTypes::read()?;
        let sizes = options.sizes;
        let unwind = if options.stacks.uses_tables() { sizes.unwind } else { UnwindSizes::NONE };
        let threads = sizes.threads.next_power_of_two();
        let statistics = sizes.statistics_records(sizes.processes);
        let base_ns = procfs::monotonic_ns();
        let secret = shares::new_secret();
        let settings = settings(options, &sizes, &types, base_ns, secret);
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| LoadError::Maps { source })? as u32;
        let other = OTHER.get();
        let object = other.map_or(OBJECT, |build| build.object);
        let mut ebpf = EbpfLoader::new()
            .override_global("SETTINGS", settings.as_bytes(), true)
            .map_max_entries("LIVE", live::lines_for(sizes.live))
            .map_max_entries("LIVE_TIMES", sizes.live_times())
            .map_max_entries("LIVE_SPILL", live::spill_for(sizes.live))
            .map_max_entries("SITES", growing::site_chunks(sizes.sites))
            .map_max_entries("OVERFLOW_SITES", sizes.processes)
            .map_max_entries("SITE_INDEX", index::cells_for(sizes.sites))
            .map_max_entries("NODES", tree::chunks_for(sizes.frames))
            .map_max_entries("PROCESSES", sizes.processes)
            .map_max_entries("SHARES", Shares::entries(sizes.processes))
            .map_max_entries("STATISTICS", statistics)
            .map_max_entries("PENDING", threads)
            .map_max_entries("EVENTS", sizes.ring_bytes())
            .map_max_entries("SCRATCH", cpus * SCRATCH_PER_CPU)
            .map_max_entries("UNWIND_ROWS", unwind.row_shards)
            .map_max_entries("UNWIND_PAGES", unwind.page_shards)
            .map_max_entries("UNWIND_MAPPINGS", unwind.list_elements())
            .map_max_entries("UNWIND_PROCESSES", sizes.processes)
            .map_max_entries("UNWIND_EXACT", sizes.processes)
            .load(object)
            .map_err(load_error)?;
        let multi_links = options.probes && multi::has_links();
        let multi_filter = multi_links && thread_filter::covers_threads();
        let mut features =
            Features { probes: options.probes, multi_links, multi_filter, ..Features::default() };
        // Before the maps are taken out of `ebpf`. The verifier takes its time: two threads' is half.
        let multi = if multi_filter { Some(Relocated::new(object, &ebpf)?) } else { None };
        let (multi, mut tracepoints) = thread::scope(|scope| {
            let multi = multi.map(|relocated| scope.spawn(move || relocated.load()));
            let others = load_others(&mut ebpf, options, multi.is_none());
            // A panic there is ours.
            let multi = multi.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok::<_, LoadError>((multi.transpose()?, others?))
        })?;
        let unwind_arrays = match options.stacks.uses_tables() {
            true => Some(UnwindArrays::take(&mut ebpf, unwind)?),
            false => None,
        };
        let unwind = UnwindMaps::take(&mut ebpf, unwind, sizes.processes)?;
        let (mut maps, events) = Maps::take(&mut ebpf, &sizes, statistics, base_ns, secret)?;
        // Before anything that registers a process by itself.
        let own = maps.set_index(process::id(), process_index::OWN);
        own.map_err(|error| LoadError::Maps { source: io::Error::other(error) })?;
        let (attacher, checker) = match multi {
            Some([program, checker]) => (Attacher::Multi(program), Some(checker)),
            None => (Attacher::PerfEvents, None),
        };
        if options.growth && !options.trial {
            let (growth, attached) = tracepoints::attach_growth(&mut ebpf, options.watch.is_some())?;
            features.growth = growth;
            tracepoints.extend(attached);
        }
        if options.faults && !options.trial {
            let (faults, attached) = tracepoints::attach_faults(&mut ebpf)?;
            features.faults = faults;
            tracepoints.extend(attached);
        }
        if let Some(build) = other
            && let Some(map) = ebpf.take_map(build.map)
        {
            (build.take)(map);
        }
        Ok((Self { ebpf, attacher, tracepoints, maps, unwind, unwind_arrays, checker, features }, events))
    }

    /// Places probes in the file at `path`: in process `pid`, or in every process that maps the file. `late`: calls
    /// count there already; those of these probes begin to when all are in place.
    pub fn attach(
        &mut self,
        path: &Path,
        sites: &[ProbeSite],
        pid: Option<u32>,
        late: bool,
    ) -> io::Result<Links> {
        let full =
            || io::Error::other("the table of probes is full: too many different builds of allocators");
        let all_taken = || io::Error::other("too many allocators were mapped while tracing");
        let gate = if late { Some(self.maps.gates.take().ok_or_else(all_taken)?) } else { None };
        let behind = gate.as_ref().map_or(0, Gate::index);
        let placed: Option<Vec<PlacedSite>> = sites
            .iter()
            .map(|site| {
                let row = self.maps.probe_row(&site.record)?;
                Some(PlacedSite { offset: site.offset, cookie: Cookie { row, gate: behind } })
            })
            .collect();
        let mut links = self.attacher.attach(&mut self.ebpf, path, &placed.ok_or_else(full)?, pid)?;
        if let Some(gate) = gate {
            gate.open();
            links.gate = Some(Arc::new(gate));
        }
        Ok(links)
    }

    /// Takes `links` away, all at once.
    pub fn release(&self, links: Vec<Links>) {
        drop_at_once(links.into_iter().flat_map(Links::split).collect());
    }

    /// How often the kernel left a tracepoint's program out.
    pub fn left_out(&self) -> u64 {
        tracepoints::left_out(&self.ebpf)
    }

    /// Takes `links` and the tracepoints away, all at once; nothing is counted any more.
    pub fn detach(&mut self, links: Vec<Links>) {
        let tracepoints = std::mem::take(&mut self.tracepoints);
        drop_at_once(links.into_iter().flat_map(Links::split).chain(tracepoints).collect());
    }
}

/// Loads all programs but those for multi links, and attaches those that see processes come and go.
fn load_others(
    ebpf: &mut Ebpf,
    options: &Options,
    perf_events: bool,
) -> Result<Vec<tracepoints::Attached>, LoadError> {
    if options.probes && perf_events {
        let program: &mut UProbe = tracepoints::program(ebpf, HIT)?;
        program.load().map_err(|source| setup_error(HIT, source))?;
    }
    if options.growth {
        tracepoints::load_growth(ebpf, options.watch.is_some())?;
    }
    if options.faults {
        tracepoints::load_faults(ebpf)?;
    }
    tracepoints::attach_lifecycle(ebpf)
}

pub(super) fn setup_error(name: &str, source: aya::programs::ProgramError) -> LoadError {
    match source {
        aya::programs::ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string().lines().rev().take(20).collect::<Vec<_>>().join(" | ");
            LoadError::program(name, io_error, log)
        }
        source => LoadError::Setup { name: name.to_owned(), source: Box::new(source) },
    }
}

fn load_error(error: aya::EbpfError) -> LoadError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        let io = at.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return LoadError::permission(io::ErrorKind::PermissionDenied.into());
        }
        cause = at.source();
    }
    LoadError::Ebpf { source: Box::new(error) }
}

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK; a probed file and a link each cost a descriptor. Both
/// are raised as far as they go, and what is missing then shows as an error where it matters.
fn raise_limits() {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid pointer to a local.
    let unlimited = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) } == 0;
    let to_their_most: &[_] =
        if unlimited { &[libc::RLIMIT_NOFILE] } else { &[libc::RLIMIT_NOFILE, libc::RLIMIT_MEMLOCK] };
    for resource in to_their_most {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: as above.
        unsafe {
            if libc::getrlimit(*resource, &raw mut limit) == 0 {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(*resource, &raw const limit);
            }
        }
    }
}
