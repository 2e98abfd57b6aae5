//! Taking the probes of processes away for a while, and placing them again: what they are then is not known from before, as a
//! process may have mapped others' code meanwhile, or run another program.

use super::{Attachments, World};

impl<L: Send + 'static> Attachments<L> {
    /// Whether a process is a target, and its probes are away for a while.
    pub fn is_paused(&self, pid: u32) -> bool {
        self.paused.contains_key(&pid)
    }

    /// How many are.
    pub fn paused(&self) -> usize {
        self.paused.len()
    }

    /// Whether a process has probes of its own.
    pub fn has_probes(&self, pid: u32) -> bool {
        self.probed.contains_key(&pid)
    }

    /// From now on, processes that become targets are paused at first, or are not.
    pub fn pause_new(&mut self, pause: bool) {
        self.pauses_new = pause && self.how.per_process && self.how.probes;
    }

    /// Takes the probes of processes away, all at once; it is done when this returns.
    pub fn pause(&mut self, world: &mut impl World<L>, pids: &[u32]) {
        // As they are now: of an image that nobody has read of nothing could be told.
        world.read_processes();
        let of = |pid: &u32| Some((*pid, world.index_of(*pid)?));
        let processes: Vec<(u32, u32)> = pids.iter().filter_map(of).collect();
        let records: Vec<u32> = processes.iter().map(|(_, record)| *record).collect();
        // Before any goes: calls must not be compared with half of what they pass.
        self.verification.close_all();
        let now_ns = world.now_ns();
        for record in &records {
            world.pause(*record, now_ns);
            world.builder_mut().pause(*record, now_ns);
        }
        let links = processes.iter().flat_map(|(pid, _)| self.unprobe(*pid)).collect();
        world.release(links);
        world.forget_calls(&records);
        // An image that came in between went on as the one before.
        world.read_processes();
        for (pid, record) in processes {
            if let Some(newer) = world.index_of(pid).filter(|newer| *newer != record) {
                world.pause(newer, now_ns);
                world.forget_calls(&[newer]);
            }
            self.paused.insert(pid, now_ns);
        }
        self.verification.open(world, |_| true);
    }

    /// Places the probes of a paused process; gives whether they are there then, as far as there is anything to probe.
    pub fn resume(&mut self, world: &mut impl World<L>, pid: u32) -> bool {
        let Some(since_ns) = self.paused.remove(&pid) else { return false };
        world.read_processes();
        let Some(record) = world.index_of(pid) else { return false };
        let pauses_new = std::mem::take(&mut self.pauses_new);
        // Whatever it maps meanwhile it is looked at for as ever.
        self.look_again(world, pid, record, world.now_ns());
        self.pauses_new = pauses_new;
        if !world.is_armed(record) && self.has_probes(pid) {
            // Not all of them: it is told why.
            self.take_away(pid);
            self.paused.insert(pid, since_ns);
            return false;
        }
        let now_ns = world.now_ns();
        world.builder_mut().resumed(record, now_ns);
        true
    }

    /// A process that became a target is paused from the beginning, if new ones are.
    pub(super) fn pauses(&mut self, world: &mut impl World<L>, pid: u32, record: u32) -> bool {
        if self.is_paused(pid) {
            return true;
        }
        let is_new = self.pauses_new && !self.has_probes(pid);
        if is_new {
            self.begin_paused(world, pid, record);
        }
        is_new
    }

    /// A forked child is paused as its parent is, or as new ones are.
    pub(super) fn pauses_child(
        &mut self,
        world: &mut impl World<L>,
        parent: u32,
        child: u32,
        record: u32,
    ) -> bool {
        let pauses = self.pauses_new || self.is_paused(parent);
        if pauses {
            self.begin_paused(world, child, record);
        }
        pauses
    }

    fn begin_paused(&mut self, world: &mut impl World<L>, pid: u32, record: u32) {
        // What has passed since it began is no gap, either.
        let began_ns = world.builder().record(record).map(|record| record.started_ns);
        let began_ns = began_ns.unwrap_or_else(|| world.now_ns());
        self.paused.insert(pid, began_ns);
        world.pause(record, began_ns);
        // A child may have replaced its image by now; or runs in its parent's memory, whose record it has then.
        let is_its_own = |other: &u32| world.builder().record(*other).is_none_or(|other| other.tgid == pid);
        if let Some(newer) = world.index_of(pid).filter(|newer| *newer != record).filter(is_its_own) {
            world.pause(newer, began_ns);
        }
        world.builder_mut().pause(record, began_ns);
    }

    /// Another process had this PID, if that began before `started_ns`.
    pub(super) fn forget_paused_namesake(&mut self, pid: u32, started_ns: u64) {
        if self.paused.get(&pid).is_some_and(|since_ns| *since_ns < started_ns) {
            self.paused.remove(&pid);
        }
    }
}
