//! What `stat` prints: counters by function, live bytes and their peak, and how large blocks were and how long they
//! lived; of each process and of all.

mod json;
mod render;
mod scope;
mod text;

pub use render::render;

#[cfg(test)]
mod tests;

use crate::{
    model::{Profile, Statistics},
    target::CommandEnd,
};

/// One print.
#[derive(Clone, Copy, Debug)]
pub struct Stat<'a> {
    pub profile: &'a Profile,
    /// By `ProcessId`.
    pub statistics: &'a [Statistics],
    /// The one at the end. Those before it are a line each, in text.
    pub last: bool,
    /// Now, in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// What the line before this one told.
    pub before: Option<&'a Glance>,
    /// How the command ended, if there was one and it has.
    pub command: Option<CommandEnd>,
    /// Text has a line for each process and file in its footer, too.
    pub verbose: bool,
}

/// What an interval's line is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    pub duration_ns: u64,
    pub alloc_bytes: u64,
    pub alloc_count: u64,
    pub free_count: u64,
    pub live_bytes: u64,
    pub live_count: u64,
    pub brk_bytes: i64,
    pub mmap_bytes: u64,
    pub munmap_bytes: u64,
}

impl Glance {
    /// Of all processes.
    pub fn of(profile: &Profile) -> Self {
        let mut glance = Self { duration_ns: profile.duration_ns, ..Self::default() };
        for process in &profile.processes {
            let totals = &process.totals;
            glance.alloc_bytes = glance.alloc_bytes.saturating_add(totals.alloc_bytes);
            glance.alloc_count = glance.alloc_count.saturating_add(totals.alloc_count);
            glance.free_count = glance.free_count.saturating_add(totals.free_count);
            glance.brk_bytes = glance.brk_bytes.saturating_add(process.brk_bytes);
            glance.mmap_bytes = glance.mmap_bytes.saturating_add(process.mmap_bytes);
            glance.munmap_bytes = glance.munmap_bytes.saturating_add(process.munmap_bytes);
            // What a process held at its end is gone with it.
            if !process.exited {
                glance.live_bytes = glance.live_bytes.saturating_add(totals.live_bytes());
                glance.live_count = glance.live_count.saturating_add(totals.live_count());
            }
        }
        glance
    }
}
