//! Verification of probe sites in place: for a function's first calls its entry is probed, too, and its sites are held to
//! what the entry saw (`heaptrace_common::check`). A function whose calls are not as its code says is probed in the next
//! safer way, or not at all, and the report says so.

use super::{Session, TargetError, monotonic_ns, probing::probe_sites_of};
use crate::{
    bpf::{FunctionCheck, Links, ProbeSite},
    drain::ProfileBuilder,
    probes::plan::{FilePlan, Probe},
    process::{
        object::{FileStamp, Object},
        procfs,
    },
};
use heaptrace_common::{check::Check, function::Shape, record::ProcessRecord};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

/// Calls after which a function is believed.
const ENOUGH: u64 = 20_000;

/// Processes of one file whose calls are looked at: the code is the same in all.
const PROCESSES: usize = 4;

/// Where calls of all processes are looked at, threads of those that are not known yet.
const ELSEWHERE: u64 = 64;

/// Of calls that were left without a site, so many, and one in so many, speak against a function, if so many frees of
/// blocks that nothing was known of came with each. Exceptions and longjmp leave calls, too, but no blocks.
const MANY_LEFT: u64 = 64;
const ONE_IN: u64 = 16;
const FREES_IN_LEFT: u64 = 4;

/// Blocks of a session whose frees were missed since a function was believed, from which on it is looked at again.
const MANY_MISSED: u64 = 256;

/// What looks at one process's calls of a function, or at all processes'.
struct Watch {
    /// `None` for all.
    pid: Option<u32>,
    links: Links,
}

/// Since when hits count.
#[derive(Clone, Copy, Default)]
struct Opening {
    /// Calls that had been unannounced until then.
    unannounced: u64,
    /// That could have had a call under way then.
    threads: u64,
}

/// One function under verification.
struct Verified {
    file: Arc<Object>,
    /// File offset of its entry.
    entry: u64,
    symbol: String,
    ends_here: bool,
    /// Unannounced calls of openings before this one that could have been under way when it was opened.
    excused: u64,
    opening: Opening,
    /// Frees of unknown blocks up to then, of all processes.
    unknown_frees: u64,
    check: Arc<FunctionCheck>,
    watches: Vec<Watch>,
}

/// See the module.
#[derive(Default)]
pub struct Verification {
    running: Vec<Verified>,
    /// Files, and entries in them, that are believed.
    believed: HashSet<(FileStamp, u64)>,
    /// Whose calls of a file are looked at, or were until they were believed.
    processes: HashMap<FileStamp, HashSet<Option<u32>>>,
    /// Calls that gave way to others, in functions that are not looked at any more.
    displaced: u64,
    /// Frees that were missed when functions were last begun to be looked at.
    missed: u64,
}

impl Verification {
    /// Ends it; gives the links to let go of.
    pub fn end(&mut self) -> Vec<Links> {
        let watches = self.running.drain(..).flat_map(|verified| verified.watches);
        watches.map(|watch| watch.links).collect()
    }

    /// Looks at a process no more, as its probes go; gives the links to let go of.
    pub fn forget(&mut self, pid: u32) -> Vec<Links> {
        let owner = Some(pid);
        self.processes.values_mut().for_each(|processes| _ = processes.remove(&owner));
        let gone = self.running.iter_mut().flat_map(|verified| {
            verified.watches.extract_if(.., |watch| watch.pid == owner).map(|watch| watch.links)
        });
        gone.collect()
    }

    /// Ends the verification of what is looked at in a process, in all, from this moment on; gives the links to let go of.
    /// Those that go one after the other would make calls seem unannounced.
    pub fn abandon(&mut self, pid: u32) -> Vec<Links> {
        let is_of = |verified: &Verified| verified.watches.iter().any(|watch| watch.pid == Some(pid));
        let abandoned = self.running.extract_if(.., |verified| is_of(verified));
        let watches = abandoned.flat_map(|verified| {
            verified.check.open(false);
            self.displaced += verified.check.seen().not_kept;
            verified.watches
        });
        watches.map(|watch| watch.links).collect()
    }

