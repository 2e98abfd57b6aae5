//! Processes of whose end no event told, as there was no room for it, or as they ended just before they became targets.

use super::{Attachments, World};
use std::collections::HashSet;

impl<L: Send + 'static> Attachments<L> {
    /// Once a second, after the process records were read: lets go of what such processes left, before others have their
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
        let mut ended: HashSet<u32> =
            self.probed.keys().chain(self.leaderless.by_pid.keys()).copied().collect();
        ended.retain(|pid| !running.contains(pid));
        // Twice: in the midst of an exec neither image's record runs, and of an exit the event may be on its way.
        for pid in self.ended.iter().filter(|pid| ended.contains(pid)).copied().collect::<Vec<_>>() {
            self.let_go(world, pid);
            ended.remove(&pid);
        }
        self.ended = ended;
    }
}

/// Ends the record of a process that is gone.
pub(super) fn forget_vanished<L>(world: &mut impl World<L>, pid: u32, record: u32) {
    world.leave_out(record);
    // An error would be the map's, and there is nothing that could be done about it here.
    let _ = world.clear_index(pid);
}
