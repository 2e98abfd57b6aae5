//! The JSON report, schema 1. The structs below are the schema: keys are only ever added, at the end.

use super::export::{Content, Export, Past, Untold};
pub(super) use super::frames::Frames;
use super::select::{Estimated, amount_of, chosen, estimated, estimated_processes, sites};
use super::{
    Ignored, Options, View, counters::Lost, frees, ignored, notes, notes::Fact, part::PartData, rss, text,
    verdicts,
};
use crate::model::{
    Amount, LifetimeHistogram, Profile, Site, SiteId, SizeFilter, SizeHistogram, Thread, ThreadId,
};
use crate::printable::write_json;
use crate::units::in_seconds;
use crate::verdicts::suspicion;
use heaptrace_common::{counter::Counter, stack::StackEnd};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::io::{self, Write};

pub(super) const SCHEMA: u32 = 1;

pub(super) const EXPORT: Export = Export {
    name: "json",
    help: "Everything, for scripts.",
    files: &["*.json"],
    content: Content::Views,
    is_binary: false,
    past: Past::None,
    tells_losses: true,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    write_json(&document(profile, options), out)?;
    writeln!(out)?;
    Ok(None)
}

/// The report; its parts are what [`super::ndjson`] writes a line each.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    #[serde(flatten)]
    pub head: Head<'a>,
    pub processes: Processes<'a>,
    pub sites: Sites<'a>,
    #[serde(flatten)]
    pub tail: Tail<'a>,
}

#[derive(Serialize)]
pub(super) struct Head<'a> {
    schema: u32,
    heaptrace: &'a str,
    host: Host<'a>,
    started: String,
    duration_s: f64,
    mode: &'static str,
    sample_bytes: u64,
    coverage: Coverage<'a>,
}

#[derive(Serialize)]
pub(super) struct Tail<'a> {
    hidden: Hidden,
    /// Frees were not traced: what is live is at most that.
    live_is_bound: bool,
    /// What suppression files name; `null` where there are none. It is in no other number but those of memory that was measured.
    ignored: Option<ignored::Entry<'a>>,
    /// What part of the recording's time it is of, where that is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<PartData>,
    /// Suspicious frees, where they were looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    frees: Option<frees::Entry<'a>>,
}

/// Sites that `min_bytes` leaves out, and their bytes in the chosen view.
#[derive(Default, Serialize)]
struct Hidden {
    sites: u64,
    bytes: u64,
}

#[derive(Serialize)]
pub(super) struct Host<'a> {
    pub kernel: &'a str,
    pub arch: &'a str,
}

#[derive(Serialize)]
pub(super) struct Coverage<'a> {
    events: u64,
    lost: Lost<'a>,
    unknown_frees: u64,
    missed_returns: u64,
    attached_fraction: f64,
    stacks: Stacks,
    untraceable: Vec<Untraceable<'a>>,
    unpaired_returns: u64,
    nested_calls: u64,
    finished: bool,
    /// Sentences, one a case.
    notes: Vec<String>,
    size_filter: Option<SizeRange>,
    facts: Vec<Fact<'a>>,
    /// What tracing cost the traced processes; `null` where what a hit costs was not measured.
    overhead: Option<Overhead>,
}

/// Hits of probes, and what they took.
#[derive(Serialize)]
struct Overhead {
    hits: u64,
    /// Of one hit: the trap, and the BPF program.
    trap_ns: u64,
    program_ns: u64,
    seconds: f64,
    /// Processor time of the traced processes, these seconds among it.
    cpu_seconds: f64,
    fraction: Option<f64>,
}

#[derive(Serialize)]
struct SizeRange {
    min: u64,
    max: u64,
}

#[derive(Serialize)]
pub(super) struct Stacks {
    complete: u64,
    truncated: Truncated,
}

/// Allocations by the name of each [`StackEnd`] but `Complete`.
pub(super) struct Truncated(Vec<(StackEnd, u64)>);

