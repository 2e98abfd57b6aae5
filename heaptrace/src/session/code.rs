//! Sorts the machine's code changes to the images of traced processes.

use super::{Session, attachments::World as _, pending_code::Waiting};
use crate::{
    bpf::Placed,
    drain::is_code,
    model::Note,
    process::{
        mapped::{Change, CodeChange},
        maps::{Mapping, Permissions},
        object::Object,
    },
};
use heaptrace_common::record::process_state;
use std::{collections::BTreeSet, path::Path, sync::Arc};

impl Session {
    /// Takes what the kernel mapped since the last call. Call after the process records were read.
    pub(super) fn take_code_changes(&mut self) {
        self.tracer.unwind.look_at_heads();
        let Some(watch) = &mut self.watch else { return };
        self.pending_code.add(watch.read(super::monotonic_ns()));
        let mut found = Vec::new();
        for mut waiting in self.pending_code.take() {
            let pid = waiting.pid;
            let mut left = Vec::new();
            // Which exec those that are left belong to.
            let mut began_before_left = None;
            for change in waiting.changes {
                if change.change == Change::Exec {
                    waiting.exec_began = Some(change.time_ns);
                    if !left.is_empty() {
                        left.push(change);
                    }
                } else if let Some(record) = self.builder.record_at(pid, change.time_ns, waiting.exec_began) {
                    found.extend(self.mapped(pid, record, change));
                } else {
                    if left.is_empty() {
                        began_before_left = waiting.exec_began;
                    }
                    left.push(change);
                }
            }
            let exec_began = if left.is_empty() { waiting.exec_began } else { began_before_left };
            self.pending_code.put_back(Waiting { changes: left, exec_began, pid });
        }
        self.pending_code.forget_old(super::monotonic_ns());
        for record in self.add_code(found) {
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

    /// What a change of a record's image mapped, if that is code.
    fn mapped(&mut self, pid: u32, record: u32, change: CodeChange) -> Option<NewCode> {
        let Change::Mapped { start, end, offset, dev, inode, path } = change.change else { return None };
        let permissions = Permissions { read: true, execute: true, ..Permissions::default() };
        let mapping = Mapping { start, end, permissions, offset, dev, inode, path, deleted: false };
        if !is_code(&mapping) {
            return None;
        }
        if mapping.file().is_none() {
            self.perf_maps.want(record);
        }
        let object =
            mapping.file().and_then(|_| self.discoverer.object_behind(pid, &mapping, change.time_ns));
        Some(NewCode { record, time_ns: change.time_ns, mapping, object })
    }

    /// Gives code to the records that got it, and to their heirs. Gives those records.
    fn add_code(&mut self, mut found: Vec<NewCode>) -> BTreeSet<u32> {
        // A child's own comes after what it has of its parent, whichever has the smaller PID.
        found.sort_by_key(|code| code.time_ns);
        let mut changed = BTreeSet::new();
        for NewCode { record, time_ns, mapping, object } in found {
            // Children that were forked since have it too.
            let mut records = vec![record];
            while let Some(record) = records.pop() {
                records.extend(self.builder.heirs_since(record, time_ns));
                changed.insert(record);
                // Else an event tells of it.
                if object.is_some() && self.tracer.features.growth != Placed::On {
                    self.pending_code.to_be_looked_at.entry(record).or_insert(time_ns);
                }
                if let Some(before) =
                    self.builder.add_code(&mut self.tracer.maps, record, &mapping, object.clone())
                {
                    self.note_replaced(record, before, &mapping);
                }
            }
        }
        changed
    }

    fn note_replaced(&mut self, record: u32, before: String, mapping: &Mapping) {
        let Some(pid) = self.builder.record(record).map(|of| of.tgid) else { return };
        let comm = self.builder.process_mut(record).map(|process| process.comm.clone()).unwrap_or_default();
        let after =
            mapping.path.as_deref().map_or("generated code".into(), Path::to_string_lossy).into_owned();
        self.note(Note::CodeReplaced { pid, comm, before, after });
    }
}

/// Code that a record's image got.
struct NewCode {
    record: u32,
    time_ns: u64,
    mapping: Mapping,
    object: Option<Arc<Object>>,
}
