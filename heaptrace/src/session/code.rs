//! Sorts the machine's code changes to the images of traced processes.

use super::{Session, attachments::World as _, pending_code::Waiting};
use crate::{
    bpf::Placed,
    drain::is_code,
    process::{
        mapped::{Change, CodeChange},
        maps::{Mapping, Permissions},
    },
};
use heaptrace_common::record::process_state;
use std::collections::BTreeSet;

impl Session {
    /// Takes what the kernel mapped since the last call. Call after the process records were read.
    pub(super) fn take_code_changes(&mut self) {
        self.tracer.unwind.look_at_heads();
        let Some(watch) = &mut self.watch else { return };
        self.pending_code.add(watch.read());
        let mut to_be_published = BTreeSet::new();
        for mut waiting in self.pending_code.take() {
            let pid = waiting.pid;
            let mut left = Vec::new();
            for change in waiting.changes {
                if change.change == Change::Exec {
                    waiting.exec_began = Some(change.time_ns);
                } else if let Some(record) = self.builder.record_at(pid, change.time_ns, waiting.exec_began) {
                    self.add_code(pid, record, &change, &mut to_be_published);
                } else {
                    left.push(change);
                }
            }
            self.pending_code.put_back(Waiting { changes: left, ..waiting });
        }
        self.pending_code.forget_old(super::monotonic_ns());
        for record in to_be_published {
            self.world().publish_code(record);
        }
        self.tracer.unwind.settle();
    }

    /// Looks again at processes whose code has changed, of which no event told: allocators may be among it.
    pub(super) fn look_at_changed(&mut self) {
        for (record, since_ns) in std::mem::take(&mut self.pending_code.to_be_looked_at) {
            let running = self.builder.record(record).filter(|of| of.state == process_state::RUNNING);
            if let Some(pid) = running.map(|of| of.tgid) {
                let (attachments, mut world) = self.split();
                attachments.look_again(&mut world, pid, record, since_ns);
            }
        }
    }

    /// Gives the code that `change` tells of to a record and its heirs.
    fn add_code(&mut self, pid: u32, record: u32, change: &CodeChange, to_be_published: &mut BTreeSet<u32>) {
        let Change::Mapped { start, end, offset, dev, inode, path } = change.change.clone() else { return };
        let permissions = Permissions { read: true, execute: true, ..Permissions::default() };
        let mapping = Mapping { start, end, permissions, offset, dev, inode, path, deleted: false };
        if !is_code(&mapping) {
            return;
        }
        let object = mapping.file().and_then(|_| self.discoverer.object_behind(pid, &mapping));
        // Children that were forked since have it too.
        let mut records = vec![record];
        while let Some(record) = records.pop() {
            // What was called in a library that is gone must get its name before the next one takes its addresses.
            if self.builder.replaces_code(record, start, end) {
                self.builder.read_whole(&mut self.tracer.maps, Some(record));
            }
            self.builder.add_code(record, &mapping, object.clone());
            to_be_published.insert(record);
            // Else an event tells of it.
            if object.is_some() && self.tracer.features.growth != Placed::On {
                self.pending_code.to_be_looked_at.entry(record).or_insert(change.time_ns);
            }
            records.extend(self.builder.heirs_since(record, change.time_ns));
        }
    }
}
