//! Letting go of the probes of a process: at once, to place them again, or some time after it has ended.

use super::{Attachments, World, placed::PlacedProbes};

/// Links of ended processes that go at once.
const AT_ONCE: usize = 128;

impl<L: Send + 'static> Attachments<L> {
    /// Takes the probes of a process away that must not stay: at once, as they could harm it. Those of all processes
    /// stay, and hits in this one are not counted.
    pub(super) fn take_away(&mut self, pid: u32) {
        drop(self.unprobe(pid));
    }

    /// Forgets the probes of a process; gives their links, and those of what verifies them.
    pub(super) fn unprobe(&mut self, pid: u32) -> Vec<L> {
        self.forget_leaderless(pid);
        let links = self.probed.remove(&pid).map(|mut placed| placed.take_links()).unwrap_or_default();
        self.verification.forget(pid).into_iter().chain(links).collect()
    }

    /// Forgets the probes of a process that goes on: another thread than the first made an exec and has its PID now, and links
    /// are for the one that is gone (`uprobe_multi_link_filter`, kernel/trace/bpf_trace.c; `de_thread`, fs/exec.c). A perf
    /// event may go on with its thread: such a process is refused for what it lacks. They go at once: without breakpoints of
    /// their own, their programs run at those that are placed next (Linux 6.18, where the thread that is gone still counts as
    /// the process's), and each call would be seen twice.
    pub(super) fn void(&mut self, world: &mut impl World<L>, pid: u32) {
        if world.links_cover_processes() && self.probed.contains_key(&pid) {
            let links = self.unprobe(pid);
            world.release(links);
            self.probed.insert(pid, PlacedProbes::new(world.now_ns()));
        }
    }

    /// Lets go of the probes of a process that ended: many at once and in the background, because taking a
    /// probe away holds up every fork and every new probe of the machine for some 30 ms (`dup_mmap_sem`,
    /// kernel/events/uprobes.c), and those of an ended process cost nothing but a look at each hit elsewhere.
    pub(super) fn let_go(&mut self, world: &mut impl World<L>, pid: u32) {
        let links = self.unprobe(pid);
        self.idle_links.extend(links);
        if self.idle_links.len() >= AT_ONCE {
            self.verification.forget_unwatched();
            world.forget_unused_files();
            let links = std::mem::take(&mut self.idle_links);
            self.detaching.of_ended(links);
        }
    }
}