impl Serialize for Truncated {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (end, count) in &self.0 {
            map.serialize_entry(end.name(), count)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
pub(super) struct Untraceable<'a> {
    pid: u32,
    reason: &'a str,
    comm: &'a str,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    comm: &'a str,
    exe: &'a str,
    allocators: Vec<Allocator<'a>>,
    live_bytes: u64,
    live_count: u64,
    peak_live_bytes: u64,
    alloc_bytes: u64,
    alloc_count: u64,
    free_bytes: u64,
    free_count: u64,
    brk_bytes: i64,
    mmap_bytes: u64,
    munmap_bytes: u64,
    rss_bytes: u64,
    parent_pid: Option<u32>,
    released_bytes: u64,
    released_count: u64,
    failed_count: u64,
    unknown_frees: u64,
    missed_frees: u64,
    heaps_ended: u64,
    unseen_calls: u64,
    inherited_bytes: u64,
    inherited_count: u64,
    inherited_free_count: u64,
    lost_bytes: u64,
    lost_count: u64,
    exited: bool,
    attach_gap_s: Option<f64>,
    filtered_bytes: u64,
    filtered_count: u64,
    /// `null` if it was never measured.
    rss: Option<rss::Section>,
    attached_fraction: f64,
    gone_bytes: u64,
    gone_count: u64,
    /// `null` where blocks are not sampled.
    estimate: Option<&'a ProcessEstimate>,
    /// Hits of its probes.
    hits: u64,
    /// Processor time while it was a target; `null` if it was never read.
    cpu_s: Option<f64>,
    /// How long its probes were away on purpose.
    paused_s: f64,
}

#[derive(Serialize)]
struct Allocator<'a> {
    kind: &'a str,
    path: &'a str,
}

#[derive(Serialize)]
struct SiteEntry<'a> {
    pid: u32,
    /// `null` of calls that map memory, and of faults: what became of the memory is not known.
    live_bytes: Option<u64>,
    live_count: Option<u64>,
    alloc_bytes: u64,
    alloc_count: u64,
    free_bytes: Option<u64>,
    free_count: Option<u64>,
    oldest_age_s: Option<f64>,
    stack_end: &'static str,
    stack: Frames<'a>,
    function: &'static str,
    released_bytes: u64,
    released_count: u64,
    /// Blocks by size: `[least, most, count]`, classes without blocks left out.
    sizes: Vec<SizeClass>,
    gone_bytes: u64,
    gone_count: u64,
    /// `null` where blocks are not sampled.
    estimate: Option<Intervals>,
    /// `null` for a site that cannot be judged, and in recordings that did not finish.
    verdict: Option<verdicts::Entry>,
    /// Whose calls they are, where the recording tells that; not of what found no room among the sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<ThreadEntry<'a>>,
    /// Freed blocks by how long they lived, in seconds: `[least, end, count]`, classes without blocks left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetimes: Option<Vec<LifetimeClass>>,
}

/// `[least, end, count]` of a class of lifetimes; `end` is null where there is none.
type LifetimeClass = (f64, Option<f64>, u64);

fn lifetime_classes(of: &LifetimeHistogram) -> Vec<LifetimeClass> {
    let classes = of.0.iter().enumerate().filter(|(_, count)| **count > 0);
    classes
        .map(|(class, count)| {
            let (least, end) = LifetimeHistogram::range(class);
            (in_seconds(least), end.map(in_seconds), *count)
        })
        .collect()
}

/// A thread, by the name that it had when it called.
#[derive(Serialize)]
pub(super) struct ThreadEntry<'a> {
    tid: u32,
    name: &'a str,
}

impl<'a> ThreadEntry<'a> {
    pub fn of(profile: &'a Profile, thread: Option<ThreadId>) -> Option<Self> {
        let Thread { tid, name } = thread.and_then(|id| profile.threads.get(id.index()))?;
        Some(Self { tid: *tid, name })
    }
}

