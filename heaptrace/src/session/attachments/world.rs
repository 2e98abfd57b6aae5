//! What attachments ask of the world around them, and have done in it: by the kernel and `/proc`, or by a world made for
//! tests. `L` are links: probes that are in place until it is dropped.

use crate::{
    bpf::{FunctionCheck, MapError, ProbeSite},
    drain::ProfileBuilder,
    model::Note,
    probes::{
        discover::{DiscoverError, ProcessView},
        plan::{FilePlan, Plan},
        refusal::Refusal,
    },
    process::object::Object,
    session::code_check::Expected,
};
use std::{io, sync::Arc, time::Duration};

/// Which processes the kernel side counts the calls of, and the probes that tell it of calls.
pub trait Kernel<L> {
    /// `CLOCK_MONOTONIC`.
    fn now_ns(&self) -> u64;

    /// The record of a process that is a target now.
    fn index_of(&self, pid: u32) -> Option<u32>;

    /// Makes a process a target, which may have been looked at. `None` if the table is full.
    ///
    /// # Errors
    /// If the kernel side cannot be told.
    fn register(&mut self, pid: u32, seen: Option<&ProcessView>) -> Result<Option<u32>, MapError>;

    /// Whether the calls of a record's process count.
    fn is_armed(&self, record: u32) -> bool;

    /// All probes of a record's process are in place: its calls count.
    fn arm(&mut self, record: u32, now_ns: u64);

    /// Calls of a record's process do not count any more.
    fn disarm(&mut self, record: u32);

    /// The same for a while, since `since_ns`, as its probes are away on purpose.
    fn pause(&mut self, record: u32, since_ns: u64);

    /// Forgets the calls of `records`, which are disarmed, whose results are still to come.
    fn forget_calls(&mut self, records: &[u32]);

    /// Ends a record whose process runs on.
    fn leave_out(&mut self, record: u32);

    /// Ends a record whose process is gone.
    fn exited(&mut self, record: u32);

    /// A process is no target, and does not become one.
    fn exclude(&mut self, pid: u32);

    /// Forgets a PID; its process may become a target.
    ///
    /// # Errors
    /// If the kernel side cannot be told.
    fn clear_index(&mut self, pid: u32) -> Result<(), MapError>;

    /// Whether links that are made for a thread have their programs run for its whole process, and after the thread's end.
    fn links_cover_processes(&self) -> bool;

    /// Places the probes of a file by way of a thread in its process, or wherever it is mapped. `late`: calls count there
    /// already.
    ///
    /// # Errors
    /// As bpf(2) and perf_event_open(2): `ESRCH` if the thread is gone.
    fn attach(&mut self, plan: &FilePlan, thread: Option<u32>, late: bool) -> io::Result<L>;

    /// Holds the breakpoints of a file's probes for a thread, until what it gives is dropped.
    ///
    /// # Errors
    /// As [`Kernel::attach`].
    fn hold(&mut self, plan: &FilePlan, thread: u32) -> io::Result<Box<dyn Send>>;

    /// What a function, whose results are blocks of glibc's if `glibc`, is verified by. `None` where it cannot be.
    fn new_check(&self, glibc: bool) -> Option<FunctionCheck>;

    /// Has a function's entry and sites looked at, as [`Kernel::attach`].
    ///
    /// # Errors
    /// The same.
    fn watch_for(
        &mut self,
        check: &Arc<FunctionCheck>,
        file: &Arc<Object>,
        sites: &[ProbeSite],
        thread: Option<u32>,
    ) -> io::Result<L>;

    /// Lets go of `links`, all at once; it is done when this returns.
    fn release(&self, links: Vec<L>);
}

/// Processes, and their files and code.
pub trait Processes {
    /// See [`crate::probes::discover::Discoverer::discover`].
    ///
    /// # Errors
    /// If the process is gone, or may not be looked at.
    fn discover(&mut self, pid: u32) -> Result<(ProcessView, Plan), DiscoverError>;

    fn exists(&self, pid: u32) -> bool;

    /// Its name, as far as can be told.
    fn comm(&self, pid: u32) -> String;

    /// Its threads; none once it is gone.
    fn threads(&self, pid: u32) -> Vec<u32>;

    /// Whether one of its threads has not ended.
    fn is_running(&self, pid: u32, thread: u32) -> bool;

    /// See [`crate::process::procfs::thread_with_memory`].
    fn thread_with_memory(&self, pid: u32) -> u32;

    /// Its threads but the first.
    fn other_threads(&self, pid: u32) -> Vec<u32>;

    /// Where a file is not any more what its probes were chosen by.
    fn first_change(&self, plan: &FilePlan) -> Option<u64>;

    /// What is not as expected in the code of a process that was looked at.
    fn fault(&self, view: &ProcessView, plans: &[&FilePlan], expected: Expected) -> Option<Refusal>;

    /// The functions of `plans` in which a process that was looked at has breakpoints.
    fn occupied(&self, view: &ProcessView, plans: &[FilePlan]) -> Vec<String>;

    /// Whether a process lacks the breakpoint of any of a file's sites, as one of its threads sees it.
    fn lacks_breakpoints(&self, thread: u32, plan: &FilePlan) -> bool;

    /// Plans the probes of a process that had `objects` mapped, in resolution order.
    fn plan_of(&self, objects: Vec<&Arc<Object>>) -> Plan;

    /// From here on, the function at `entry` is probed in the next safer way. Gives whether that is not at all; `None` where
    /// nothing is known of the file.
    fn distrust(&mut self, file: &Object, entry: u64) -> Option<bool>;

    /// Forgets files that nothing holds any more.
    fn forget_unused_files(&mut self);
}

/// The session around the attachments.
pub trait World<L>: Kernel<L> + Processes {
    fn builder(&self) -> &ProfileBuilder;

    fn builder_mut(&mut self) -> &mut ProfileBuilder;

    /// Has the builder read the process records.
    fn read_processes(&mut self);

    /// Puts the unwind tables of a record's code in force.
    fn publish_code(&mut self, record: u32);

    /// The image of a record is gone.
    fn forget_code(&mut self, record: u32);

    /// Waits for unwind tables that are being built.
    fn wait_for_tables(&mut self);

    /// Whether calls of all processes count by now, where probes are for all.
    fn all_count(&self) -> bool;

    /// Since calls count.
    fn elapsed(&self) -> Duration;

    /// Takes a fact for the report.
    fn note(&mut self, note: Note);
}
