//! Processes of whose end no event told, as there was no room for it, or as they ended just before they became targets.

use super::{Attachments, World};
use std::collections::HashSet;

/// So long neither image's record may run in the midst of an exec, or an exit's event be on its way.
const PATIENCE_NS: u64 = 2_000_000_000;

impl<L: Send + 'static> Attachments<L> {
    /// After the process records were read, however often: lets go of what such processes left, before others have their
    /// PIDs.
    pub fn look_for_ended(&mut self, world: &mut impl World<L>) {
        let running: Vec<(u32, u32)> = world.builder().running().collect();
        for (record, pid) in &running {
            // Gone first: what it still has an index for then, it has for good.
            if !world.exists(*pid) && world.index_of(*pid) == Some(*record) {
                forget_vanished(world, *pid, *record);
            }
        }
        let running: HashSet<u32> = running.into_iter().map(|(_, pid)| pid).collect();
        let now_ns = world.now_ns();
        let probed = self.probed.keys().chain(self.leaderless.by_pid.keys()).chain(self.paused.keys());
        let ended = probed.filter(|pid| !running.contains(pid));
        let ended = ended.map(|pid| (*pid, self.ended.get(pid).copied().unwrap_or(now_ns)));
        self.ended = ended.collect();
        let over = self.ended.iter().filter(|(_, since_ns)| now_ns.saturating_sub(**since_ns) >= PATIENCE_NS);
        for pid in over.map(|(pid, _)| *pid).collect::<Vec<_>>() {
            self.let_go(world, pid);
            self.paused.remove(&pid);
            self.ended.remove(&pid);
        }
    }
}

/// Ends the record of a process that is gone.
pub(super) fn forget_vanished<L>(world: &mut impl World<L>, pid: u32, record: u32) {
    world.exited(record);
    // An error would be the map's, and there is nothing that could be done about it here.
    let _ = world.clear_index(pid);
}
