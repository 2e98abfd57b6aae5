//! What is known of functions under verification, and when it speaks against one.

use super::World;
use crate::{
    bpf::FunctionCheck,
    model::{AfterDistrust, Note},
    probes::probe::Probe,
    process::object::{FileStamp, Object},
};
use heaptrace_common::check::Check;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// Where calls of all processes are looked at, threads of those that are not known yet.
const ELSEWHERE: u64 = 64;

/// Of calls that were left without a site, so many, and one in so many, speak against a function, if so many frees of
/// blocks that nothing was known of came with each. Exceptions and longjmp leave calls, too, but no blocks.
const MANY_LEFT: u64 = 64;
const ONE_IN: u64 = 16;
const FREES_IN_LEFT: u64 = 4;

/// What looks at one process's calls of a function, or at all processes'.
pub struct Watch<L> {
    /// `None` for all.
    pub pid: Option<u32>,
    pub links: L,
}

/// Which unannounced calls speak against nothing, as they were under way when hits began to count.
#[derive(Clone, Copy, Default)]
struct Excuse {
    /// Of openings before the last one.
    before: u64,
    /// Calls that had been unannounced until the last one.
    until: u64,
    /// That could have had a call under way then.
    threads: u64,
}

impl Excuse {
    /// How many of so many unannounced calls.
    fn of(&self, unannounced: u64) -> u64 {
        self.before + unannounced.saturating_sub(self.until).min(self.threads)
    }

    /// Hits begin to count again after so many, and so many threads could have a call under way.
    fn open(&mut self, unannounced: u64, threads: u64) {
        *self = Self { before: self.of(unannounced), until: unannounced, threads };
    }

    /// There are so many threads now.
    fn count(&mut self, threads: u64) {
        self.threads = self.threads.max(threads);
    }
}

/// One function under verification.
pub struct Verified<L> {
    pub file: Arc<Object>,
    /// File offset of its entry.
    pub entry: u64,
    pub symbol: String,
    pub ends_here: bool,
    excuse: Excuse,
    /// Frees of unknown blocks up to then, of all processes.
    pub unknown_frees: u64,
    pub check: Arc<FunctionCheck>,
    pub watches: Vec<Watch<L>>,
}

/// See the module.
pub struct Verification<L> {
    pub running: Vec<Verified<L>>,
    /// Files, and entries in them, that are believed.
    pub believed: HashSet<(FileStamp, u64)>,
    /// Whose calls of a file are looked at, or were until they were believed.
    pub processes: HashMap<FileStamp, HashSet<Option<u32>>>,
    /// Calls that gave way to others, in functions that are not looked at any more.
    displaced: u64,
    /// Frees that were missed when functions were last begun to be looked at.
    pub missed: u64,
}

impl<L> Default for Verification<L> {
    fn default() -> Self {
        Self {
            running: Vec::new(),
            believed: HashSet::new(),
            processes: HashMap::new(),
            displaced: 0,
            missed: 0,
        }
    }
}

impl<L> Verification<L> {
    /// Ends it; gives the links to let go of.
    pub fn end(&mut self) -> Vec<L> {
        links_of(self.retire(|_| true))
    }

    /// Looks at a process no more, as its probes go; gives the links to let go of.
    pub fn forget(&mut self, pid: u32) -> Vec<L> {
        self.give_place(pid);
        let owner = Some(pid);
        let gone = self.running.iter_mut().flat_map(|verified| {
            verified.watches.extract_if(.., |watch| watch.pid == owner).map(|watch| watch.links)
        });
        gone.collect()
    }

    /// Ends the verification of what is looked at in a process, in all, from this moment on; gives the links to let go of.
    /// Those that go one after the other would make calls seem unannounced.
    pub fn abandon(&mut self, pid: u32) -> Vec<L> {
        self.give_place(pid);
        links_of(self.retire(|verified| verified.watches.iter().any(|watch| watch.pid == Some(pid))))
    }

    /// Forgets functions that no process's calls are looked at of.
    pub fn forget_unwatched(&mut self) {
        self.retire(|verified| verified.watches.is_empty());
    }

    /// Other processes of its files may be looked at in its place.
    fn give_place(&mut self, pid: u32) {
        self.processes.values_mut().for_each(|processes| _ = processes.remove(&Some(pid)));
    }

    /// Takes the functions out that `is_over` holds for; no hits count for them any more.
    pub fn retire(&mut self, mut is_over: impl FnMut(&Verified<L>) -> bool) -> Vec<Verified<L>> {
        let retired: Vec<Verified<L>> = self.running.extract_if(.., |verified| is_over(verified)).collect();
        for verified in &retired {
            verified.check.open(false);
            self.displaced += verified.check.seen().not_kept;
        }
        retired
    }

    /// No hits count until [`Verification::open`].
    pub fn close_all(&self) {
        self.running.iter().for_each(Verified::close);
    }

    /// Hits of the functions that `is_meant` holds for count from now on.
    pub fn open(&mut self, world: &impl World<L>, is_meant: impl Fn(&Verified<L>) -> bool) {
        let mut meant: Vec<&mut Verified<L>> =
            self.running.iter_mut().filter(|verified| is_meant(verified)).collect();
        let mut threads = Threads::default();
        for verified in &mut meant {
            verified.close();
            // While closed: what has come to a site until then is of the opening before.
            let unannounced = verified.check.seen().unannounced;
            verified.excuse.open(unannounced, threads.of(&verified.watches, world));
        }
        meant.iter().for_each(|verified| verified.check.open(true));
        count_threads(meant, world);
    }