    /// Forgets functions that no process's calls are looked at of.
    pub fn forget_unwatched(&mut self) {
        let gone = self.running.extract_if(.., |verified| verified.watches.is_empty());
        self.displaced += gone.map(|verified| verified.check.seen().not_kept).sum::<u64>();
    }

    /// No hits count until [`Session::open_checks`].
    fn close_all(&mut self) {
        self.running.iter_mut().for_each(Verified::close);
    }

    fn position(&self, file: FileStamp, probe: &Probe) -> Option<usize> {
        self.running.iter().position(|verified| verified.file.stamp == file && verified.entry == probe.entry)
    }

    /// Whether a function is to be looked at in a process, or in all, and is not yet: twice, each call would seem to be two.
    fn is_wanted(&self, file: FileStamp, probe: &Probe, owner: Option<u32>) -> bool {
        let watched = |at: usize| self.running[at].watches.iter().any(|watch| watch.pid == owner);
        probe.entered.is_some()
            && !self.believed.contains(&(file, probe.entry))
            && !self.position(file, probe).is_some_and(watched)
    }
}

/// A function that something speaks against.
struct Doubt {
    file: Arc<Object>,
    entry: u64,
    symbol: String,
    /// Since tracing began.
    after: Duration,
    why: String,
}

impl Doubt {
    fn is_of(&self, verified: &Verified) -> bool {
        self.file.stamp == verified.file.stamp && self.entry == verified.entry
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, symbol, after, why, .. } = self;
        write!(f, "{symbol} in {}: after {:.1} s, {why}", file.path.display(), after.as_secs_f64())
    }
}

/// What speaks against a function, if anything does. So many calls of any function may seem to be unannounced.
fn doubt(seen: &Check, ends_here: bool, may_seem: u64, unknown_frees: u64) -> Option<String> {
    let of = |count: u64, what: &str| Some(format!("{count} of {} calls {what}", seen.calls));
    if seen.other_size > 0 {
        return of(seen.other_size, "had another size at the probe than at the entry");
    }
    if seen.other_return > 0 {
        return of(seen.other_return, "had another return address at the probe than at the entry");
    }
    if seen.no_result > 0 {
        return of(seen.no_result, "had a result that no allocator gives");
    }
    if seen.unannounced > may_seem {
        return Some(format!(
            "{} calls reached a probe twice, or without passing the function's entry",
            seen.unannounced
        ));
    }
    let many_left = seen.left > MANY_LEFT.max(seen.calls / ONE_IN);
    if ends_here && many_left && unknown_frees >= seen.left / FREES_IN_LEFT {
        return of(seen.left, "passed no probe, and frees came of blocks that nothing was known of");
    }
    None
}

impl Verified {
    /// Whether the kernel may have taken breakpoints of a process with its first thread, an entry's before a site's.
    fn is_leaderless(&self) -> bool {
        self.watches.iter().filter_map(|watch| watch.pid).any(|pid| !procfs::is_running(pid, pid))
    }

    fn close(&mut self) {
        self.excused = self.may_seem(self.check.seen().unannounced);
        self.check.open(false);
        self.opening = Opening::default();
    }

    fn open(&mut self, threads: &mut Threads<'_>) {
        self.check.open(true);
        self.opening = Opening { unannounced: self.check.seen().unannounced, threads: self.threads(threads) };
    }

    /// How many of its `unannounced` calls may only seem so, as they were under way when it was opened.
    fn may_seem(&self, unannounced: u64) -> u64 {
        let since = unannounced.saturating_sub(self.opening.unannounced);
        self.excused + since.min(self.opening.threads)
    }

    /// Of the processes whose calls are looked at.
    fn threads(&self, threads: &mut Threads<'_>) -> u64 {
        self.watches.iter().map(|watch| watch.pid.map_or_else(|| threads.of_all(), thread_count)).sum()
    }
}

/// Counts threads: those of all processes once, as it takes a while.
struct Threads<'a> {
    builder: &'a ProfileBuilder,
    all: Option<u64>,
}

impl<'a> Threads<'a> {
    fn new(builder: &'a ProfileBuilder) -> Self {
        Self { builder, all: None }
    }

