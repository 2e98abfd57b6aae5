//! Taking the probes of processes away for a while, and placing them again: what they are then is not known from before, as a
//! process may have mapped others' code meanwhile, or run another program.

use super::{Attachments, World};
use crate::{model::Note, session::error::TargetError};

impl<L: Send + 'static> Attachments<L> {
    /// Whether a process is a target, and its probes are away for a while.
    pub fn is_paused(&self, pid: u32) -> bool {
        self.paused.contains(&pid)
    }

    /// From now on, processes that become targets are paused at first, or are not.
    pub fn pause_new(&mut self, pause: bool) {
        self.pauses_new = pause && self.how.per_process && self.how.probes;
    }

    /// Takes the probes of processes away, all at once; it is done when this returns.
    pub fn pause(&mut self, world: &mut impl World<L>, pids: &[u32]) {
        let of = |pid: &u32| Some((*pid, world.index_of(*pid)?));
        let processes: Vec<(u32, u32)> = pids.iter().filter_map(of).collect();
        let records: Vec<u32> = processes.iter().map(|(_, record)| *record).collect();
        // Before any goes: calls must not be compared with half of what they pass.
        self.verification.close_all();
        let now_ns = world.now_ns();
        records.iter().for_each(|record| world.disarm(*record));
        let links = processes.iter().flat_map(|(pid, _)| self.unprobe(*pid)).collect();
        world.release(links);
        world.forget_calls(&records);
        for (pid, record) in processes {
            self.paused.insert(pid);
            world.builder_mut().pause(record, now_ns);
            // An image that came in between went on with the arm of the one before.
            if let Some(newer) = world.index_of(pid).filter(|newer| *newer != record) {
                world.disarm(newer);
                world.forget_calls(&[newer]);
            }
        }
        self.verification.open(world, |_| true);
    }

    /// Places the probes of a paused process; whether they are there then.
    pub fn resume(&mut self, world: &mut impl World<L>, pid: u32) -> bool {
        if !self.paused.remove(&pid) {
            return false;
        }
        let pauses_new = std::mem::take(&mut self.pauses_new);
        let resumed = self.add(world, pid, false);
        self.pauses_new = pauses_new;
        match resumed {
            Ok(()) => {
                if let Some(record) = world.index_of(pid) {
                    self.looked_at.insert(record);
                    let now_ns = world.now_ns();
                    world.builder_mut().resumed(record, now_ns);
                }
                return true;
            }
            Err(error @ TargetError::Refused { .. }) => self.let_go_of_refused(world, error),
            Err(error) if world.exists(pid) => {
                world.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
                self.take_away(pid);
                self.paused.insert(pid);
            }
            // It ended meanwhile.
            Err(_) => {}
        }
        false
    }

    /// A process that became a target is paused from the beginning, if new ones are.
    pub(super) fn pauses(&mut self, world: &mut impl World<L>, pid: u32, record: u32) -> bool {
        if self.is_paused(pid) {
            return true;
        }
        let is_new = self.pauses_new && !self.probed.contains_key(&pid);
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
        self.paused.insert(pid);
        // What has passed since it began is no gap, either.
        let began_ns = world.builder().record(record).map(|record| record.started_ns);
        let began_ns = began_ns.unwrap_or_else(|| world.now_ns());
        world.builder_mut().pause(record, began_ns);
    }
}
