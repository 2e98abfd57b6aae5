//! Placing probes: for a PID, for a command before it runs, for the whole machine.

use super::{Session, TargetError, monotonic_ns, placed::PlacedProbes};
use crate::{
    bpf::{Links, ProbeSite},
    drain::Code,
    model::{Note, Untraceable},
    probes::{
        discover::ProcessView,
        merged_sites::merged_sites,
        plan::{FilePlan, Plan},
        probe::Probe,
        refusal::{Refusal, refusal},
    },
    process::{
        ldso::Program,
        maps::Mapping,
        object::{FileId, Object},
        procfs,
    },
    target::HeldChild,
};
use heaptrace_common::record::{NO_PROCESS, ProcessRecord, process_index, process_state};
use std::{collections::BTreeSet, path::Path, sync::Arc};

impl Session {
    /// Traces a running process.
    pub fn add_pid(&mut self, pid: u32) -> Result<(), TargetError> {
        self.trace(pid, true)?;
        self.begin_counting();
        Ok(())
    }

    /// `whole`: from the first call on with whole stacks, though it takes longer to begin.
    fn trace(&mut self, pid: u32, whole: bool) -> Result<(), TargetError> {
        let (view, plan) =
            self.discoverer.discover(pid).map_err(|source| TargetError::Discover { pid, source })?;
        self.check(&view, &plan)?;
        if self.probes {
            self.check_breakpoints(&view, &plan)?;
            self.check_code(&view, &plan)?;
        }
        let record = self.register(pid, &view.comm, heap_end(pid, &view.mappings))?;
        self.learn(record, &view, &plan);
        if whole {
            self.wait_for_tables();
        }
        self.place(pid, &plan.files)?;
        if self.probes
            && let Err(error) = Self::check_placed(&view, &plan)
        {
            self.take_away(pid);
            return Err(error);
        }
        self.arm(pid, record);
        Ok(())
    }

    /// Traces every process of the machine, except ourselves and those that must be left alone.
    pub fn add_all(&mut self) -> Result<(), TargetError> {
        let pids =
            procfs::all_pids().map_err(|source| TargetError::Discover { pid: 0, source: source.into() })?;
        self.add_each(&pids, false)
    }

    /// Traces those of the user or cgroup that run already, with the same exceptions.
    pub fn add_members(&mut self, pids: &[u32]) -> Result<(), TargetError> {
        self.add_each(pids, true)
    }

    fn add_each(&mut self, pids: &[u32], whole: bool) -> Result<(), TargetError> {
        let own = std::process::id();
        for pid in pids.iter().copied().filter(|pid| *pid != own) {
            match self.trace(pid, whole) {
                Ok(()) => {}
                // Ended meanwhile, or a kernel thread.
                Err(TargetError::Discover { .. }) => {}
                Err(TargetError::Refused { pid, comm, reason }) => self.leave_out(pid, comm, reason),
                Err(TargetError::Attach { .. }) if !procfs::exists(pid) => {}
                Err(error @ TargetError::Attach { .. }) => {
                    self.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
                }
                Err(error) => return Err(error),
            }
        }
        self.begin_counting();
        Ok(())
    }

    /// One of several targets cannot be traced: the report says so, if the others are. Gives why.
    pub fn leave_out_named(&mut self, pid: u32, error: TargetError) -> String {
        let why = error.to_string();
        let bare = error.reason();
        match error {
            TargetError::Refused { pid, comm, reason } => self.leave_out(pid, comm, reason),
            _ => self.note(Note::ProbesNotPlaced { pid, reason: bare }),
        }
        why
    }

    /// Traces a command that has not begun: its probes are in place before it execs.
    pub fn add_command(&mut self, child: &HeldChild, program: &Program) -> Result<(), TargetError> {
        let Program { exe, libraries } = program;
        let fail = |reason: String| TargetError::Command { command: exe.display().to_string(), reason };
        let plan = self.discoverer.plan_for_paths(exe, libraries).map_err(|error| fail(error.to_string()))?;
        let status = procfs::read_status(child.pid()).map_err(|error| fail(error.to_string()))?;
        if let Some(reason) = refusal(&status, &plan).filter(|_| self.probes) {
            return Err(fail(reason.to_string()));
        }
        if let Some(unwinding) = &mut self.unwinding {
            let files = std::iter::once(exe).chain(libraries);
            let objects: Vec<_> = files.filter_map(|path| self.discoverer.object_at(path)).collect();
            unwinding.prepare(&objects);
        }
        self.wait_for_tables();
        let record = self.register(child.pid(), "", 0)?;
        self.place(child.pid(), &plan.files)?;
        self.tracer.maps.arm(record, monotonic_ns());
        self.begin_counting();
        Ok(())
    }