    fn of_all(&mut self) -> u64 {
        let count = || ELSEWHERE + self.builder.running().map(|(_, pid)| thread_count(pid)).sum::<u64>();
        *self.all.get_or_insert_with(count)
    }
}

fn thread_count(pid: u32) -> u64 {
    procfs::threads(pid).map_or(1, |threads| threads.len() as u64)
}

impl Session {
    /// Has the functions of a file that was probed just now verified in a process.
    pub(super) fn verify(&mut self, pid: u32, thread: u32, plan: &FilePlan) {
        // Its breakpoints are held, but for those that are for verification alone.
        if self.leaderless.thread_of(pid).is_some() {
            return;
        }
        let id = plan.file.stamp;
        let owner = self.per_process.then_some(pid);
        let looked_at = self.verification.processes.entry(id).or_default();
        if looked_at.len() >= PROCESSES && !looked_at.contains(&owner) {
            return;
        }
        looked_at.insert(owner);
        let scope = self.per_process.then_some(thread);
        let wanted: Vec<&Probe> =
            plan.probes.iter().filter(|probe| self.verification.is_wanted(id, probe, owner)).collect();
        let mut all_threads = None;
        for probe in wanted {
            let Some(entered) = &probe.entered else { continue };
            let at = self.verification.position(id, probe).or_else(|| self.begin_check(plan, probe));
            let Some(verified) = at.and_then(|at| self.verification.running.get_mut(at)) else { continue };
            let entered = ProbeSite { offset: entered.offset, record: entered.record };
            let sites: Vec<ProbeSite> = std::iter::once(entered).chain(probe_sites_of(probe)).collect();
            // While it is closed: sites are placed one after the other.
            verified.close();
            // Without, nothing is verified by this process; the numbers are the same.
            if let Ok(links) = self.tracer.watch_for(&verified.check, &plan.file.attach_path(), &sites, scope)
            {
                verified.watches.push(Watch { pid: owner, links });
            }
            let mut threads = Threads { builder: &self.builder, all: all_threads };
            verified.open(&mut threads);
            all_threads = threads.all;
        }
    }

    fn open_checks(&mut self) {
        let mut threads = Threads::new(&self.builder);
        self.verification.running.iter_mut().for_each(|verified| verified.open(&mut threads));
    }

    fn begin_check(&mut self, plan: &FilePlan, probe: &Probe) -> Option<usize> {
        // Not a static program, which can have an allocator of its own beside glibc's start. posix_memalign's result is no
        // block.
        let glibc = plan.allocator.kind == "glibc"
            && plan.file.elf.soname.as_deref() == Some("libc.so.6")
            && probe.shape != Shape::OutPointer;
        let check = self.tracer.new_check(glibc).or_else(|| {
            self.verification.forget_unwatched();
            self.tracer.new_check(glibc)
        })?;
        self.verification.running.push(Verified {
            file: Arc::clone(&plan.file),
            entry: probe.entry,
            symbol: probe.symbol.clone(),
            ends_here: probe.ends_here,
            excused: 0,
            opening: Opening::default(),
            unknown_frees: self.frees(|record| record.unknown_frees),
            check: Arc::new(check),
            watches: Vec::new(),
        });
        Some(self.verification.running.len() - 1)
    }

    /// Once a second.
    pub(super) fn look_at_checks(&mut self) {
        if self.counting.is_over() {
            return;
        }
        let doubted = self.doubted();
        let is_over = |verified: &Verified| {
            verified.check.seen().calls >= ENOUGH || doubted.iter().any(|doubt| doubt.is_of(verified))
        };
        let over: Vec<Verified> =
            self.verification.running.extract_if(.., |verified| is_over(verified)).collect();
        let mut idle = Vec::new();
        for verified in over {
            verified.check.open(false);
            self.verification.believed.insert((verified.file.stamp, verified.entry));
            self.verification.displaced += verified.check.seen().not_kept;
            idle.extend(verified.watches);
        }
        self.drop_aside(idle);
        for doubt in doubted {
            self.distrust(&doubt);
        }
        self.doubt_again();
    }

    /// At the end, once nothing counts any more: nothing can be done but to say so.
    pub(super) fn look_at_checks_last(&mut self) {
        for doubt in self.doubted() {
            self.note(format!("{doubt}: what was counted of it is not to be trusted"));
        }
    }

