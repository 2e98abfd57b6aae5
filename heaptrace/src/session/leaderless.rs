//! Processes whose first thread is gone while others go on.
//!
//! What is probed for one process asks the thread that it was made for whose memory to keep breakpoints in
//! (`uprobe_multi_link_filter`, kernel/trace/bpf_trace.c; `__uprobe_perf_filter`, kernel/trace/trace_uprobe.c), and a
//! thread that has exited has none: at the next change to any probe of the same function, be it another tracer's, the
//! breakpoints go, in silence. A link's programs run for all threads of the process still, so other probes hold its
//! breakpoints, which do nothing and are made for threads that live. A perf event's program does not run any more, and
//! is placed again by way of another thread.

use super::{Session, monotonic_ns, probing::probe_sites};
use crate::{bpf::EmptyProbes, probes::refusal::Refusal, process::procfs};
use std::collections::HashMap;

/// Threads that breakpoints are held for: all of them would have to exit within a second for these to go.
const THREADS: usize = 3;

/// How the probes of such a process are kept.
enum Kept {
    /// Held for these threads, until this is dropped.
    Held { threads: Vec<u32>, _probes: Vec<EmptyProbes> },
    /// Placed by way of this one.
    PlacedBy(u32),
}

/// See the module.
#[derive(Default)]
pub struct Leaderless {
    by_pid: HashMap<u32, Kept>,
    /// When they were last looked at.
    looked_ns: u64,
}

impl Leaderless {
    /// Where its probes can be placed by way of, for a process whose first thread is gone; `None` for others.
    pub fn thread_of(&self, pid: u32) -> Option<u32> {
        match self.by_pid.get(&pid)? {
            Kept::Held { threads, .. } => threads.first().copied(),
            Kept::PlacedBy(thread) => Some(*thread),
        }
    }

    /// Lets go of what is held for a process.
    pub fn remove(&mut self, pid: &u32) {
        self.by_pid.remove(pid);
    }

    /// A process without a first thread, whose probes are to be placed anew by way of others.
    pub fn expect(&mut self, pid: u32) {
        let threads = Session::others(pid);
        self.by_pid.insert(pid, Kept::Held { threads, _probes: Vec::new() });
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        self.by_pid.clear();
    }
}

impl Session {
    /// The first thread of `pid` exited at `exited_ns`, and others go on.
    pub(super) fn leader_exited(&mut self, pid: u32, exited_ns: u64) {
        if !self.per_process || !self.probes {
            return;
        }
        if self.tracer.features.multi_filter {
            self.hold(pid, Some(exited_ns));
        } else {
            self.place_by_another(pid, exited_ns, "its first thread");
        }
    }

    /// Once a second: sees to those whose threads have exited since.
    pub(super) fn look_after_leaderless(&mut self) {
        let since_ns = std::mem::replace(&mut self.leaderless.looked_ns, monotonic_ns());
        let pids: Vec<u32> = self.leaderless.by_pid.keys().copied().collect();
        for pid in pids {
            let alive = procfs::threads(pid).unwrap_or_default();
            match self.leaderless.by_pid.get(&pid) {
                Some(Kept::Held { threads, .. }) if threads.iter().any(|thread| !alive.contains(thread)) => {
                    self.hold(pid, Some(since_ns));
                }
                Some(Kept::PlacedBy(thread)) if !alive.is_empty() && !alive.contains(thread) => {
                    self.place_by_another(pid, since_ns, "a further thread");
                }
                _ => {}
            }
        }
    }

    fn others(pid: u32) -> Vec<u32> {
        let mut threads = procfs::threads(pid).unwrap_or_default();
        threads.retain(|thread| *thread != pid);
        threads
    }

    /// More was probed in a process whose breakpoints may be held: those of all are from here on.
    pub(super) fn hold_if_held(&mut self, pid: u32) {
        if matches!(self.leaderless.by_pid.get(&pid), Some(Kept::Held { .. })) {
            self.hold(pid, None);
        }
    }

    /// Nobody has held its breakpoints since `since_ns`, if at any time.
    fn hold(&mut self, pid: u32, since_ns: Option<u64>) {
        let verifying = self.verification.abandon(pid);
        let mut threads = Self::others(pid);
        threads.truncate(THREADS);
        let went = since_ns.filter(|_| threads.iter().any(|thread| self.lacks_breakpoints(pid, *thread)));
        let Some(probed) = self.probed.get(&pid) else { return };
        let mut probes = Vec::new();
        let mut failure = None;
        for plan in probed.plans() {
            // Only the breakpoint is wanted, at whose hit our own programs run.
            let offsets: Vec<u64> = probe_sites(plan).iter().map(|site| site.offset).collect();
            for thread in &threads {
                match EmptyProbes::place(false, &plan.file.attach_path(), &offsets, *thread) {
                    Ok(placed) => probes.push(placed),
                    Err(error) => failure = Some(error),
                }
            }
        }
        // Whose threads are all about to end makes no calls any more.
        let lives = || Self::others(pid).into_iter().any(|thread| procfs::is_running(pid, thread));
        if let (true, Some(error)) = (probes.is_empty() && !threads.is_empty() && lives(), failure) {
            self.note(format!(
                "process {pid}: its first thread ended, and its probes could not be held for the others ({error}): \
                 calls may be missing from then on"
            ));
        }
        if let Some(since_ns) = went {
            self.tell_of_missed(pid, since_ns);
        }
        self.leaderless.by_pid.insert(pid, Kept::Held { threads, _probes: probes });
        // Entries are not held. Last: links that go take the breakpoints that nobody holds with them.
        self.drop_aside(verifying);
        self.verify_all();
    }

    fn lacks_breakpoints(&self, pid: u32, thread: u32) -> bool {
        matches!(self.fault_in_probed(pid, thread), Some(Refusal::NoBreakpoint { .. }))
    }

    /// Another tracer's change took the breakpoints away before they were held.
    fn tell_of_missed(&mut self, pid: u32, since_ns: u64) {
        let now_ns = monotonic_ns();
        if let Some(record) = self.tracer.maps.index_of(pid) {
            self.builder.add_gap(record, since_ns..now_ns);
        }
        let ms = now_ns.saturating_sub(since_ns) / 1_000_000;
        self.note(format!(
            "process {pid}: its first thread ended, and the kernel took its probes away with another tracer's: calls \
             within {ms} ms may be missing"
        ));
    }

    /// `ended` ended at `since_ns` or later.
    fn place_by_another(&mut self, pid: u32, since_ns: u64, ended: &str) {
        let plans = self.plans_in(pid);
        let record = self.tracer.maps.index_of(pid);
        record.iter().for_each(|record| self.tracer.maps.disarm(*record));
        self.let_go(pid);
        self.tracer.maps.forget_calls(record.as_slice());
        let placed = Self::others(pid).into_iter().find(|thread| self.place_by(pid, *thread, &plans).is_ok());
        if let Some(thread) = placed {
            record.iter().for_each(|record| self.tracer.maps.arm(*record, monotonic_ns()));
            self.leaderless.by_pid.insert(pid, Kept::PlacedBy(thread));
        }
        if let Some(record) = record {
            let until_ns = if placed.is_some() { monotonic_ns() } else { u64::MAX };
            self.builder.add_gap(record, since_ns..until_ns);
        }
        let gap_ms = monotonic_ns().saturating_sub(since_ns) / 1_000_000;
        let what = match placed {
            Some(_) => format!("calls of the next {gap_ms} ms were not seen"),
            None => "later calls were not seen".to_owned(),
        };
        self.note(format!("process {pid}: {ended} ended, and on this kernel its probes with it: {what}"));
    }
}
