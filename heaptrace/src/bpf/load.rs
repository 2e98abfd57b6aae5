//! Loading the BPF object with its settings, and what is kept alive while tracing.

use super::{
    attach::{Attacher, Links},
    checks::FunctionCheck,
    error::{LoadError, load_error, setup_error},
    events::EventRing,
    features::{self, Features},
    gates::Gate,
    growing,
    kernel_types::KernelTypes,
    letting_go::{Held, IsTheSame, Leaving, Removal},
    log::{LogRing, without_log},
    maps::Maps,
    multi::{self, MultiProgram, Relocated},
    options::Options,
    run_time::RunTime,
    settings::settings,
    shares::{self, Shares},
    site::{HIT, OWN, PlacedSite, ProbeSite},
    thread_filter,
    tracepoints::{self, Attached},
    unwind_maps::{UnwindArrays, UnwindMaps, UnwindSizes},
};
use crate::process::{object::Object, procfs, system};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, UProbe},
};
use heaptrace_common::{
    frees, live,
    probe::{Cookie, Role},
    record::{index, process_index},
    tree,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    borrow::Cow,
    io,
    os::fd::AsFd as _,
    panic::resume_unwind,
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

/// Scratch buffers of each CPU, as in the BPF side's `scratch::PER_CPU`; and the fewest of all, as few CPUs may have many threads
/// that preempt each other.
const SCRATCH_PER_CPU: u32 = 4;
const LEAST_SCRATCH: u32 = 32;

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
    /// Where the programs log.
    pub log: Option<LogRing>,
    /// What verifies probe sites, where the kernel has multi links.
    checker: Option<MultiProgram>,
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
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| LoadError::Maps { source })? as u32;
        let scratch = (cpus * SCRATCH_PER_CPU).max(LEAST_SCRATCH).next_power_of_two();
        let settings = settings(options, &sizes, &types, scratch, base_ns, secret);
        let other = OTHER.get();
        let object = other.map_or(OBJECT, |build| build.object);
        let object = if options.log { Cow::Borrowed(object) } else { Cow::Owned(without_log(object)?) };
        let mut ebpf = EbpfLoader::new()
            .override_global("SETTINGS", settings.as_bytes(), true)
            .map_max_entries("LIVE", live::lines_for(sizes.live))
            .map_max_entries("LIVE_TIMES", sizes.live_times())
            .map_max_entries("LIVE_SPILL", sizes.spill())
            .map_max_entries("LIVE_GROWN", sizes.live_chunks.max(1))
            .map_max_entries("SITES", growing::site_chunks(sizes.sites))
            .map_max_entries("OVERFLOW_SITES", sizes.processes)
            .map_max_entries("SITE_INDEX", index::cells_for(sizes.sites))
            .map_max_entries("NODES", tree::chunks_for(sizes.frames))
            .map_max_entries("PROCESSES", sizes.processes)
            .map_max_entries("SHARES", Shares::entries(sizes.processes))
            .map_max_entries("STATISTICS", statistics)
            .map_max_entries("ESTIMATES", sizes.estimate_entries())
            .map_max_entries("SITE_THREADS", sizes.thread_entries())
            .map_max_entries("FREED", sizes.of_frees(frees::FREED))
            .map_max_entries("FREE_PAIRS", sizes.of_frees(frees::PAIRS))
            .map_max_entries("BAD_FREES", sizes.of_frees(frees::BAD_FREES))
            .map_max_entries("LIFETIMES", sizes.lifetime_entries())
            .map_max_entries("PENDING", threads)
            .map_max_entries("EVENTS", sizes.ring_bytes())
            .map_max_entries("SCRATCH", scratch)
            .map_max_entries("UNWIND_ROWS", unwind.row_shards)
            .map_max_entries("UNWIND_PAGES", unwind.page_shards)
            .map_max_entries("UNWIND_MAPPINGS", unwind.list_elements())
            .map_max_entries("UNWIND_PROCESSES", sizes.processes)
            .map_max_entries("UNWIND_EXACT", sizes.processes)
            .load(&object)
            .map_err(load_error)?;
        let multi_links = options.probes && multi::has_links();
        let multi_filter = multi_links && thread_filter::covers_threads();
        let mut features =
            Features { probes: options.probes, multi_links, multi_filter, ..Features::default() };
        // Before the maps are taken out of `ebpf`. The verifier takes its time: two threads' is half.
        let multi = if multi_filter { Some(Relocated::new(&object, &ebpf)?) } else { None };
        let (multi, mut tracepoints) = thread::scope(|scope| {
            let own = options.own_samples;
            let multi = multi.map(|relocated| scope.spawn(move || relocated.load(own)));
            let others = load_others(&mut ebpf, options, multi.is_none());
            // A panic there is ours.
            let multi = multi.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok::<_, LoadError>((multi.transpose()?, others?))
        })?;
        let log = if options.log { Some(LogRing::take(&mut ebpf)?) } else { None };
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
            Some(([program, checker], own)) => (Attacher::Multi { program, own }, Some(checker)),
            None => (Attacher::PerfEvents, None),
        };
        if options.growth && !options.trial {
            let (growth, attached) = tracepoints::attach_growth(&mut ebpf, options.calls.are_told())?;
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
        let tracer =
            Self { ebpf, attacher, tracepoints, maps, unwind, unwind_arrays, checker, features, log };
        Ok((tracer, events))
    }

    /// Places probes in `file`: in process `pid`, or in every process that maps the file. `late`: calls
    /// count there already; those of these probes begin to when all are in place.
    pub fn attach(
        &mut self,
        file: &Arc<Object>,
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
                Some(site.placed(Cookie { row, gate: behind }))
            })
            .collect();
        let is_own = |site: &ProbeSite| {
            site.record.role == Role::Sample as u8 || site.record.role == Role::SampleFree as u8
        };
        let (own, placed) = (sites.iter().all(is_own), placed.ok_or_else(full)?);
        let mut links = self.attacher.attach(&mut self.ebpf, file, &placed, pid, own)?;
        if let Some(gate) = gate {
            gate.open();
            links.gate = Some(Arc::new(gate));
        }
        Ok(links)
    }

    /// A check that nothing was seen by yet, of a function whose results are blocks of glibc's if `glibc`. `None` where the
    /// kernel has no multi links, or too many functions are under verification.
    pub fn new_check(&self, glibc: bool) -> Option<FunctionCheck> {
        self.checker.as_ref().and_then(|_| self.maps.checks.take(glibc))
    }

    /// Has a function's entry and sites watched in one process, or wherever `file` is mapped.
    pub fn watch_for(
        &mut self,
        check: &Arc<FunctionCheck>,
        file: &Arc<Object>,
        sites: &[ProbeSite],
        pid: Option<u32>,
    ) -> io::Result<Links> {
        let Some(checker) = &self.checker else { return Err(io::ErrorKind::Unsupported.into()) };
        let rows = sites.iter().map(|site| {
            let row = self.maps.probe_row(&site.record)?;
            Some(site.placed(Cookie { row, gate: check.number() }))
        });
        let placed: Option<Vec<PlacedSite>> = rows.collect();
        let placed = placed.ok_or_else(|| io::Error::other("the table of probes is full"))?;
        let link = checker.attach(&file.attach_path(), &placed, pid)?;
        Ok(Links::of_check(Held::new(link, file, &placed, pid), check))
    }

    /// How often the program that probes run has run, and how long, while the kernel measured that: see [`Statistics`].
    pub fn run_time(&self) -> Option<RunTime> {
        match &self.attacher {
            Attacher::Multi { program, own, .. } => {
                let own = own.as_ref().and_then(|own| RunTime::of(own.as_fd()));
                RunTime::of(program.as_fd()).map(|time| own.map_or(time, |own| time.with(own)))
            }
            Attacher::PerfEvents => match self.ebpf.program(HIT)? {
                Program::UProbe(program) => RunTime::of(program.fd().ok()?.as_fd()),
                _ => None,
            },
        }
    }

    /// Whether probes are multi links.
    pub fn has_multi_links(&self) -> bool {
        matches!(self.attacher, Attacher::Multi { .. })
    }

    /// Takes `links` away, all at once.
    pub fn release(&self, links: Vec<Links>, is_the_same: IsTheSame<'_>) {
        begin_to_let_go(links, Vec::new(), is_the_same).wait();
    }

    /// How often the kernel left a tracepoint's program out.
    pub fn left_out(&self) -> u64 {
        tracepoints::left_out(&self.ebpf)
    }

    /// Begins to take `links` and the tracepoints away, all at once; nothing is counted any more.
    pub fn detach(&mut self, links: Vec<Links>, is_the_same: IsTheSame<'_>) -> Removal {
        begin_to_let_go(links, std::mem::take(&mut self.tracepoints), is_the_same)
    }
}

fn begin_to_let_go(links: Vec<Links>, others: Vec<Attached>, is_the_same: IsTheSame<'_>) -> Removal {
    let links = links.into_iter().flat_map(Links::split).chain(others.into_iter().map(Leaving::from));
    Removal::begin(links.collect(), is_the_same)
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
        if options.own_samples {
            let program: &mut UProbe = tracepoints::program(ebpf, OWN)?;
            program.load().map_err(|source| setup_error(OWN, source))?;
        }
    }
    if options.growth {
        tracepoints::load_growth(ebpf, options.calls.are_told())?;
    }
    if options.faults {
        tracepoints::load_faults(ebpf)?;
    }
    tracepoints::attach_lifecycle(ebpf)
}

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK; a probed file and a link each cost a descriptor. Both
/// are raised as far as they go, and what is missing then shows as an error where it matters.
fn raise_limits() {
    let unlimited = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_ok();
    let to_their_most: &[_] =
        if unlimited { &[Resource::Nofile] } else { &[Resource::Nofile, Resource::Memlock] };
    for resource in to_their_most {
        let Rlimit { maximum, .. } = getrlimit(*resource);
        let _ = setrlimit(*resource, Rlimit { current: maximum, maximum });
    }
}