    /// A process's probes are in place: it counts from now on, which is when.
    pub(super) fn arm(&mut self, pid: u32, record: u32) -> u64 {
        let now_ns = monotonic_ns();
        self.tracer.maps.arm(record, now_ns);
        if self.per_process {
            self.verification.began_to_count(pid, &self.builder);
        }
        now_ns
    }

    /// Probes `files` in process `pid`, or, where probes are for all processes, wherever they are mapped.
    pub(super) fn place(&mut self, pid: u32, files: &[FilePlan]) -> Result<(), TargetError> {
        if self.per_process && !self.leaderless.contains(pid) && procfs::thread_with_memory(pid) != pid {
            self.expect_leaderless(pid);
        }
        self.place_and_keep(pid, files)
    }

    /// The same by way of `thread`, one of the process's.
    pub(super) fn place_by(&mut self, pid: u32, thread: u32, files: &[FilePlan]) -> Result<(), TargetError> {
        self.place_sites(pid, thread, files)?;
        files.iter().for_each(|plan| self.verify(pid, thread, plan));
        Ok(())
    }

    fn place_sites(&mut self, pid: u32, thread: u32, files: &[FilePlan]) -> Result<(), TargetError> {
        let probes = self.probes;
        for plan in files.iter().filter(|_| probes) {
            let Some(plan) = self.missing(pid, plan) else { continue };
            // Through the descriptor that they go through, and last: a file can be written to at any time.
            if let Some(offset) = plan.proof.first_change(&plan.file) {
                let comm = procfs::read_stat(pid).map(|stat| stat.comm).unwrap_or_default();
                let reason = Refusal::FileChanged { path: plan.file.path.clone(), offset };
                return Err(TargetError::Refused { pid, comm, reason });
            }
            let sites = probe_sites(&plan);
            let late = self.counts_already(pid);
            let links = self
                .tracer
                .attach(&plan.file.attach_path(), &sites, self.per_process.then_some(thread), late)
                .map_err(|source| TargetError::Attach {
                    path: plan.file.path.display().to_string(),
                    source,
                })?;
            if self.per_process {
                self.probed.entry(pid).or_default().add(plan, links);
            } else {
                self.shared.add(plan.file.path.display().to_string());
                self.everywhere.add(plan, links);
            }
        }
        Ok(())
    }

    /// Whether calls of `pid`, or of any process where probes are for all, count by now.
    fn counts_already(&self, pid: u32) -> bool {
        if !self.per_process {
            return self.counting.has_begun();
        }
        let record = self.tracer.maps.index_of(pid).and_then(|record| self.tracer.maps.process(record));
        record.is_some_and(|record| record.armed != 0)
    }

    /// What is probed in process `pid`.
    fn placed_in(&self, pid: u32) -> Option<&PlacedProbes> {
        if self.per_process { self.probed.get(&pid) } else { Some(&self.everywhere) }
    }

    /// Whether any function of `file` is probed in process `pid`.
    pub(super) fn is_probed(&self, pid: u32, file: FileId) -> bool {
        self.placed_in(pid).is_some_and(|placed| placed.has(file))
    }

    /// The part of `plan` that is not probed in process `pid`.
    pub(super) fn missing(&self, pid: u32, plan: &FilePlan) -> Option<FilePlan> {
        self.placed_in(pid).map_or_else(|| Some(plan.clone()), |placed| placed.missing(plan))
    }

    pub(super) fn plans_in(&self, pid: u32) -> Vec<FilePlan> {
        self.probed.get(&pid).map(|placed| placed.plans().cloned().collect()).unwrap_or_default()
    }

    /// Probes in a forked child what is probed in its parent.
    pub(super) fn place_in_child(&mut self, child: u32, record: u32, parent: u32) {
        if !self.per_process || !self.probes {
            return;
        }
        let plans = self.plans_in(parent);
        // Its parent lost its probes; until it is looked at itself, it has a gap.
        if plans.is_empty() {
            return;
        }
        match self.place_sites(child, child, &plans) {
            Ok(()) => {}
            Err(error @ TargetError::Refused { .. }) => {
                return self.note(Note::ProbesNotPlaced { pid: child, reason: error.reason() });
            }
            // It has exited already; its gap is then its life.
            Err(_) => return,
        }
        self.tracer.maps.arm(record, monotonic_ns());
        // Most have replaced their image by now, and nothing of it need be known: probes go by file. What allocators it
        // has beside these is found when it is looked at.
        if let Some(now) = self.tracer.maps.index_of(child).filter(|now| *now != record) {
            self.tracer.maps.arm(now, monotonic_ns());
        }
        // Last: its first calls are to be counted.
        plans.iter().for_each(|plan| self.verify(child, child, plan));
    }

