//! Keeping up with the targets: forks, execs, exits and new executable mappings.

use super::{Attachments, World};
use heaptrace_common::{
    event::{Event, kind},
    record::{NO_PROCESS, process_state},
};

impl<L: Send + 'static> Attachments<L> {
    /// Takes one of the events that are there, in order; after the last of them comes [`Attachments::look_at_due`].
    pub fn take(&mut self, world: &mut impl World<L>, event: &Event) {
        match event.kind {
            // Its parent was let go of since, and it with it.
            kind::FORK | kind::EXEC if is_left_out(world, event.process) => {}
            kind::FORK | kind::EXEC if is_left_out(world, event.other) => {
                // An error would be the map's, and there is nothing that could be done about it here.
                let _ = self.remove(world, event.tgid);
            }
            kind::FORK | kind::LEADER_EXIT | kind::EXEC_ELSEWHERE if self.is_over => {}
            kind::FORK => {
                world.publish_code(event.process);
                self.place_in_child(world, event);
            }
            kind::EXEC | kind::MAP_EXEC => {
                if event.kind == kind::EXEC && event.address != u64::from(event.tgid) {
                    self.void(world, event.tgid);
                }
                if event.kind == kind::EXEC && !self.is_over {
                    // Whichever thread did that is the first now.
                    self.forget_leaderless(event.tgid);
                    if event.other != NO_PROCESS {
                        world.forget_code(event.other);
                    }
                }
                self.due.entry(event.tgid).or_insert((event.process, event.time_ns)).0 = event.process;
            }
            kind::EXIT => {
                let was_to_be = self.due.remove(&event.tgid).is_some();
                let was_looked_at = self.looked_at.remove(&event.process);
                if was_to_be || !self.how.per_process && !was_looked_at {
                    self.never_looked_at(world, event.tgid, event.process);
                }
                self.let_go(world, event.tgid);
                self.paused.remove(&event.tgid);
                world.forget_code(event.process);
            }
            kind::LEADER_EXIT => self.leader_exited(world, event.tgid, event.time_ns),
            kind::EXEC_ELSEWHERE if self.how.probes => {
                self.look_for_allocators(world, event.tgid, event.time_ns);
            }
            _ => {}
        }
    }

    /// Looks at the processes that events told of: one that mapped ten libraries is looked at once. Gives their records.
    pub fn look_at_due(&mut self, world: &mut impl World<L>) -> Vec<u32> {
        let due = std::mem::take(&mut self.due);
        for (pid, (record, since_ns)) in &due {
            self.look_again(world, *pid, *record, *since_ns);
        }
        due.into_values().map(|(record, _)| record).collect()
    }

    /// Gives an image to records that the BPF side made on its own, or whose event was lost.
    pub fn adopt_new_records(&mut self, world: &mut impl World<L>) {
        for record in world.builder().unknown() {
            let known = world.builder().record(record).map(|r| (r.tgid, r.started_ns));
            if let Some((pid, started_ns)) = known {
                self.look_again(world, pid, record, started_ns);
            }
        }
    }
}

/// Whether a record's process runs on without being looked at.
fn is_left_out<L>(world: &impl World<L>, record: u32) -> bool {
    world.builder().record(record).is_some_and(|record| record.state == process_state::LEFT_OUT)
}