    /// The functions that something speaks against.
    fn doubted(&mut self) -> Vec<Doubt> {
        let unknown_frees = self.frees(|record| record.unknown_frees);
        let after = self.counting.elapsed();
        let seen: Vec<Check> =
            self.verification.running.iter().map(|verified| verified.check.seen()).collect();
        let displaced = self.verification.displaced + seen.iter().map(|seen| seen.not_kept).sum::<u64>();
        let mut threads = Threads::new(&self.builder);
        let mut doubted = Vec::new();
        for (verified, seen) in self.verification.running.iter_mut().zip(&seen) {
            if seen.unannounced > verified.may_seem(seen.unannounced) + displaced {
                // A process begins to count later than its functions are looked at, and may have more threads by then.
                verified.opening.threads = verified.opening.threads.max(verified.threads(&mut threads));
            }
            let mut may_seem = verified.may_seem(seen.unannounced) + displaced;
            // After what was seen: so long it had its first thread.
            if seen.unannounced > may_seem && verified.is_leaderless() {
                may_seem = seen.unannounced;
            }
            let unknown_frees = unknown_frees.saturating_sub(verified.unknown_frees);
            doubted.extend(doubt(seen, verified.ends_here, may_seem, unknown_frees).map(|why| Doubt {
                file: Arc::clone(&verified.file),
                entry: verified.entry,
                symbol: verified.symbol.clone(),
                after,
                why,
            }));
        }
        doubted
    }

    /// Lets go of functions that have been seen enough, whose calls cost a trap more until then. For several times a second.
    pub fn let_go_of_verified(&mut self) {
        if self.verification.running.iter().any(|verified| verified.check.seen().calls >= ENOUGH) {
            self.look_at_checks();
        }
    }

    /// Verifies what is not, where it is probed.
    pub(super) fn verify_all(&mut self) {
        for (pid, plan) in self.placed_plans() {
            self.verify(pid, pid, &plan);
        }
    }

    /// Where frees go missing although all seemed well, all is looked at again.
    fn doubt_again(&mut self) {
        let missed = self.frees(|record| record.missed_frees);
        if missed < self.verification.missed.saturating_add(MANY_MISSED) {
            return;
        }
        self.verification.missed = missed;
        self.verification.believed.clear();
        self.verification.processes.clear();
        self.verify_all();
    }

    /// Of the processes that run.
    fn frees(&self, count: impl Fn(&ProcessRecord) -> u64) -> u64 {
        self.builder.running().filter_map(|(record, _)| self.builder.record(record)).map(count).sum()
    }

    /// What is probed in which process, or in one of those that have a file mapped.
    fn placed_plans(&self) -> Vec<(u32, FilePlan)> {
        let own =
            self.probed.iter().flat_map(|(pid, placed)| placed.plans().map(|plan| (*pid, plan.clone())));
        let any = self.builder.running().next().map_or(0, |(_, pid)| pid);
        own.chain(self.everywhere.plans().map(|plan| (any, plan.clone()))).collect()
    }