    /// Looks at a traced process again: new mappings, and allocators that were not there before `since_ns`.
    pub(super) fn look_again(&mut self, pid: u32, record: u32, since_ns: u64) {
        let Ok((view, plan)) = self.discoverer.discover(pid) else {
            return self.never_looked_at(pid, record);
        };
        // A process that exits has let go of its memory before /proc forgets it.
        if view.mappings.is_empty() {
            return self.never_looked_at(pid, record);
        }
        self.learn(record, &view, &plan);
        // Before its libraries are mapped, a new image has no allocator yet: that is no refusal.
        if plan.files.is_empty() || !self.probes {
            return;
        }
        let new = self.unprobed(pid, &plan.files);
        // What a debugger's breakpoints keep from being seen is told; the rest goes on.
        if let Err(error) = self.check_breakpoints(&view, &plan) {
            self.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
        }
        // Then its gap is said of the process.
        let armed = self.tracer.maps.process(record).is_some_and(|record| record.armed != 0);
        let checked = self.check(&view, &plan).and_then(|()| self.check_code(&view, &plan));
        let placed = checked.and_then(|()| self.place(pid, &plan.files));
        match placed.and_then(|()| Self::check_placed(&view, &plan)) {
            Ok(()) => {
                let now_ns = self.arm(pid, record);
                self.untraceable.remove(&pid);
                self.looked_at.insert(record);
                if !new.is_empty() && armed {
                    self.builder.add_gap(record, since_ns..now_ns);
                    self.note_late(pid, &view.comm, &new, now_ns.saturating_sub(since_ns));
                }
            }
            Err(error @ TargetError::Refused { .. }) => self.let_go_of_refused(error),
            // It may have ended meanwhile.
            Err(error) if procfs::exists(pid) => {
                self.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
            }
            Err(_) => self.never_looked_at(pid, record),
        }
    }

    /// Probes of `files` came so late after they were mapped.
    pub(super) fn note_late(&mut self, pid: u32, comm: &str, files: &[String], late_ns: u64) {
        self.note(Note::ProbedLate { pid, comm: comm.to_owned(), files: files.to_vec(), late_ns });
    }

    /// The files of `plans` in which process `pid` lacks probes.
    pub(super) fn unprobed(&self, pid: u32, plans: &[FilePlan]) -> Vec<String> {
        let unprobed = plans.iter().filter(|plan| self.missing(pid, plan).is_some());
        unprobed.map(|plan| plan.file.path.display().to_string()).collect()
    }

    /// A process ended before anybody could look at what it had mapped last: allocators among that, which nobody could
    /// foresee, were not probed.
    pub(super) fn never_looked_at(&mut self, pid: u32, record: u32) {
        if !self.probes || self.per_process && !self.probed.contains_key(&pid) {
            return;
        }
        let code = self.builder.code(record);
        let mut objects: Vec<&Arc<Object>> = code.iter().filter_map(Code::object).collect();
        // By address: the program lies lowest, and libraries the lower the later they were mapped, which is their order of
        // resolution.
        if let Some(libraries) = objects.get_mut(1..) {
            libraries.reverse();
        }
        let plan = self.discoverer.plan_of(objects);
        let mut files: BTreeSet<String> = self.unprobed(pid, &plan.files).into_iter().collect();
        if self.per_process {
            files.extend(self.builder.unopened_code(record).map(str::to_owned));
        }
        if files.is_empty() {
            return;
        }
        let comm = self.builder.process_mut(record).map(|process| process.comm.clone()).unwrap_or_default();
        let files = files.into_iter().collect();
        self.note(Note::EndedUnseen { pid, comm, files, opened: !self.per_process });
        if !self.per_process {
            // For the next that are like it. What cannot be placed is told as it was.
            let _ = self.place_sites(pid, pid, &plan.files);
            // Where probes are placed by process, it has one until it is looked at.
            if let Some(started_ns) = self.builder.record(record).map(|record| record.started_ns) {
                self.builder.add_gap(record, started_ns..u64::MAX);
            }
        }
    }

    /// A process turned out to be one that must not be traced.
    pub(super) fn let_go_of_refused(&mut self, error: TargetError) {
        if let TargetError::Refused { pid, comm, reason } = error {
            self.leave_out(pid, comm, reason);
            self.take_away(pid);
        }
    }

    /// Takes the probes of a process away that must not stay: at once, as they could harm it. Those of all processes
    /// stay, and hits in this one are not counted.
    fn take_away(&mut self, pid: u32) {
        drop(self.unprobe(pid));
    }