/// Between what the truth lies 95 times in 100, `[low, high]`, and the samples that it is estimated from.
#[derive(Serialize)]
struct Intervals {
    samples: u64,
    live_bytes: (u64, u64),
    live_count: (u64, u64),
    alloc_bytes: (u64, u64),
    alloc_count: (u64, u64),
}

impl Intervals {
    fn new(allocated: Estimated, live: Estimated) -> Self {
        Self {
            samples: allocated.bytes.samples,
            live_bytes: live.bytes.interval95(),
            live_count: live.count.interval95(),
            alloc_bytes: allocated.bytes.interval95(),
            alloc_count: allocated.count.interval95(),
        }
    }
}

/// The same of a process, and what is known of it for certain.
#[derive(Serialize)]
struct ProcessEstimate {
    #[serde(flatten)]
    intervals: Intervals,
    /// All that it allocated, sampled or not; not known where its allocator chose the samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_count: Option<u64>,
    /// Bytes from one sample to the next, where its allocator chose them.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_sample_bytes: Option<u64>,
}

/// Processes as they are written, one in memory at a time, too.
pub(super) struct Processes<'a> {
    profile: &'a Profile,
    options: Options,
    /// By process, where blocks are sampled.
    estimates: Vec<Option<ProcessEstimate>>,
}

impl Serialize for Processes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl Processes<'_> {
    pub fn iter(&self) -> impl Iterator<Item = impl Serialize> {
        let Self { profile, options, estimates } = self;
        let processes = profile.processes.iter().enumerate();
        processes.filter(|(_, process)| chosen(process, options)).map(|(index, of)| Process {
            estimate: estimates.get(index).and_then(Option::as_ref),
            ..process(of, rss::section(profile, index))
        })
    }
}

/// Sites as they are written, one in memory at a time: there may be hundreds of thousands.
pub(super) struct Sites<'a> {
    profile: &'a Profile,
    /// Of blocks with their numbers.
    sites: Vec<(Option<SiteId>, &'a Site)>,
}

impl Serialize for Sites<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl Sites<'_> {
    pub fn iter(&self) -> impl Iterator<Item = impl Serialize> {
        self.sites.iter().map(|(id, site)| site_entry(self.profile, *id, site))
    }
}

pub(super) fn document<'a>(profile: &'a Profile, options: &'a Options) -> Document<'a> {
    let weigh = |site: &Site| amount_of(&site.totals, options.view);
    // None of those of blocks is left out before.
    let number = |index| options.view.is_of_blocks().then_some(SiteId(index));
    let mut sites: Vec<(Option<SiteId>, &Site)> = (0..)
        .map(number)
        .zip(sites(profile, options.view))
        .filter(|(_, site)| profile.processes.get(site.process.index()).is_some_and(|p| chosen(p, options)))
        .collect();
    let mut hidden = Hidden::default();
    sites.retain(|(_, site)| {
        let bytes = weigh(site).bytes;
        let keep = bytes >= options.min_bytes;
        if !keep {
            hidden.sites += 1;
            hidden.bytes = hidden.bytes.saturating_add(bytes);
        }
        keep
    });
    // Stable: equal ones stay in the order in which they were seen.
    sites.sort_by_cached_key(|(id, site)| {
        let Amount { bytes, count } = weigh(site);
        let id = id.filter(|_| options.view == View::Leaks);
        let judged = id.and_then(|id| verdicts::of_site(profile, id));
        (suspicion(judged.as_ref()), std::cmp::Reverse((bytes, count)))
    });
    let head = Head {
        schema: SCHEMA,
        heaptrace: &profile.heaptrace,
        host: Host { kernel: &profile.host.kernel, arch: &profile.host.arch },
        started: text::started(profile),
        duration_s: in_seconds(profile.duration_ns),
        mode: profile.mode.name(),
        sample_bytes: profile.sample_bytes(),
        coverage: coverage(profile),
    };
    Document {
        head,
        processes: Processes { profile, options: options.clone(), estimates: estimates(profile) },
        sites: Sites { profile, sites },
        tail: Tail {
            hidden,
            live_is_bound: profile.mode.ends_unseen(),
            part: PartData::new(profile),
            ignored: options.ignored.as_ref().map(Ignored::entry),
            frees: frees::entry(profile, options),
        },
    }
}

