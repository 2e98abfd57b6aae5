//! What `watch` asks a session: whose a growth call was, and from which stack.

use super::Session;
use crate::model::{Process, ProcessId, Profile, StackId};
use heaptrace_common::{growth::GrowthEvent, record::process_state, stack::StackEnd};

impl Session {
    /// Records that run, with their PIDs.
    pub fn running(&self) -> Vec<(u32, u32)> {
        self.builder.running().collect()
    }

    /// Whether a record's image is the process's now.
    pub fn runs(&self, record: u32) -> bool {
        self.tracer.maps.process(record).is_some_and(|record| record.state == process_state::RUNNING)
    }

    /// The process of a record.
    pub fn process(&self, record: u32) -> Option<&Process> {
        self.builder.process(record)
    }

    /// The process of a record, as profiles have it.
    pub fn process_id(&self, record: u32) -> Option<ProcessId> {
        self.builder.process_id(record)
    }

    /// What the kernel side has counted of a record's mappings; it changes with every call.
    pub fn growth_so_far(&self, record: u32) -> Option<[u64; 4]> {
        let record = self.tracer.maps.process(record)?;
        Some([record.break_at, record.brk_bytes, record.mmap_bytes, record.munmap_bytes])
    }

    /// The stack of a call, if it has one; its addresses are told apart by what is mapped now.
    pub fn stack_of(&mut self, told: &GrowthEvent) -> Option<StackId> {
        if told.has_stack == 0 {
            return None;
        }
        let frames = self.tracer.maps.frames_from(told.stack, told.frames);
        self.builder.intern_stack(told.event.process, &frames, StackEnd::from_number(told.end))
    }

    /// Gives `profile`, which is fed by nothing else, what stacks are made of.
    pub fn copy_stacks(&self, profile: &mut Profile) {
        self.builder.copy_stacks(profile);
    }

    /// Why growth is not traced, if it is not.
    pub fn growth_unavailable(&self) -> Option<&str> {
        match &self.tracer.features.growth {
            crate::bpf::Placed::Unavailable(why) => Some(why),
            _ => None,
        }
    }
}