    /// Forgets the probes of a process; gives their links, and those of what verifies them.
    pub(super) fn unprobe(&mut self, pid: u32) -> Vec<Links> {
        self.forget_leaderless(pid);
        let links = self.probed.remove(&pid).map(|mut placed| placed.take_links()).unwrap_or_default();
        self.verification.forget(pid).into_iter().chain(links).collect()
    }

    fn check(&self, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        match refusal(&view.status, plan) {
            // Others are about probes.
            Some(reason) if self.probes || reason == Refusal::NoMemory => {
                Err(TargetError::Refused { pid: view.identity.pid, comm: view.comm.clone(), reason })
            }
            _ => Ok(()),
        }
    }

    fn leave_out(&mut self, pid: u32, comm: String, reason: Refusal) {
        if let Some(record) = self.tracer.maps.index_of(pid) {
            self.tracer.maps.leave_out(record, monotonic_ns());
        }
        // Without an allocator yet, or in the midst of an exec, it can be traced once it has one.
        let _ = match reason {
            Refusal::NoAllocator { .. } => self.tracer.maps.clear_index(pid),
            _ => self.tracer.maps.set_index(pid, process_index::EXCLUDED),
        };
        // Kernel threads are no processes that anyone asked for.
        if !self.unnamed || reason != Refusal::NoMemory {
            self.note_untraceable(Untraceable { pid, comm, reason: reason.to_string() });
        }
    }

    /// The record of `pid`: there already, or new.
    fn register(&mut self, pid: u32, comm: &str, break_at: u64) -> Result<u32, TargetError> {
        if let Some(record) = self.tracer.maps.index_of(pid) {
            return Ok(record);
        }
        // Nobody's, where it is gone.
        let uid = procfs::read_status(pid).map_or(u32::MAX, |status| status.uid);
        let mut record = ProcessRecord {
            tgid: pid,
            state: process_state::RUNNING,
            parent: NO_PROCESS,
            started_ns: monotonic_ns(),
            break_at,
            ..ProcessRecord::default()
        };
        for (to, from) in record.comm.iter_mut().zip(comm.bytes().take(15)) {
            *to = from;
        }
        let index =
            self.tracer.maps.register(record, uid).map_err(|source| TargetError::Register { pid, source })?;
        let index = index.ok_or(TargetError::TableFull)?;
        self.builder.read_processes(&mut self.tracer.maps);
        self.builder.was_found(index);
        Ok(index)
    }

    /// Keeps what was seen of a process: its code, its name, its allocators.
    pub(super) fn learn(&mut self, record: u32, view: &ProcessView, plan: &Plan) {
        if self.probes {
            plan.refusals.iter().for_each(|what| self.note(Note::NotProbed { what: what.clone() }));
        }
        self.builder.set_image(record, &view.mappings, &view.objects);
        self.publish_code(record);
        self.builder.describe(record, &view.exe, &view.comm, view.rss_bytes);
        if let Some(process) = self.builder.process_mut(record) {
            for file in &plan.files {
                if !process.allocators.contains(&file.allocator) {
                    process.allocators.push(file.allocator.clone());
                }
            }
        }
    }

    /// Lets go of the probes of a process that ended: many at once and in the background, because taking a
    /// probe away holds up every fork and every new probe of the machine for some 30 ms (`dup_mmap_sem`,
    /// kernel/events/uprobes.c), and those of an ended process cost nothing but a look at each hit elsewhere.
    pub(super) fn let_go(&mut self, pid: u32) {
        const AT_ONCE: usize = 128;
        let links = self.unprobe(pid);
        self.idle_links.extend(links);
        if self.idle_links.len() >= AT_ONCE {
            self.verification.forget_unwatched();
            self.discoverer.forget_unused();
            let links = std::mem::take(&mut self.idle_links);
            self.detaching.of_ended(links);
        }
    }
}

/// A plan's probes, as they are placed.
pub(super) fn probe_sites(plan: &FilePlan) -> Vec<ProbeSite> {
    let merged = merged_sites(&plan.probes).into_iter();
    merged.map(|(offset, record)| ProbeSite { offset, record }).collect()
}

/// Those of one function, for itself.
pub(super) fn probe_sites_of(probe: &Probe) -> impl Iterator<Item = ProbeSite> + '_ {
    probe.sites.iter().map(|site| ProbeSite { offset: site.offset, record: site.record })
}

/// Where the program break is, as far as can be told; 0 if it cannot.
fn heap_end(pid: u32, mappings: &[Mapping]) -> u64 {
    let heap = mappings.iter().rev().find(|mapping| mapping.path.as_deref() == Some(Path::new("[heap]")));
    // Without a heap the break is where one would begin.
    heap.map_or_else(|| procfs::read_stat(pid).map_or(0, |stat| stat.start_brk), |mapping| mapping.end)
}
