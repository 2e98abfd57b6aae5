//! One tracing session: targets in, probes placed and kept up with forks, execs and new libraries, and the
//! profile built up. What a command does with it (file, screen) is the command's.

mod adding;
mod attachments;
mod budgeting;
mod code;
mod code_check;
mod code_looks;
mod code_names;
mod code_rounds;
mod costs;
mod counting;
mod cpu_times;
mod early_names;
mod error;
mod events;
mod findings;
mod generated;
mod growth;
mod heap_looks;
mod known_files;
mod lacking;
mod limiting;
mod mapped_code;
mod measured;
mod origins;
mod over;
mod overhead;
mod pending_code;
mod perf_maps;
mod phases;
mod real_world;
mod residency;
mod retiring;
mod symbol_job;
mod table_builder;
mod tables;
mod tables_in_force;
mod unmapped;

#[cfg(test)]
pub(crate) use self::{
    attachments::{Kernel, Processes, World},
    code_check::Expected,
};
pub use crate::process::procfs::monotonic_ns;
use crate::{
    bpf::{
        Calls, CheckedFrees, Counters, EventRing, LoadError, LogRing, MapError, MapSizes, Members, Options,
        Removal, StackMode, Tracer,
    },
    drain::{ProfileBuilder, Weighing},
    model::{
        Chunk, Cohorts, Counts, Location, LocationId, Mode, Names, Note, Notes, OldBlocks, SiteId,
        SizeFilter, Statistics,
    },
    probes::{
        discover::Discoverer,
        plan::{Own, Places, Wanted},
    },
    process::mapped::MappingWatch,
    rss::Rounds,
    symbolize::Found,
};
use attachments::{Attachments, How};
pub use budgeting::Limits;
pub use error::TargetError;
pub use symbol_job::SymbolJob;

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tables::ExactRows;
use tokio::sync::Notify;

/// What the last look at mappings takes at most, but for its last process: meanwhile all probes are still there.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// How a session traces.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Every process of the machine.
    pub all: bool,
    pub follow: bool,
    /// Probe files for all processes and choose in the kernel: children are caught from their first call, and
    /// every process that maps the file pays for the trap.
    pub exact_children: bool,
    pub stacks: StackMode,
    pub sizes: MapSizes,
    pub growth: bool,
    /// Page faults, by stack, in every mode.
    pub faults: bool,
    /// Where they are followed, [`Session::old_blocks`] tells of memory in place of blocks.
    pub calls: Calls,
    /// Where it is without blocks, what has no allocator, or must not be probed, is traced like any other.
    pub mode: Mode,
    /// Who is a target without being named; for [`Session::add_members`].
    pub members: Option<Members>,
    /// Only blocks of these sizes.
    pub size_filter: Option<SizeFilter>,
    /// What was at least so old when its process exited is kept for [`Session::old_blocks`].
    pub keep_old: Option<Duration>,
    /// What it may cost, and of whom. Then probes are placed by process.
    pub limits: Limits,
    /// Where blocks are sampled: allocators' own samples go before, in processes that offer them.
    pub own_samples: bool,
    /// Files whose contents a stranger's FUSE server gives are probed, too.
    pub served: bool,
    /// The BPF programs log lines: see [`Session::take_log`].
    pub log: bool,
}

/// See the module.
pub struct Session {
    tracer: Tracer,
    /// Nanoseconds since the Unix epoch.
    started_ns: i64,
    /// `None` if stacks are walked without tables.
    unwinding: Option<tables::Unwinding>,
    discoverer: Discoverer,
    builder: ProfileBuilder,
    /// Allocators are probed.
    probes: bool,
    /// Functions that free among their functions.
    frees: bool,
    /// Probes are placed for each process, not for all that map a file.
    per_process: bool,
    attachments: Attachments,
    /// Events that were not looked at, as tracing had ended.
    unread: u64,
    notes: Notes,
    /// `None` if the kernel does not let us; then code is known from /proc alone.
    watch: Option<MappingWatch>,
    pending_code: pending_code::PendingCode,
    perf_maps: perf_maps::PerfMaps,
    early_names: early_names::EarlyNames,
    size_filter: Option<SizeFilter>,
    counting: counting::Counting,
    residencies: measured::Residencies,
    code_rounds: code_rounds::CodeRounds,
    /// Of looks for unmapped blocks.
    looks: Rounds,
    over: over::Over,
    calls: Calls,
    overhead: overhead::Overhead,
    cpu_times: cpu_times::CpuTimes,
    /// See [`Session::take_grown`].
    grew: Vec<Note>,
    /// `None` where there are no limits.
    budgeting: Option<budgeting::Budgeting>,
    /// Probes that are on their way, and since when.
    removal: Option<(Instant, Removal)>,
}

