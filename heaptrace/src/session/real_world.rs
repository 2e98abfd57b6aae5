//! The world around a session's attachments: the kernel, `/proc`, and the session's other parts.

use super::{
    Session,
    attachments::{Attachments, Kernel, Processes, World, probe_sites},
    code_check::{self, Expected},
    counting::Counting,
    monotonic_ns,
    tables::Unwinding,
};
use crate::{
    bpf::{EmptyProbes, FunctionCheck, Links, MapError, PlacedSite, ProbeSite, Tracer},
    drain::ProfileBuilder,
    model::{Note, Notes},
    probes::{
        discover::{DiscoverError, Discoverer, ProcessView},
        plan::{FilePlan, Plan},
        refusal::Refusal,
    },
    process::{maps::Mapping, object::Object, procfs},
};
use heaptrace_common::{
    probe::Cookie,
    record::{NO_PROCESS, ProcessRecord, armed, process_index, process_state},
};
use std::{collections::BTreeSet, io, path::Path, sync::Arc, time::Duration};

/// See the module.
pub struct RealWorld<'a> {
    tracer: &'a mut Tracer,
    builder: &'a mut ProfileBuilder,
    unwinding: &'a mut Option<Unwinding>,
    discoverer: &'a mut Discoverer,
    counting: &'a Counting,
    notes: &'a mut Notes,
}

impl Session {
    /// The attachments, and the world around them.
    pub(super) fn split(&mut self) -> (&mut Attachments, RealWorld<'_>) {
        let Self { attachments, tracer, builder, unwinding, discoverer, counting, notes, .. } = self;
        (attachments, RealWorld { tracer, builder, unwinding, discoverer, counting, notes })
    }

    pub(super) fn world(&mut self) -> RealWorld<'_> {
        self.split().1
    }
}

impl Kernel<Links> for RealWorld<'_> {
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn index_of(&self, pid: u32) -> Option<u32> {
        self.tracer.maps.index_of(pid)
    }

    fn register(&mut self, pid: u32, seen: Option<&ProcessView>) -> Result<Option<u32>, MapError> {
        // Nobody's, where it is gone.
        let uid = procfs::read_status(pid).map_or(u32::MAX, |status| status.uid);
        let mut record = ProcessRecord {
            tgid: pid,
            state: process_state::RUNNING,
            parent: NO_PROCESS,
            started_ns: monotonic_ns(),
            break_at: seen.map_or(0, |view| heap_end(pid, &view.mappings)),
            ..ProcessRecord::default()
        };
        let comm = seen.map_or("", |view| &view.comm);
        for (to, from) in record.comm.iter_mut().zip(comm.bytes().take(15)) {
            *to = from;
        }
        self.tracer.maps.register(record, uid)
    }

    fn is_armed(&self, record: u32) -> bool {
        self.tracer.maps.process(record).is_some_and(|record| record.armed == armed::YES)
    }

    fn arm(&mut self, record: u32, now_ns: u64) {
        self.tracer.maps.arm(record, now_ns);
    }

    fn disarm(&mut self, record: u32) {
        self.tracer.maps.disarm(record);
    }

    fn pause(&mut self, record: u32, since_ns: u64) {
        self.tracer.maps.pause(record, since_ns);
    }

    fn forget_calls(&mut self, records: &[u32]) {
        self.tracer.maps.forget_calls(records);
    }

    fn leave_out(&mut self, record: u32) {
        self.tracer.maps.leave_out(record, monotonic_ns());
    }

    fn exited(&mut self, record: u32) {
        self.tracer.maps.exited(record, monotonic_ns());
    }

    fn exclude(&mut self, pid: u32) {
        // An error would be the map's, and there is nothing that could be done about it here.
        let _ = self.tracer.maps.set_index(pid, process_index::EXCLUDED);
    }

    fn clear_index(&mut self, pid: u32) -> Result<(), MapError> {
        self.tracer.maps.clear_index(pid)
    }

    fn links_cover_processes(&self) -> bool {
        self.tracer.features.multi_filter
    }

    fn attach(&mut self, plan: &FilePlan, thread: Option<u32>, late: bool) -> io::Result<Links> {
        self.tracer.attach(&plan.file, &probe_sites(plan), thread, late)
    }

    fn hold(&mut self, plan: &FilePlan, thread: u32) -> io::Result<Box<dyn Send>> {
        // Only the breakpoint is wanted, at whose hit our own programs run.
        let sites = probe_sites(plan);
        let sites: Vec<PlacedSite> = sites.iter().map(|site| site.placed(Cookie::default())).collect();
        Ok(Box::new(EmptyProbes::place(false, &plan.file.attach_path(), &sites, thread)?))
    }

    fn new_check(&self, glibc: bool) -> Option<FunctionCheck> {
        self.tracer.new_check(glibc)
    }

    fn watch_for(
        &mut self,
        check: &Arc<FunctionCheck>,
        file: &Arc<Object>,
        sites: &[ProbeSite],
        thread: Option<u32>,
    ) -> io::Result<Links> {
        self.tracer.watch_for(check, file, sites, thread)
    }

    fn release(&self, links: Vec<Links>) {
        self.tracer.release(links, &code_check::is_the_same_everywhere);
    }
}

