//! What the kernel side tells of: handed to the parts that it concerns.

use super::Session;
use crate::process::procfs;
use heaptrace_common::event::{Event, kind};

/// Processes that exit of whose processor time the last is read, of those that are told of at one time.
const EXITS_READ: usize = 8;

impl Session {
    /// Handles the events that are there, in order. A process that mapped ten libraries is looked at once.
    pub fn handle_events(&mut self, events: impl IntoIterator<Item = Event>) {
        self.builder.read_processes(&mut self.tracer.maps);
        self.take_code_changes();
        let mut exits = 0;
        for event in events {
            self.over.take(&event);
            // There may be very many, and nothing else is to be done about them.
            if event.kind == kind::FAULT {
                continue;
            }
            match event.kind {
                kind::INTERRUPTED => self.interrupted_at(event.process, event.address),
                kind::EXIT => {
                    self.pending_code.to_be_looked_at.remove(&event.process);
                    // While nobody has waited for it. In a storm, others wait for us.
                    if exits < EXITS_READ {
                        self.read_cpu_time(event.process, event.tgid);
                    }
                    exits += 1;
                }
                _ => {}
            }
            let (attachments, mut world) = self.split();
            attachments.take(&mut world, &event);
        }
        let (attachments, mut world) = self.split();
        for record in attachments.look_at_due(&mut world) {
            self.pending_code.to_be_looked_at.remove(&record);
        }
        self.look_at_changed();
    }

    /// So many events were not looked at.
    pub fn left_unread(&mut self, events: usize) {
        self.unread += events as u64;
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
