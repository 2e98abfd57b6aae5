//! Processes whose first thread is gone while others go on.
//!
//! What is probed for one process asks the thread that it was made for whose memory to keep breakpoints in
//! (`uprobe_multi_link_filter`, kernel/trace/bpf_trace.c; `__uprobe_perf_filter`, kernel/trace/trace_uprobe.c), and a
//! thread that has exited has none: at the next change to any probe of the same function, be it another tracer's, the
//! breakpoints go, in silence. A link's programs run for all threads of the process still, so other probes hold its
//! breakpoints, which do nothing and are made for threads that live. A perf event's program does not run any more, and
//! is placed again by way of another thread.

use super::{Attachments, World, held::Kept};
use crate::{model::Note, probes::plan::FilePlan, session::error::TargetError};

/// Threads that breakpoints are held for: all of them would have to exit within a second for these to go.
const THREADS: usize = 3;

impl<L: Send + 'static> Attachments<L> {
    /// A process's probes go, or it has a first thread again: lets go of what held its breakpoints.
    pub(super) fn forget_leaderless(&mut self, pid: u32) {
        let held = self.leaderless.remove(pid);
        self.detaching.of_running(held);
    }

    /// Probes of a process without its first thread are to be placed.
    pub(super) fn expect_leaderless(&mut self, world: &impl World<L>, pid: u32) {
        let kept = match world.links_cover_processes() {
            true => Kept::Held { threads: Vec::new(), probes: Vec::new() },
            false => Kept::PlacedBy(pid),
        };
        self.leaderless.by_pid.insert(pid, kept);
    }

    /// Probes `files` in a process, whether its first thread is there or not.
    pub(super) fn place_and_keep(
        &mut self,
        world: &mut impl World<L>,
        pid: u32,
        files: &[FilePlan],
    ) -> Result<(), TargetError> {
        match self.leaderless.by_pid.get(&pid) {
            None => self.place_by(world, pid, pid, files),
            // The programs of a link that is made for a first thread that is gone run for the others.
            Some(Kept::Held { .. }) => {
                self.place_by(world, pid, pid, files)?;
                self.hold(world, pid, None);
                Ok(())
            }
            Some(Kept::PlacedBy(_)) => self.place_by_any(world, pid, files).map(drop),
        }
    }

    /// Places by way of the first of the other threads by which that works; `false` where there is none, as it ended.
    fn place_by_any(
        &mut self,
        world: &mut impl World<L>,
        pid: u32,
        files: &[FilePlan],
    ) -> Result<bool, TargetError> {
        let mut placed = Ok(false);
        for thread in world.other_threads(pid) {
            placed = self.place_by(world, pid, thread, files).map(|()| true);
            if placed.is_ok() {
                self.leaderless.by_pid.insert(pid, Kept::PlacedBy(thread));
                break;
            }
        }
        placed
    }

    /// The first thread of `pid` exited at `exited_ns`, and others go on.
    pub(super) fn leader_exited(&mut self, world: &mut impl World<L>, pid: u32, exited_ns: u64) {
        // Another thread that replaces the image takes the first one's place (`de_thread`, fs/exec.c).
        if !self.how.per_process || !self.how.probes || world.is_running(pid, pid) {
            return;
        }
        if world.links_cover_processes() {
            self.hold(world, pid, Some(exited_ns));
        } else {
            self.place_by_another(world, pid, exited_ns, true);
        }
    }

    /// Once a second: sees to those whose threads have exited since.
    pub fn look_after_leaderless(&mut self, world: &mut impl World<L>) {
        let since_ns = std::mem::replace(&mut self.leaderless.looked_ns, world.now_ns());
        let pids: Vec<u32> = self.leaderless.by_pid.keys().copied().collect();
        for pid in pids {
            let alive = world.threads(pid);
            match self.leaderless.by_pid.get(&pid) {
                Some(Kept::Held { threads, .. }) if threads.iter().any(|thread| !alive.contains(thread)) => {
                    self.hold(world, pid, Some(since_ns));
                }
                Some(Kept::PlacedBy(thread)) if !alive.is_empty() && !alive.contains(thread) => {
                    self.place_by_another(world, pid, since_ns, false);
                }
                _ => {}
            }
        }
    }

    /// Holds its breakpoints; those that went since `since_ns` are told of, where that is not done already.
    fn hold(&mut self, world: &mut impl World<L>, pid: u32, since_ns: Option<u64>) {
        let verifying = self.verification.abandon(pid);
        // It may end meanwhile.
        let record = world.index_of(pid);
        let Some(probed) = self.probed.get(&pid) else { return };
        let others = world.other_threads(pid).into_iter();
        let threads: Vec<u32> =
            others.filter(|thread| world.is_running(pid, *thread)).take(THREADS).collect();
        let mut probes = Vec::new();
        let mut failure = None;
        let mut went = None;
        for plan in probed.plans() {
            let lack = || threads.first().is_some_and(|thread| world.lacks_breakpoints(*thread, plan));
            went = went.or_else(|| since_ns.filter(|_| lack()));
            let held = threads.iter().map(|thread| world.hold(plan, *thread));
            let (held, failed): (Vec<_>, Vec<_>) = held.partition(Result::is_ok);
            if held.is_empty() {
                failure = failure.or_else(|| failed.into_iter().find_map(Result::err));
            }
            probes.extend(held.into_iter().filter_map(Result::ok));
        }
        if let Some(since_ns) = went {
            self.tell_of_missed(world, pid, record, since_ns);
        }
        // Whose threads are all about to end makes no calls any more.
        if let Some(error) = failure.filter(|_| world.thread_with_memory(pid) != pid) {
            world.note(Note::BreakpointsNotHeld { pid, reason: error.to_string() });
        }
        let before = self.leaderless.remove(pid);
        self.leaderless.by_pid.insert(pid, Kept::Held { threads, probes });
        // Once others hold the breakpoints.
        self.detaching.of_running(before);
        if !verifying.is_empty() {
            // Entries are not held. Last: links that go take the breakpoints that nobody holds with them.
            self.detaching.of_running(verifying);
            self.verify_all(world);
        }
    }

    /// Another tracer's change took the breakpoints away before they were held.
    fn tell_of_missed(&self, world: &mut impl World<L>, pid: u32, record: Option<u32>, since_ns: u64) {
        // The results of calls that are under way may have been missed.
        record.iter().for_each(|record| world.disarm(*record));
        world.forget_calls(record.as_slice());
        let now_ns = world.now_ns();
        if let Some(record) = record {
            world.arm(record, now_ns);
            world.builder_mut().add_gap(record, since_ns..now_ns);
        }
        world.note(Note::BreakpointsGone { pid, missed_ns: now_ns.saturating_sub(since_ns) });
    }

    /// The first thread, or a further one, ended at `since_ns` or later.
    fn place_by_another(&mut self, world: &mut impl World<L>, pid: u32, since_ns: u64, first_thread: bool) {
        let plans = self.plans_in(pid);
        // Nothing tells of it, as the event of its fork was lost: it has a gap until it is looked at.
        if plans.is_empty() {
            return;
        }
        let record = world.index_of(pid);
        record.iter().for_each(|record| world.disarm(*record));
        self.let_go(world, pid);
        world.forget_calls(record.as_slice());
        let placed = matches!(self.place_by_any(world, pid, &plans), Ok(true));
        if placed {
            record.iter().for_each(|record| world.arm(*record, world.now_ns()));
        }
        if let Some(record) = record {
            let until_ns = if placed { world.now_ns() } else { u64::MAX };
            world.builder_mut().add_gap(record, since_ns..until_ns);
        }
        let missed_ns = placed.then(|| world.now_ns().saturating_sub(since_ns));
        world.note(Note::ProbesMoved { pid, first_thread, missed_ns });
    }
}