impl Processes for RealWorld<'_> {
    fn discover(&mut self, pid: u32) -> Result<(ProcessView, Plan), DiscoverError> {
        self.discoverer.discover(pid)
    }

    fn exists(&self, pid: u32) -> bool {
        procfs::exists(pid)
    }

    fn comm(&self, pid: u32) -> String {
        procfs::comm(pid).unwrap_or_default()
    }

    fn threads(&self, pid: u32) -> Vec<u32> {
        procfs::threads(pid).unwrap_or_default()
    }

    fn is_running(&self, pid: u32, thread: u32) -> bool {
        procfs::is_running(pid, thread)
    }

    fn thread_with_memory(&self, pid: u32) -> u32 {
        procfs::thread_with_memory(pid)
    }

    fn other_threads(&self, pid: u32) -> Vec<u32> {
        procfs::other_threads(pid)
    }

    fn first_change(&self, plan: &FilePlan) -> Option<u64> {
        // Through the descriptor that the probes go through.
        plan.proof.first_change(&plan.file)
    }

    fn fault(&self, view: &ProcessView, plans: &[&FilePlan], expected: Expected) -> Option<Refusal> {
        code_check::fault(view.thread, &view.mappings, plans, expected)
    }

    fn occupied(&self, view: &ProcessView, plans: &[FilePlan]) -> Vec<String> {
        code_check::occupied(view.thread, &view.mappings, plans)
    }

    fn lacks_breakpoints(&self, thread: u32, plan: &FilePlan) -> bool {
        code_check::lacks_breakpoints(thread, plan)
    }

    fn plan_of(&self, objects: Vec<&Arc<Object>>) -> Plan {
        self.discoverer.plan_of(objects)
    }

    fn distrust(&mut self, file: &Object, entry: u64) -> Option<bool> {
        let symbols = self.discoverer.distrust(file, entry)?;
        Some(symbols.functions.iter().any(|function| function.offset == entry && function.is_refused()))
    }

    fn forget_unused_files(&mut self) {
        self.discoverer.forget_unused();
    }
}

impl World<Links> for RealWorld<'_> {
    fn builder(&self) -> &ProfileBuilder {
        self.builder
    }

    fn builder_mut(&mut self) -> &mut ProfileBuilder {
        self.builder
    }

    fn read_processes(&mut self) {
        self.builder.read_processes(&mut self.tracer.maps);
    }

    fn publish_code(&mut self, record: u32) {
        if let Some(unwinding) = self.unwinding {
            unwinding.publish(&mut self.tracer.unwind, record, &self.builder.code(record));
        }
    }

    fn forget_code(&mut self, record: u32) {
        if let Some(unwinding) = self.unwinding {
            unwinding.forget(&mut self.tracer.unwind, record);
        }
    }

    fn wait_for_tables(&mut self) {
        let mut records = BTreeSet::new();
        if let Some(unwinding) = self.unwinding {
            while unwinding.preloading || !unwinding.building.is_empty() {
                let Ok(built) = unwinding.built.recv() else { break };
                records.extend(unwinding.place(&mut self.tracer.unwind, built));
            }
        }
        records.into_iter().for_each(|record| self.publish_code(record));
    }

    fn all_count(&self) -> bool {
        self.counting.has_begun()
    }

    fn elapsed(&self) -> Duration {
        self.counting.elapsed()
    }

    fn note(&mut self, note: Note) {
        self.notes.take(note);
    }
}

/// Where the program break is, as far as can be told; 0 if it cannot.
fn heap_end(pid: u32, mappings: &[Mapping]) -> u64 {
    let heap = mappings.iter().rev().find(|mapping| mapping.path.as_deref() == Some(Path::new("[heap]")));
    // Without a heap the break is where one would begin.
    heap.map_or_else(|| procfs::read_stat(pid).map_or(0, |stat| stat.start_brk), |mapping| mapping.end)
}
