//! Letting go of processes that run on.

use super::{Attachments, World};
use crate::bpf::MapError;

impl<L: Send + 'static> Attachments<L> {
    /// Takes the probes of a process away, and those of children that were followed from it: what they did until now
    /// stays in the profile, as that of processes that are not looked at any more. Gives the PIDs that were let go of;
    /// none if the process was no target, or if probes are not placed by process.
    ///
    /// # Errors
    /// If the kernel side cannot be told.
    pub fn remove(&mut self, world: &mut impl World<L>, pid: u32) -> Result<Vec<u32>, MapError> {
        let Some(record) = world.index_of(pid).filter(|_| self.how.per_process) else {
            return Ok(Vec::new());
        };
        let mut removed = Vec::new();
        // Again until nothing is left: until a process was let go of, its children were followed.
        loop {
            world.read_processes();
            let family = world.builder().family(record);
            let running: Vec<(u32, u32)> =
                world.builder().running().filter(|(record, _)| family.contains(record)).collect();
            if running.is_empty() {
                break;
            }
            for (record, pid) in running {
                world.leave_out(record);
                world.clear_index(pid)?;
                world.forget_code(record);
                removed.push(pid);
            }
        }
        removed.iter().for_each(|pid| _ = self.paused.remove(pid));
        let links = removed.iter().flat_map(|pid| self.unprobe(*pid)).collect();
        // At once, and not before it is done: nothing is to be said to be away that is there.
        world.release(links);
        self.detaching.wait_for_running();
        world.read_processes();
        Ok(removed)
    }
}
