//! Stacks of growth calls that are told of one by one, without sites.

use super::ProfileBuilder;
use crate::model::{Process, ProcessId, Profile, StackId};
use heaptrace_common::stack::StackEnd;

impl ProfileBuilder {
    /// The process of a record.
    pub fn process(&self, record: u32) -> Option<&Process> {
        self.table.id(record).and_then(|id| self.table.processes.get(&id))
    }

    /// The process of a record, by number.
    pub fn process_id(&self, record: u32) -> Option<ProcessId> {
        self.table.id(record)
    }

    /// The stack of these frames, innermost first. `None` for records that are not shown.
    pub fn intern_stack(&mut self, record: u32, frames: &[u64], end: StackEnd) -> Option<StackId> {
        let process = self.table.id(record)?;
        Some(self.stack_of(record, process, frames, end))
    }

    /// Adds to `profile`, which got what it has by this alone, what is new of what stacks are made of.
    pub fn copy_stacks(&self, profile: &mut Profile) {
        fn add<T: Clone>(to: &mut Vec<T>, from: &[T]) {
            to.extend_from_slice(from.get(to.len()..).unwrap_or_default());
        }
        add(&mut profile.modules, &self.modules.table.items);
        add(&mut profile.locations, &self.locations.table.items);
        add(&mut profile.frames, &self.frames.items);
        add(&mut profile.stacks, &self.stacks.table.items);
    }
}
