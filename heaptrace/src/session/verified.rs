//! What is known of functions under verification, and when it speaks against one.

use crate::{
    bpf::{FunctionCheck, Links},
    drain::ProfileBuilder,
    probes::plan::Probe,
    process::{
        object::{FileStamp, Object},
        procfs,
    },
};
use heaptrace_common::check::Check;
use std::{
    collections::{HashMap, HashSet},
    fmt,
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
pub struct Watch {
    /// `None` for all.
    pub pid: Option<u32>,
    pub links: Links,
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
pub struct Verified {
    pub file: Arc<Object>,
    /// File offset of its entry.
    pub entry: u64,
    pub symbol: String,
    pub ends_here: bool,
    /// Unannounced calls of openings before this one that could have been under way when it was opened.
    excused: u64,
    opening: Opening,
    /// Frees of unknown blocks up to then, of all processes.
    pub unknown_frees: u64,
    pub check: Arc<FunctionCheck>,
    pub watches: Vec<Watch>,
}

/// See the module.
#[derive(Default)]
pub struct Verification {
    pub running: Vec<Verified>,
    /// Files, and entries in them, that are believed.
    pub believed: HashSet<(FileStamp, u64)>,
    /// Whose calls of a file are looked at, or were until they were believed.
    pub processes: HashMap<FileStamp, HashSet<Option<u32>>>,
    /// Calls that gave way to others, in functions that are not looked at any more.
    pub displaced: u64,
    /// Frees that were missed when functions were last begun to be looked at.
    pub missed: u64,
}

impl Verification {
    /// Ends it; gives the links to let go of.
    pub fn end(&mut self) -> Vec<Links> {
        links_of(self.retire(|_| true))
    }

    /// Looks at a process no more, as its probes go; gives the links to let go of.
    pub fn forget(&mut self, pid: u32) -> Vec<Links> {
        self.give_place(pid);
        let owner = Some(pid);
        let gone = self.running.iter_mut().flat_map(|verified| {
            verified.watches.extract_if(.., |watch| watch.pid == owner).map(|watch| watch.links)
        });
        gone.collect()
    }

    /// Ends the verification of what is looked at in a process, in all, from this moment on; gives the links to let go of.
    /// Those that go one after the other would make calls seem unannounced.
    pub fn abandon(&mut self, pid: u32) -> Vec<Links> {
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
    pub fn retire(&mut self, is_over: impl Fn(&Verified) -> bool) -> Vec<Verified> {
        let retired: Vec<Verified> = self.running.extract_if(.., |verified| is_over(verified)).collect();
        for verified in &retired {
            verified.check.open(false);
            self.displaced += verified.check.seen().not_kept;
        }
        retired
    }

    /// No hits count until `Session::open_checks`.
    pub fn close_all(&self) {
        self.running.iter().for_each(Verified::close);
    }

    /// A process counts from now on, later than its functions are looked at: it may have more threads by now.
    pub fn began_to_count(&mut self, pid: u32, builder: &ProfileBuilder) {
        let mut threads = Threads::default();
        let is_watched = |verified: &&mut Verified| {
            verified.watches.iter().any(|watch| watch.pid.is_none_or(|watched| watched == pid))
        };
        for verified in self.running.iter_mut().filter(is_watched) {
            verified.count_threads(&mut threads, builder);
        }
    }

    pub fn position(&self, file: FileStamp, probe: &Probe) -> Option<usize> {
        self.running.iter().position(|verified| verified.file.stamp == file && verified.entry == probe.entry)
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
    pub fn is_of(&self, verified: &Verified) -> bool {
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

impl Verified {
    /// `probe`'s function in `file`, `unknown_frees` having come until now.
    pub fn new(file: Arc<Object>, probe: &Probe, check: FunctionCheck, unknown_frees: u64) -> Self {
        Self {
            file,
            entry: probe.entry,
            symbol: probe.symbol.clone(),
            ends_here: probe.ends_here,
            excused: 0,
            opening: Opening::default(),
            unknown_frees,
            check: Arc::new(check),
            watches: Vec::new(),
        }
    }

    /// Whether the kernel may have taken breakpoints of a process with its first thread, an entry's before a site's.
    fn is_leaderless(&self) -> bool {
        self.watches.iter().filter_map(|watch| watch.pid).any(|pid| !procfs::is_running(pid, pid))
    }

    pub fn close(&self) {
        self.check.open(false);
    }

    pub fn open(&mut self, threads: &mut Threads, builder: &ProfileBuilder) {
        // Before calls that are under way come to their sites; what has come to one since it was closed is of the opening
        // before, too.
        let unannounced = self.check.seen().unannounced;
        self.excused = self.may_seem(unannounced);
        let before = self.threads(threads, builder);
        self.check.open(true);
        self.opening = Opening { unannounced, threads: before };
        self.count_threads(threads, builder);
    }

    /// Threads that are there now may have a call under way, too.
    fn count_threads(&mut self, threads: &mut Threads, builder: &ProfileBuilder) {
        self.opening.threads = self.opening.threads.max(self.threads(threads, builder));
    }

    /// How many of its `unannounced` calls may only seem so, as they were under way when it was opened.
    fn may_seem(&self, unannounced: u64) -> u64 {
        let since = unannounced.saturating_sub(self.opening.unannounced);
        self.excused + since.min(self.opening.threads)
    }

    /// The same, looked at again where it would speak against the function. With what gave way to others, `displaced` calls
    /// of all functions.
    pub fn may_seem_by_now(
        &mut self,
        unannounced: u64,
        displaced: u64,
        threads: &mut Threads,
        builder: &ProfileBuilder,
    ) -> u64 {
        if unannounced > self.may_seem(unannounced) + displaced {
            self.count_threads(threads, builder);
        }
        let may_seem = self.may_seem(unannounced) + displaced;
        // After what was seen: so long it had its first thread.
        if unannounced > may_seem && self.is_leaderless() { unannounced } else { may_seem }
    }

    /// Of the processes whose calls are looked at.
    fn threads(&self, threads: &mut Threads, builder: &ProfileBuilder) -> u64 {
        self.watches.iter().map(|watch| watch.pid.map_or_else(|| threads.of_all(builder), thread_count)).sum()
    }
}

/// What looks at the calls of `verified`.
pub fn links_of(verified: Vec<Verified>) -> Vec<Links> {
    verified.into_iter().flat_map(|verified| verified.watches).map(|watch| watch.links).collect()
}

/// The threads of all processes, counted once, as it takes a while.
#[derive(Default)]
pub struct Threads {
    all: Option<u64>,
}

impl Threads {
    fn of_all(&mut self, builder: &ProfileBuilder) -> u64 {
        let count = || ELSEWHERE + builder.running().map(|(_, pid)| thread_count(pid)).sum::<u64>();
        *self.all.get_or_insert_with(count)
    }
}

fn thread_count(pid: u32) -> u64 {
    procfs::threads(pid).map_or(1, |threads| threads.len() as u64)
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