impl Session {
    /// The lines that the BPF programs log, if they do; once.
    pub fn take_log(&mut self) -> Option<LogRing> {
        self.tracer.log.take()
    }

    /// Loads the kernel side. The ring of events goes to the caller, who polls it and calls
    /// [`Session::handle_events`].
    pub fn new(options: &SessionOptions) -> Result<(Self, EventRing), LoadError> {
        let SessionOptions {
            all,
            follow,
            exact_children,
            stacks,
            sizes,
            growth,
            faults,
            calls,
            mode,
            members,
            size_filter,
            keep_old,
            limits,
            own_samples,
            served,
            log,
        } = *options;
        let (probes, faults) = (mode.has_blocks(), faults || mode == Mode::Faults);
        // Whoever is spared has no breakpoint.
        let per_process = limits.is_any() || !(all || exact_children);
        let members = members.or_else(|| (all && per_process).then_some(Members::All));
        let places = if per_process { Places::OneProcess } else { Places::AllProcesses };
        let own = match (mode, places) {
            (Mode::Native, _) => Own::Only,
            // By file, both would count where a process has both; and where probes go away for a while, frees would be missed.
            (Mode::Sampled(_), Places::OneProcess)
                if own_samples && size_filter.is_none() && !limits.is_any() =>
            {
                Own::Preferred
            }
            _ => Own::Unused,
        };
        let wanted = Wanted { places, frees: mode.has_frees(), own, served };
        let (mut tracer, events) = Tracer::load(&Options {
            all: all && !per_process,
            probes_for_all: !per_process,
            follow: follow || all,
            stacks,
            sizes,
            growth,
            faults,
            calls,
            probes,
            frees: mode.has_frees() || !probes,
            sample_bytes: mode.sample_bytes(),
            trial: false,
            members,
            block_sizes: size_filter.map(|filter| (filter.min, filter.max)),
            own_samples: own != Own::Unused,
            log,
        })?;
        let mut notes = lacking::of_features(&tracer.features);
        notes.extend(limits.notes());
        let watch = match MappingWatch::start() {
            Ok(watch) => Some(watch),
            Err(error) => {
                notes.take(Note::MappingsFromProc { reason: error.to_string() });
                None
            }
        };
        let exact = || if faults { ExactRows::All } else { ExactRows::Met(HashSet::new()) };
        // The whole machine's tables can wait.
        let unwinding = tracer
            .unwind_arrays
            .take()
            .and_then(|memory| tables::Unwinding::start(memory, exact(), !all).ok());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut session = Self {
            unwinding,
            overhead: overhead::Overhead::measure(&tracer, probes),
            cpu_times: cpu_times::CpuTimes::default(),
            grew: Vec::new(),
            budgeting: budgeting::Budgeting::new(limits),
            tracer,
            started_ns: i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX),
            discoverer: Discoverer::with_cache(table_builder::open_cache(), wanted),
            builder: ProfileBuilder::new(Weighing::of(mode)),
            probes,
            frees: mode.has_frees(),
            per_process,
            attachments: Attachments::new(How {
                probes,
                watched: matches!(calls, Calls::Shown { .. }),
                per_process,
                unnamed: all || members.is_some(),
                tell_of_others: exact_children && !all && !per_process,
            }),
            unread: 0,
            notes,
            watch,
            pending_code: pending_code::PendingCode::default(),
            perf_maps: perf_maps::PerfMaps::default(),
            early_names: early_names::EarlyNames::start(),
            size_filter,
            counting: counting::Counting::new(),
            residencies: measured::Residencies::default(),
            code_rounds: code_rounds::CodeRounds::default(),
            looks: Rounds::default(),
            over: over::Over::default(),
            calls,
            removal: None,
        };
        if let Some(older_than) = keep_old {
            session.builder.keep_old_blocks(nanoseconds(older_than));
        }
        if calls == Calls::Followed {
            session.follow(mode);
        }
        session.attachments.pause_new(limits.growing.is_some());
        session.wait_to_count();
        Ok((session, events))
    }

    /// Reads the maps. Cheap enough for once a second.
    pub fn drain(&mut self) {
        self.builder.read_processes(&mut self.tracer.maps);
        self.take_code_changes();
        self.look_at_changed();
        let (attachments, mut world) = self.split();
        attachments.adopt_new_records(&mut world);
        self.publish_listless();
        let (attachments, mut world) = self.split();
        attachments.look_after_leaderless(&mut world);
        self.look_at_code();
        self.read_cpu_times();
        if !self.counting.is_over() {
            let (attachments, mut world) = self.split();
            attachments.look_at_checks(&mut world);
            // Later, the kernel side does not hear of ends by itself.
            attachments.look_for_ended(&mut world);
        }
        self.builder.reads_at(self.counting.now_ns());
        self.builder.read_sites(&mut self.tracer.maps);
        self.look_after_perf_maps();
        // Where nothing runs, nothing needs room, and what was never freed can still be looked at.
        if self.has_ended() {
            return;
        }
        if let Err(error) = self.builder.sweep(&self.tracer.maps, self.tracer.maps.live_capacity()) {
            self.note(Note::EndedBlocksNotRemoved { reason: error.to_string() });
        }
        self.retire();
    }

    /// Does what cannot wait for the next [`Session::drain`]. Cheap enough for ten times a second.
    pub fn look_often(&mut self) {
        let (attachments, mut world) = self.split();
        attachments.let_go_of_verified(&mut world);
        if self.tracer.maps.has_few_records() {
            self.retire();
        }
        self.perf_maps.look(&self.builder);
        self.look_at_cost();
        self.keep_to_limits();
    }

    /// [`Session::drain`] after [`Session::detach`]: nothing waits for later any more.
    pub fn drain_last(&mut self) {
        self.drain();
        self.builder.read_whole(&mut self.tracer.maps);
        self.judge_blocks();
    }

    /// What is new since the last chunk; call [`Session::drain`] first.
    pub fn chunk(&mut self) -> Result<Chunk, MapError> {
        self.read_rss();
        let coverage = self.coverage()?;
        let duration_ns = self.counting.elapsed().as_nanos() as u64;
        Ok(self.builder.chunk(duration_ns, self.counting.counted(self.probes), coverage))
    }

    /// Ends tracing as of now, and begins to take all probes away: from here on nothing is counted, nor placed, nor told. What was
    /// told before can still be handled. Without probes nothing is done: who has none is slowed by nothing that would have to
    /// end soon.
    pub fn stop(&mut self) {
        if self.probes && self.removal.is_none() {
            self.look_for_unmapped_within(LAST_LOOK);
            self.begin_detach();
        }
    }

    /// Whether nothing is counted any more.
    pub fn has_stopped(&self) -> bool {
        self.counting.is_over()
    }

    fn begin_detach(&mut self) {
        let began = Instant::now();
        self.end_counting();
        let (attachments, mut world) = self.split();
        attachments.look_at_checks_last(&mut world);
        let links = self.attachments.end();
        self.removal = Some((began, self.tracer.detach(links, &code_check::is_the_same_everywhere)));
        self.builder.read_processes(&mut self.tracer.maps);
        self.read_all_cpu_times();
        self.overhead.end(&self.tracer, self.builder.hits());
    }

    /// Takes all probes away, if that has not begun, and waits until they are; gives the seconds that took. From the first moment
    /// of that on nothing changes any more.
    pub fn detach(&mut self) -> f64 {
        if self.removal.is_none() {
            self.begin_detach();
        }
        let Some((began, removal)) = self.removal.take() else { return 0.0 };
        let gone = removal.wait();
        self.attachments.wait();
        gone.map_or(0.0, |gone| gone.duration_since(began).as_secs_f64())
    }

    /// The last chunk, with ages; [`Session::names`] belong to it. After [`Session::detach`].
    pub fn finish(&mut self) -> anyhow::Result<Chunk> {
        self.drain_last();
        let from_ns = self.counting.from_ns;
        let cohorts = self.builder.read_ages(&self.tracer.maps, from_ns, self.counting.now_ns())?;
        let checked = self.tracer.maps.checked_frees().map(CheckedFrees::read).transpose()?;
        let frees = checked.map(|read| Box::new(self.builder.frees(&read, &self.tracer.maps)));
        let mut chunk = self.chunk()?;
        chunk.frees = frees;
        chunk.cohorts = cohorts;
        chunk.coverage.finished = true;
        Ok(chunk)
    }

    /// The symbols of all locations so far. May take long, as it looks into files.
    pub fn names(&self) -> Names {
        let locations = self.builder.symbol_inputs().locations.to_vec();
        let Found { symbols, notes } = self.symbol_job(locations).run();
        let symbols = symbols
            .into_iter()
            .enumerate()
            .filter(|(_, symbols)| !symbols.is_empty())
            .map(|(index, symbols)| (LocationId(index as u32), symbols))
            .collect();
        let notes = notes.into_iter().map(|what| Note::NamesMissing { what }).collect();
        Names { symbols, notes }
    }

    /// The same for another thread to do.
    pub fn symbol_job(&self, locations: Vec<Location>) -> SymbolJob {
        SymbolJob::new(&self.builder.symbol_inputs(), locations, self.started_ns, &self.perf_maps)
    }

    /// What is outstanding and older than `older_than`, of blocks or of memory; call [`Session::drain`] first.
    pub fn old_blocks(&mut self, older_than: Duration) -> io::Result<OldBlocks> {
        self.end_blocks();
        if self.calls == Calls::Followed {
            return Ok(self.builder.old_memory(nanoseconds(older_than), self.counting.now_ns()));
        }
        let (from_ns, now_ns) = (self.counting.from_ns, self.counting.now_ns());
        self.builder.old_blocks(&self.tracer.maps, nanoseconds(older_than), from_ns, now_ns)
    }

    /// Looks for blocks that are over although no free was seen, and has them counted so; call [`Session::drain`] first.
    pub fn end_blocks(&mut self) {
        if !self.counting.is_over() {
            self.look_for_unmapped();
            self.judge_blocks();
        }
    }

    /// How blocks of sites came and stayed; call [`Session::drain`] first.
    pub fn cohorts(&self) -> io::Result<BTreeMap<SiteId, Cohorts>> {
        self.builder.cohorts(&self.tracer.maps, self.counting.from_ns, self.counting.now_ns())
    }

    /// What was counted of each process for `stat`, by `ProcessId`; call [`Session::drain`] first.
    pub fn statistics(&self) -> Vec<Statistics> {
        self.builder.statistics(&self.tracer.maps)
    }

    /// Told whenever an unwind table has been built; then call [`Session::take_tables`].
    pub fn tables_ready(&self) -> Option<Arc<Notify>> {
        self.unwinding.as_ref().map(tables::Unwinding::ready)
    }

    /// Live bytes, events, and lost events so far, as last drained.
    pub fn glance(&self) -> (u64, u64, u64) {
        let (live, events) = self.builder.glance(self.probes);
        let counts = |counters: Counters| Counts::new(|counter| counters.get(counter));
        let lost = self.tracer.maps.counters().map_or(0, |counters| counts(counters).lost());
        (live, events, lost)
    }

    /// Live bytes of the processes that ran when the maps were last drained, as they are now. Cheap enough for ten times a second.
    pub fn live_now(&self) -> u64 {
        self.builder.live_now(&self.tracer.maps)
    }

    /// Blocks that the end has to read, as last drained.
    pub fn outstanding_blocks(&self) -> u64 {
        self.builder.outstanding_blocks()
    }

    /// PIDs of the processes that are being traced.
    pub fn traced(&self) -> usize {
        self.builder.running().count()
    }

    /// Whether a process is traced, or was when it was last heard of.
    pub fn knows(&self, pid: u32) -> bool {
        self.tracer.maps.index_of(pid).is_some()
    }

    /// Whether all that was traced has exited.
    pub fn has_ended(&self) -> bool {
        self.traced() == 0 && !self.builder.is_within_exec(monotonic_ns())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
