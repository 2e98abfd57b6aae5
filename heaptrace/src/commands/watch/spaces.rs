//! The address spaces of the watched processes, one a process record.

use crate::{
    growth::{Call, Change, Space, When, call_of},
    process::{maps::Mapping, procfs, system::huge_page_size},
    session::Session,
};
use heaptrace_common::growth::{GrowthEvent, call};
use std::collections::HashMap;

/// How often a process is read again that changed its mappings meanwhile. One that never rests is read while it does.
const READS: usize = 20;

/// What `/proc/PID/maps` said, and when that was over.
type Reading = (Vec<Mapping>, u64);

struct Known {
    space: Space,
    /// To be adopted when the calls from before it have been applied.
    reading: Option<Reading>,
    /// Calls until then are from before we watched.
    from_ns: u64,
}

/// What became of a call.
pub(super) struct Applied {
    pub change: Change,
    /// Bytes that the process maps now, and when the call began, by the kernel; `None` if it does not say.
    pub totals: Option<(u64, u64)>,
}

/// See the module.
pub(super) struct Spaces {
    page: u64,
    /// Of huge pages, where a call doesn't say.
    huge_page: u64,
    by_record: HashMap<u32, Known>,
}

impl Spaces {
    pub fn new() -> Self {
        Self { page: procfs::page_size(), huge_page: huge_page_size(), by_record: HashMap::new() }
    }

    /// Takes a process that ran before we watched.
    pub fn begin(&mut self, session: &Session, record: u32, pid: u32) {
        let mut space = Space::new(self.page);
        let mut from_ns = 0;
        for _ in 0..READS {
            let before = session.growth_so_far(record);
            let stacks = procfs::stack_pointers(pid);
            let Some((mappings, read_ns)) = read(pid) else { return };
            space = Space::new(self.page);
            space.adopt(&mappings, &stacks, read_ns);
            from_ns = read_ns;
            if session.growth_so_far(record) == before {
                break;
            }
        }
        self.by_record.insert(record, Known { space, reading: None, from_ns });
    }

    /// A child has its parent's memory.
    pub fn fork(&mut self, child: u32, parent: u32) {
        if let Some(known) = self.by_record.get_mut(&parent) {
            if let Some((mappings, read_ns)) = known.reading.take() {
                known.space.adopt(&mappings, &[], read_ns);
            }
            let known = Known { space: known.space.forked(), reading: None, from_ns: 0 };
            self.by_record.insert(child, known);
        }
    }

    /// A new image. It has one thread, whose stack the kernel names.
    pub fn exec(&mut self, session: &Session, record: u32, pid: u32) {
        // Read while it is this image's, or not at all.
        let reading = read(pid).filter(|_| session.runs(record));
        self.by_record.insert(record, Known { space: Space::new(self.page), reading, from_ns: 0 });
    }

    pub fn gone(&mut self, record: u32) {
        self.by_record.remove(&record);
    }

    /// What became of a call; `None` if it was from before we watched.
    pub fn apply(&mut self, session: &Session, told: &GrowthEvent) -> Option<Applied> {
        let (record, left_ns) = (told.event.process, told.event.time_ns);
        if !self.by_record.contains_key(&record) {
            self.exec(session, record, told.event.tgid);
        }
        let known = self.by_record.get_mut(&record)?;
        if left_ns <= known.from_ns {
            return None;
        }
        if let Some((mappings, read_ns)) = known.reading.take_if(|(_, read_ns)| left_ns > *read_ns) {
            known.space.adopt(&mappings, &[], read_ns);
        }
        let call = call_of(told, self.huge_page)?;
        let when = When { entered_ns: told.entered_ns, left_ns };
        let mut change = known.space.apply(call, when);
        let totals = (told.total_after != 0).then_some((told.total_after, told.total_before));
        // Where no other call was under way, the kernel's own count is right whatever the call did: holes, huge pages of
        // files, mappings that nobody saw come.
        if let (Some((after, before)), 1, false) = (totals, told.alone, matches!(call, Call::GiveBack { .. }))
        {
            change.delta = after.wrapping_sub(before).cast_signed();
        }
        Some(Applied { change, totals })
    }
}

fn read(pid: u32) -> Option<Reading> {
    let mappings = procfs::read_maps(pid).ok().filter(|mappings| !mappings.is_empty())?;
    Some((mappings, crate::session::monotonic_ns()))
}

/// The call's name.
pub(super) fn name_of(told: &GrowthEvent) -> &'static str {
    match told.call {
        call::BRK => "brk",
        call::MMAP => "mmap",
        call::MUNMAP => "munmap",
        call::MADVISE => "madvise",
        _ => "mremap",
    }
}