impl Stacks {
    pub fn new(mut ends: BTreeMap<StackEnd, u64>) -> Self {
        let complete = ends.remove(&StackEnd::Complete).unwrap_or_default();
        Self { complete, truncated: Truncated(ends.into_iter().collect()) }
    }
}

impl<'a> Untraceable<'a> {
    pub fn new(process: &'a crate::model::Untraceable) -> Self {
        Self { pid: process.pid, reason: &process.reason, comm: &process.comm }
    }
}

pub(super) fn coverage(profile: &Profile) -> Coverage<'_> {
    let crate::model::Coverage {
        events,
        counts,
        unknown_frees,
        untraceable,
        size_filter,
        hit_price,
        finished,
        notes: facts,
    } = &profile.coverage;
    let overhead = profile.overhead().zip(*hit_price);
    Coverage {
        events: *events,
        lost: Lost(counts),
        unknown_frees: *unknown_frees,
        missed_returns: counts.get(Counter::MissedReturn),
        attached_fraction: profile.attached_fraction(),
        stacks: Stacks::new(profile.stack_ends()),
        untraceable: untraceable.iter().map(Untraceable::new).collect(),
        unpaired_returns: counts.get(Counter::UnpairedReturn),
        nested_calls: counts.get(Counter::Nested),
        finished: *finished,
        notes: notes::sentences(facts),
        size_filter: size_filter.map(|SizeFilter { min, max }| SizeRange { min, max }),
        facts: notes::facts(facts),
        overhead: overhead.map(|(of, price)| Overhead {
            hits: of.hits,
            trap_ns: price.trap_ns,
            program_ns: price.program_ns,
            seconds: in_seconds(of.ns),
            cpu_seconds: in_seconds(of.cpu_ns),
            fraction: of.fraction(),
        }),
    }
}

/// Of each process, what its sites come to; of none where blocks are not sampled.
fn estimates(profile: &Profile) -> Vec<Option<ProcessEstimate>> {
    let mode = profile.mode;
    let [allocated, live] = [View::Alloc, View::Live].map(|view| estimated_processes(profile, view));
    let known = |process: &crate::model::Process, seen| {
        (!process.chooses_samples(mode) || process.seen_count > 0).then_some(seen)
    };
    let of = |(process, (allocated, live)): (&crate::model::Process, (Estimated, Estimated))| {
        let own = process.chooses_samples(mode).then_some(process.own_sample_bytes);
        // Before an allocator's first sample nobody knows how far they lie apart.
        (own != Some(0)).then(|| ProcessEstimate {
            intervals: Intervals::new(allocated, live),
            seen_bytes: known(process, process.seen_bytes),
            seen_count: known(process, process.seen_count),
            own_sample_bytes: own,
        })
    };
    profile.processes.iter().zip(allocated.into_iter().zip(live)).map(of).collect()
}