    /// A function's calls were not as its code says: it is probed otherwise from here on, in all processes.
    fn distrust(&mut self, doubt: &Doubt) {
        let Doubt { file, entry, .. } = doubt;
        let since_ns = monotonic_ns();
        let Some(symbols) = self.discoverer.distrust(file, *entry) else { return };
        let refused =
            symbols.functions.iter().any(|function| function.offset == *entry && function.is_refused());
        let from_now = match refused {
            true => "it is not probed any more, so its later blocks are in no total",
            false => {
                "from then on it is probed at its entry and returns, which costs several times more for each call"
            }
        };
        self.note(format!("{doubt}: what was counted of it before is not to be trusted; {from_now}"));
        self.verification.believed.remove(&(file.stamp, *entry));
        // As they are now: an image that was replaced meanwhile would go on with the arm of the one before.
        self.builder.read_processes(&self.tracer.maps);
        let processes: Vec<(u32, u32)> = self.builder.running().collect();
        let concerned: Vec<(u32, u32)> = processes
            .into_iter()
            .filter(|(_, pid)| self.is_probed(*pid, file.id()))
            .filter(|(record, _)| {
                !self.per_process || self.tracer.maps.process(*record).is_some_and(|r| r.armed != 0)
            })
            .collect();
        let records: Vec<u32> = concerned.iter().map(|(record, _)| *record).collect();
        self.verification.close_all();
        records.iter().for_each(|record| self.tracer.maps.disarm(*record));
        let links = match self.per_process {
            true => concerned.iter().flat_map(|(_, pid)| self.unprobe_again(*pid)).collect(),
            false => self.everywhere.remove(file.id()),
        };
        self.tracer.release(links);
        self.tracer.maps.forget_calls(&records);
        for (record, pid) in concerned {
            // Each may call other functions of the file; what is there already is left.
            match self.place_anew(pid) {
                Ok(()) => {
                    let now_ns = monotonic_ns();
                    self.tracer.maps.arm(record, now_ns);
                    self.builder.add_gap(record, since_ns..now_ns);
                }
                Err(error @ TargetError::Refused { .. }) => self.let_go_of_refused(error),
                // It ended meanwhile.
                Err(_) if procfs::threads(pid).map_or(true, |threads| threads.is_empty()) => {}
                Err(error) => {
                    self.builder.add_gap(record, since_ns..u64::MAX);
                    self.note(format!(
                        "process {pid} is not counted any more: it could not be probed again: {error}"
                    ));
                }
            }
        }
        self.open_checks();
        if !self.per_process {
            self.tell_of_children_of(&records, since_ns);
        }
    }

    /// Where probes are for all, children count from their beginning: those that began while they were not in place have
    /// a gap as `records` have, which are told of already.
    fn tell_of_children_of(&mut self, records: &[u32], since_ns: u64) {
        let now_ns = monotonic_ns();
        self.builder.read_processes(&self.tracer.maps);
        let running: Vec<u32> = self.builder.running().map(|(record, _)| record).collect();
        for record in running.into_iter().filter(|record| !records.contains(record)) {
            let started_ns = self.builder.record(record).map_or(0, |record| record.started_ns);
            if (since_ns..now_ns).contains(&started_ns) {
                self.builder.add_gap(record, started_ns..now_ns);
            }
        }
    }

    /// Takes the probes of a process away, which will be placed again.
    fn unprobe_again(&mut self, pid: u32) -> Vec<Links> {
        let is_leaderless = self.leaderless.thread_of(pid).is_some();
        let links = self.unprobe(pid);
        if is_leaderless {
            self.leaderless.expect(pid);
        }
        links
    }

    fn place_anew(&mut self, pid: u32) -> Result<(), TargetError> {
        let found = self.discoverer.discover(pid).map_err(|source| TargetError::Discover { pid, source });
        found.and_then(|(_, plan)| self.place(pid, &plan.files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Check = Check {
        open: 1,
        glibc: 0,
        calls: 1000,
        seen: 998,
        other_size: 0,
        other_return: 0,
        no_result: 0,
        unannounced: 2,
        left: 2,
        not_kept: 0,
    };

    #[test]
    fn calls_under_way_and_exceptions_are_no_doubt() {
        assert_eq!(doubt(&SOUND, true, 2, 0), None);
        assert_eq!(doubt(&Check { unannounced: 7, ..SOUND }, true, 7, 0), None);
        // Other functions take its calls over.
        assert_eq!(doubt(&Check { left: 900, ..SOUND }, false, 2, 900), None);
    }

    #[test]
    fn one_wrong_size_is_enough() {
        for wrong in [
            Check { other_size: 1, ..SOUND },
            Check { other_return: 1, ..SOUND },
            Check { no_result: 1, ..SOUND },
            Check { unannounced: 3, ..SOUND },
        ] {
            assert!(doubt(&wrong, true, 2, 0).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn calls_that_are_left_speak_against_a_function_only_with_blocks_that_came_of_them() {
        let left = Check { left: 80, ..SOUND };
        assert_eq!(doubt(&left, true, 2, 19), None);
        assert!(doubt(&left, true, 2, 20).is_some());
    }
}
