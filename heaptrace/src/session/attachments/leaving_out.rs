//! Processes that must not be traced, or cannot: the kernel side is told, and the report says why.

use super::{Attachments, World};
use crate::{
    model::{Cases, Note, Untraceable},
    probes::refusal::Refusal,
    session::error::TargetError,
};

impl<L: Send + 'static> Attachments<L> {
    /// One of several targets cannot be traced: the report says so, if the others are. Gives why.
    pub fn leave_out_named(&mut self, world: &mut impl World<L>, pid: u32, error: TargetError) -> String {
        let why = error.to_string();
        let bare = error.reason();
        match error {
            TargetError::Refused { pid, comm, reason } => self.leave_out(world, pid, comm, reason),
            _ => world.note(Note::ProbesNotPlaced { pid, reason: bare }),
        }
        why
    }

    /// A process turned out to be one that must not be traced.
    pub fn let_go_of_refused(&mut self, world: &mut impl World<L>, error: TargetError) {
        if let TargetError::Refused { pid, comm, reason } = error {
            self.leave_out(world, pid, comm, reason);
            self.take_away(pid);
        }
    }

    pub(super) fn leave_out(&mut self, world: &mut impl World<L>, pid: u32, comm: String, reason: Refusal) {
        if let Some(record) = world.index_of(pid) {
            world.leave_out(record);
        }
        // Without an allocator yet, or one that tells of samples, or in the midst of an exec, it can be traced once it has one.
        match reason {
            // An error would be the map's, and there is nothing that could be done about it here.
            Refusal::NoAllocator { .. } | Refusal::NoSamples { .. } => _ = world.clear_index(pid),
            _ => world.exclude(pid),
        }
        // Kernel threads are no processes that anyone asked for.
        if !self.how.unnamed || reason != Refusal::NoMemory {
            self.note_untraceable(world, Untraceable { pid, comm, reason: reason.to_string() });
        }
    }

    /// Why a process is not traced: in the list of these, or, where that is full, a case of a note.
    fn note_untraceable(&mut self, world: &mut impl World<L>, process: Untraceable) {
        if self.untraceable.len() < Cases::KEPT || self.untraceable.contains_key(&process.pid) {
            self.untraceable.insert(process.pid, process);
        } else {
            let Untraceable { pid, comm, reason } = process;
            world.note(Note::LeftOut { pid, comm, reason });
        }
    }
}
