//! Processes whose first thread is gone while others go on. A link for one process asks that thread whose memory to keep
//! breakpoints in (`uprobe_multi_link_filter`, kernel/trace/bpf_trace.c), and a thread that has exited has none: at the
//! next change to any probe of the same function, be it another tracer's, the breakpoints go, in silence. So other
//! probes hold them, which do nothing and are made for threads that live.

use super::{Session, probing::probe_sites};
use crate::{
    bpf::{EmptyProbes, ProbeSite},
    process::procfs,
};
use heaptrace_common::function::Shape;

/// Threads that probes are made for: all of them would have to exit within a second for breakpoints to go.
const THREADS: usize = 3;

/// Holds the breakpoints of one process until it is dropped.
pub struct Anchors {
    threads: Vec<u32>,
    _probes: Vec<EmptyProbes>,
}

impl Session {
    /// Holds the breakpoints of `pid`, whose first thread has exited.
    pub(super) fn anchor(&mut self, pid: u32) {
        let Some(probed) = self.probed.get(&pid) else { return };
        let mut threads: Vec<u32> = procfs::threads(pid).unwrap_or_default();
        threads.retain(|thread| *thread != pid);
        threads.truncate(THREADS);
        let mut probes = Vec::new();
        let mut failure = None;
        for plan in &probed.plans {
            // Only the breakpoint is wanted, at whose hit our own programs run.
            let sites: Vec<ProbeSite> =
                probe_sites(plan).map(|site| ProbeSite { shape: Shape::Free0, ..site }).collect();
            for thread in &threads {
                match EmptyProbes::place(false, &plan.file.attach_path(), &sites, *thread) {
                    Ok(placed) => probes.push(placed),
                    Err(error) => failure = Some(error),
                }
            }
        }
        if let (true, Some(error)) = (probes.is_empty() && !threads.is_empty(), failure) {
            self.note(format!(
                "process {pid}: its first thread ended, and its probes could not be held for the others ({error}): \
                 calls may be missing from then on"
            ));
        }
        self.anchors.insert(pid, Anchors { threads, _probes: probes });
    }

    /// Holds those anew that are held for threads which have exited.
    pub(super) fn look_after_anchors(&mut self) {
        let gone = |(pid, anchors): (&u32, &Anchors)| {
            let alive = procfs::threads(*pid).unwrap_or_default();
            anchors.threads.iter().any(|thread| !alive.contains(thread)).then_some(*pid)
        };
        let gone: Vec<u32> = self.anchors.iter().filter_map(gone).collect();
        for pid in gone {
            self.anchor(pid);
        }
    }
}
