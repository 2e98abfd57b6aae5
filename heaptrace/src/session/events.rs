//! Keeping up with the targets: forks, execs, exits and new executable mappings.

use super::{Session, TargetError, monotonic_ns};
use crate::{model::Note, process::procfs};
use heaptrace_common::{
    event::{Event, kind},
    record::NO_PROCESS,
};
use std::collections::BTreeMap;

impl Session {
    /// Handles the events that are there, in order. A process that mapped ten libraries is looked at once.
    pub fn handle_events(&mut self, events: impl IntoIterator<Item = Event>) {
        // By PID: the record, and when the first of its news came.
        let mut look_at: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        self.builder.read_processes(&mut self.tracer.maps);
        self.take_code_changes();
        for event in events {
            self.over.take(&event);
            match event.kind {
                // Its parent was let go of since, and it with it.
                kind::FORK | kind::EXEC if self.is_left_out(event.process) => {}
                kind::FORK | kind::EXEC if self.is_left_out(event.other) => {
                    // An error would be the map's, and there is nothing that could be done about it here.
                    let _ = self.remove_pid(event.tgid);
                }
                kind::FORK => {
                    self.publish_code(event.process);
                    self.place_in_child(event.tgid, event.process, event.parent_tgid);
                }
                kind::EXEC | kind::MAP_EXEC => {
                    if event.kind == kind::EXEC {
                        // Whichever thread did that is the first now.
                        self.forget_leaderless(event.tgid);
                        if event.other != NO_PROCESS {
                            self.forget_code(event.other);
                        }
                    }
                    look_at.entry(event.tgid).or_insert((event.process, event.time_ns)).0 = event.process;
                }
                kind::EXIT => {
                    let was_to_be = look_at.remove(&event.tgid).is_some();
                    let was_looked_at = self.looked_at.remove(&event.process);
                    if was_to_be || !self.per_process && !was_looked_at {
                        self.never_looked_at(event.tgid, event.process);
                    }
                    self.pending_code.to_be_looked_at.remove(&event.process);
                    self.let_go(event.tgid);
                    self.forget_code(event.process);
                }
                kind::LEADER_EXIT => self.leader_exited(event.tgid, event.time_ns),
                kind::INTERRUPTED => self.interrupted_at(event.process, event.address),
                kind::EXEC_ELSEWHERE if self.probes => self.look_for_allocators(event.tgid, event.time_ns),
                _ => {}
            }
        }
        for (pid, (record, since_ns)) in look_at {
            self.pending_code.to_be_looked_at.remove(&record);
            self.look_again(pid, record, since_ns);
        }
        self.look_at_changed();
    }

    /// So many events were not looked at.
    pub fn left_unread(&mut self, events: usize) {
        self.unread += events as u64;
    }

    /// Gives an image to records that the BPF side made on its own, or whose event was lost.
    pub(super) fn adopt_new_records(&mut self) {
        for record in self.builder.unknown() {
            if let Some((pid, started_ns)) = self.builder.record(record).map(|r| (r.tgid, r.started_ns)) {
                self.look_again(pid, record, started_ns);
            }
        }
    }

    /// System-wide: a process that is no target yet may have brought an allocator that nobody had before, at its exec at
    /// `since_ns`.
    fn look_for_allocators(&mut self, pid: u32, since_ns: u64) {
        let Ok((view, plan)) = self.discoverer.discover(pid) else { return };
        let new = self.unprobed(pid, &plan.files);
        match self.place(pid, &plan.files) {
            Ok(()) if !new.is_empty() => {
                self.note_late(pid, &view.comm, &new, monotonic_ns().saturating_sub(since_ns));
            }
            Err(error @ TargetError::Refused { .. }) => {
                self.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
            }
            // Gone by now: else it will be looked at again when it allocates.
            _ => {}
        }
    }

    /// Reads how much of each running process is resident.
    pub(super) fn read_rss(&mut self) {
        let running: Vec<(u32, u32)> = self.builder.running().collect();
        for (record, pid) in running {
            if let (Ok(rss), Some(process)) = (procfs::rss_bytes(pid), self.builder.process_mut(record)) {
                process.rss_bytes = rss;
            }
        }
    }
}