    /// A process counts from now on, later than its functions are looked at: it may have more threads by now.
    pub fn began_to_count(&mut self, pid: u32, world: &impl World<L>) {
        let is_watched =
            |verified: &&mut Verified<L>| verified.watches.iter().any(|watch| watch.pid == Some(pid));
        count_threads(self.running.iter_mut().filter(is_watched).collect(), world);
    }

    /// What was seen of each.
    pub fn seen(&self) -> Vec<Check> {
        self.running.iter().map(|verified| verified.check.seen()).collect()
    }

    /// Calls that gave way to others.
    pub fn displaced(&self) -> u64 {
        self.displaced + self.seen().iter().map(|seen| seen.not_kept).sum::<u64>()
    }

    pub fn position(&self, file: FileStamp, probe: &Probe) -> Option<usize> {
        self.running.iter().position(|verified| verified.file.below == file && verified.entry == probe.entry)
    }

    /// Whether a function is to be looked at in a process, or in all, and is not yet: twice, each call would seem to be two.
    pub fn is_wanted(&self, file: FileStamp, probe: &Probe, owner: Option<u32>) -> bool {
        let watched = |at: usize| self.running[at].watches.iter().any(|watch| watch.pid == owner);
        !self.believed.contains(&(file, probe.entry)) && !self.position(file, probe).is_some_and(watched)
    }
}

/// A function that something speaks against.
pub struct Doubt {
    pub file: Arc<Object>,
    pub entry: u64,
    pub symbol: String,
    /// Since tracing began.
    pub after: Duration,
    pub why: String,
}

impl Doubt {
    pub fn note(&self, then: AfterDistrust) -> Note {
        Note::Distrusted {
            function: self.symbol.clone(),
            path: self.file.path.display().to_string(),
            after_ns: u64::try_from(self.after.as_nanos()).unwrap_or(u64::MAX),
            reason: self.why.clone(),
            then,
        }
    }

    pub fn is_of<L>(&self, verified: &Verified<L>) -> bool {
        self.file.below == verified.file.below && self.entry == verified.entry
    }
}

/// What speaks against a function, if anything does. So many calls of any function may seem to be unannounced.
pub fn doubt(seen: &Check, ends_here: bool, may_seem: u64, unknown_frees: u64) -> Option<String> {
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

impl<L> Verified<L> {
    /// `probe`'s function in `file`, `unknown_frees` having come until now.
    pub fn new(file: Arc<Object>, probe: &Probe, check: FunctionCheck, unknown_frees: u64) -> Self {
        Self {
            file,
            entry: probe.entry,
            symbol: probe.symbol.clone(),
            ends_here: probe.ends_here,
            excuse: Excuse::default(),
            unknown_frees,
            check: Arc::new(check),
            watches: Vec::new(),
        }
    }

    /// Whether the kernel may have taken breakpoints of a process with its first thread, an entry's before a site's.
    fn is_leaderless(&self, world: &impl World<L>) -> bool {
        let mut pids = self.watches.iter().filter_map(|watch| watch.pid);
        pids.any(|pid| world.thread_with_memory(pid) != pid)
    }

    pub fn close(&self) {
        self.check.open(false);
    }

    /// How many of its `unannounced` calls may only seem so; with what gave way to others, `displaced` calls of all
    /// functions. Looks again where it would speak against the function.
    pub fn may_seem(&mut self, unannounced: u64, displaced: u64, world: &impl World<L>) -> u64 {
        if unannounced > self.excuse.of(unannounced) + displaced {
            count_threads(vec![self], world);
        }
        let may_seem = self.excuse.of(unannounced) + displaced;
        // After what was seen: so long it had its first thread.
        if unannounced > may_seem && self.is_leaderless(world) { unannounced } else { may_seem }
    }
}

/// Threads that are there now may have a call under way, too.
fn count_threads<L>(of: Vec<&mut Verified<L>>, world: &impl World<L>) {
    let mut threads = Threads::default();
    for verified in of {
        verified.excuse.count(threads.of(&verified.watches, world));
    }
}

/// What looks at the calls of `verified`.
pub fn links_of<L>(verified: Vec<Verified<L>>) -> Vec<L> {
    verified.into_iter().flat_map(|verified| verified.watches).map(|watch| watch.links).collect()
}

/// The threads of processes, each counted once, as it takes a while.
#[derive(Default)]
struct Threads {
    by_owner: HashMap<Option<u32>, u64>,
}

impl Threads {
    /// Of the processes whose calls are looked at.
    fn of<L>(&mut self, watches: &[Watch<L>], world: &impl World<L>) -> u64 {
        let count = |pid: Option<u32>| match pid {
            Some(pid) => thread_count(world, pid),
            None => {
                ELSEWHERE + world.builder().running().map(|(_, pid)| thread_count(world, pid)).sum::<u64>()
            }
        };
        watches.iter().map(|watch| *self.by_owner.entry(watch.pid).or_insert_with(|| count(watch.pid))).sum()
    }
}

fn thread_count<L>(world: &impl World<L>, pid: u32) -> u64 {
    world.threads(pid).len().max(1) as u64
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
    fn each_opening_excuses_as_many_calls_as_there_are_threads() {
        let mut excuse = Excuse::default();
        assert_eq!(excuse.of(1), 0);
        excuse.open(0, 4);
        assert_eq!((excuse.of(3), excuse.of(5)), (3, 4));
        // Three were under way; they are excused for good, and four more may be now.
        excuse.open(3, 4);
        assert_eq!((excuse.of(3), excuse.of(7), excuse.of(9)), (3, 7, 7));
        excuse.count(2);
        assert_eq!(excuse.of(9), 7);
        excuse.count(6);
        assert_eq!(excuse.of(9), 9);
        // What came beyond is not excused by opening again.
        excuse.open(12, 6);
        assert_eq!((excuse.of(12), excuse.of(13)), (9, 10));
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