fn process(process: &crate::model::Process, rss: Option<rss::Section>) -> Process<'_> {
    let crate::model::Process {
        pid,
        parent_pid,
        comm,
        exe,
        allocators,
        totals,
        peak_live_bytes,
        failed_count,
        unknown_frees,
        missed_frees,
        heaps_ended,
        unseen_calls,
        inherited_bytes,
        inherited_count,
        inherited_free_count,
        lost_bytes,
        lost_count,
        filtered_bytes,
        filtered_count,
        brk_bytes,
        mmap_bytes,
        munmap_bytes,
        rss_bytes,
        exited,
        attach_gap_ns,
        life_ns: _,
        attached_ns: _,
        over: _,
        seen_bytes: _,
        seen_count: _,
        own_sample_bytes: _,
        hits,
        cpu_ns,
        paused_ns,
        paused: _,
    } = process;
    Process {
        pid: *pid,
        comm,
        exe,
        allocators: allocators.iter().map(|a| Allocator { kind: &a.kind, path: &a.path }).collect(),
        live_bytes: totals.live_bytes(),
        live_count: totals.live_count(),
        peak_live_bytes: *peak_live_bytes,
        alloc_bytes: totals.alloc_bytes,
        alloc_count: totals.alloc_count,
        free_bytes: totals.free_bytes,
        free_count: totals.free_count,
        brk_bytes: *brk_bytes,
        mmap_bytes: *mmap_bytes,
        munmap_bytes: *munmap_bytes,
        rss_bytes: *rss_bytes,
        parent_pid: *parent_pid,
        released_bytes: totals.released_bytes,
        released_count: totals.released_count,
        failed_count: *failed_count,
        unknown_frees: *unknown_frees,
        missed_frees: *missed_frees,
        heaps_ended: *heaps_ended,
        unseen_calls: *unseen_calls,
        inherited_bytes: *inherited_bytes,
        inherited_count: *inherited_count,
        inherited_free_count: *inherited_free_count,
        lost_bytes: *lost_bytes,
        lost_count: *lost_count,
        exited: *exited,
        attach_gap_s: attach_gap_ns.map(in_seconds),
        filtered_bytes: *filtered_bytes,
        filtered_count: *filtered_count,
        rss,
        attached_fraction: process.attached_fraction(),
        gone_bytes: totals.gone_bytes,
        gone_count: totals.gone_count,
        estimate: None,
        hits: *hits,
        cpu_s: cpu_ns.map(in_seconds),
        paused_s: in_seconds(*paused_ns),
    }
}

fn site_entry<'a>(profile: &'a Profile, id: Option<SiteId>, site: &'a Site) -> SiteEntry<'a> {
    let judged = id.and_then(|id| verdicts::of_site(profile, id));
    let Site { process, stack, function, totals, oldest_age_ns, sizes, samples: _, thread, lifetimes } = site;
    let has_lifetimes = profile.has_lifetimes && function.is_allocation();
    let estimated = |view| estimated(site, profile, view);
    let both = estimated(View::Alloc).zip(estimated(View::Live));
    let of_blocks = |number: u64| function.is_allocation().then_some(number);
    SiteEntry {
        pid: profile.processes.get(process.index()).map_or(0, |process| process.pid),
        live_bytes: of_blocks(totals.live_bytes()),
        live_count: of_blocks(totals.live_count()),
        alloc_bytes: totals.alloc_bytes,
        alloc_count: totals.alloc_count,
        free_bytes: of_blocks(totals.free_bytes),
        free_count: of_blocks(totals.free_count),
        oldest_age_s: oldest_age_ns.map(in_seconds),
        stack_end: profile.stacks.get(stack.index()).map_or(StackEnd::NotWalked, |stack| stack.end).name(),
        stack: Frames { profile, stack: *stack },
        function: function.name(),
        released_bytes: totals.released_bytes,
        released_count: totals.released_count,
        sizes: size_classes(sizes),
        gone_bytes: totals.gone_bytes,
        gone_count: totals.gone_count,
        estimate: both.map(|(allocated, live)| Intervals::new(allocated, live)),
        verdict: judged.map(|judged| verdicts::Entry::new(&judged, profile.mode.sample_bytes() != 0)),
        thread: ThreadEntry::of(profile, *thread),
        lifetimes: has_lifetimes.then(|| lifetime_classes(lifetimes)),
    }
}

/// `[least, most, count]` of a class of sizes; `most` is null where there is no such end.
pub(super) type SizeClass = (u64, Option<u64>, u64);

/// Classes that have blocks.
pub(super) fn size_classes(sizes: &SizeHistogram) -> Vec<SizeClass> {
    let classes = (0..).zip(&sizes.0).filter(|(_, count)| **count > 0);
    classes
        .map(|(class, count)| {
            let (least, most) = SizeHistogram::range(class);
            (least, most, *count)
        })
        .collect()
}
