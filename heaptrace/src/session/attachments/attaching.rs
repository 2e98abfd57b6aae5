//! From a process to its probes: looked at, made a target, probed and counted; and looked at again.

use super::{Attachments, World, unheard::forget_vanished};
use crate::{
    drain::Code,
    model::{AllocatorInfo, Note},
    probes::{
        discover::ProcessView,
        plan::{FilePlan, FileRefusal, Plan},
        refusal::{Refusal, refusal},
    },
    process::{
        object::Object,
        procfs::{self, ProcError},
    },
    session::{code_check::Expected, error::TargetError},
};
use heaptrace_common::record::{armed, process_state};
use std::{collections::BTreeSet, sync::Arc};

/// When the process of a record began, as far as the records of its images before are still there; else 0.
fn began_ns<L>(world: &impl World<L>, record: u32) -> u64 {
    /// Of those that are not retired yet.
    const IMAGES: usize = 64;
    let of = |record| world.builder().record(record);
    let Some(mut image) = of(record) else { return 0 };
    for _ in 0..IMAGES {
        if image.after_exec == 0 {
            return image.started_ns;
        }
        // Another process may have the place of one that was.
        match of(image.parent) {
            Some(before) if before.tgid == image.tgid && before.state == process_state::REPLACED => {
                image = before
            }
            _ => break,
        }
    }
    0
}

impl<L: Send + 'static> Attachments<L> {
    /// Traces a running process. `whole`: from the first call on with whole stacks, though it takes longer to begin.
    ///
    /// # Errors
    /// If it cannot be traced, or is gone by now.
    pub fn add(&mut self, world: &mut impl World<L>, pid: u32, whole: bool) -> Result<(), TargetError> {
        let (view, plan) = world.discover(pid).map_err(|source| TargetError::Discover { pid, source })?;
        let plan = self.settled(world, pid, plan);
        self.check(&view, &plan)?;
        if self.how.probes {
            self.check_breakpoints(world, &view, &plan)?;
            self.check_code(world, &view, &plan)?;
        }
        let record = self.register(world, pid, Some(&view))?;
        self.let_go_of_namesake(world, pid, began_ns(world, record));
        self.learn(world, record, &view, &plan);
        if self.pauses(world, pid, record) {
            return Ok(());
        }
        if whole {
            world.wait_for_tables();
        }
        self.place(world, pid, &plan.files)?;
        if self.how.probes
            && let Err(error) = check_placed(world, &view, &plan)
        {
            self.take_away(pid);
            return Err(error);
        }
        self.arm(world, pid, record);
        Ok(())
    }

    /// Traces one of those that nobody named: that it is gone, or must be left alone, is no error.
    ///
    /// # Errors
    /// If no process can be traced.
    pub fn add_one_of_many(
        &mut self,
        world: &mut impl World<L>,
        pid: u32,
        whole: bool,
    ) -> Result<(), TargetError> {
        match self.add(world, pid, whole) {
            Ok(()) => {}
            // Ended meanwhile, or a kernel thread.
            Err(TargetError::Discover { .. }) => {}
            Err(TargetError::Refused { pid, comm, reason }) => self.leave_out(world, pid, comm, reason),
            Err(TargetError::Attach { .. }) if !world.exists(pid) => {}
            Err(error @ TargetError::Attach { .. }) => {
                world.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Traces a process that is held before its exec, which will map `files`.
    ///
    /// # Errors
    /// If it cannot be traced.
    pub fn add_held(
        &mut self,
        world: &mut impl World<L>,
        pid: u32,
        files: &[FilePlan],
    ) -> Result<(), TargetError> {
        let record = self.register(world, pid, None)?;
        if self.pauses(world, pid, record) {
            return Ok(());
        }
        self.place(world, pid, files)?;
        world.arm(record, world.now_ns());
        Ok(())
    }

    /// Looks at a traced process again: new mappings, and allocators that were not there before `since_ns`.
    pub fn look_again(&mut self, world: &mut impl World<L>, pid: u32, record: u32, since_ns: u64) {
        let Ok((view, plan)) = world.discover(pid) else {
            return self.never_looked_at(world, pid, record);
        };
        // A process that exits has let go of its memory before /proc forgets it.
        if view.mappings.is_empty() {
            return self.never_looked_at(world, pid, record);
        }
        self.let_go_of_namesake(world, pid, began_ns(world, record));
        // Then its gap is said of the process.
        let armed = world.is_armed(record);
        if self.is_over {
            return self.look_last(world, (record, since_ns), &view, &plan);
        }
        let plan = self.settled(world, pid, plan);
        self.learn(world, record, &view, &plan);
        // Before its libraries are mapped, a new image has no allocator yet: that is no refusal.
        if plan.files.is_empty() || !self.how.probes || self.pauses(world, pid, record) {
            return;
        }
        let mut new = self.unprobed(pid, &plan.files);
        // What a debugger's breakpoints keep from being seen is told; the rest goes on.
        if let Err(error) = self.check_breakpoints(world, &view, &plan) {
            world.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
        }
        let checked = self.check(&view, &plan).and_then(|()| self.check_code(world, &view, &plan));
        let place = |attachments: &mut Self, world: &mut _| {
            attachments.place(world, pid, &plan.files).and_then(|()| check_placed(world, &view, &plan))
        };
        let mut placed = checked.and_then(|()| place(self, world));
        if let Err(TargetError::Refused { reason: Refusal::NoBreakpoint { .. }, .. }) = placed
            && world.links_cover_processes()
            && self.are_of_image_before(world, pid, record)
        {
            // No event told that another thread made the exec.
            self.void(world, pid);
            new = self.unprobed(pid, &plan.files);
            placed = place(self, world);
        }
        match placed {
            Ok(()) => {
                let now_ns = self.arm(world, pid, record);
                self.untraceable.remove(&pid);
                self.looked_at.insert(record);
                if !new.is_empty() && armed {
                    world.builder_mut().add_gap(record, since_ns..now_ns);
                    note_late(world, pid, &view.comm, &new, now_ns.saturating_sub(since_ns));
                }
            }
            Err(error @ TargetError::Refused { .. }) => self.let_go_of_refused(world, error),
            // It may have ended meanwhile.
            Err(error) if world.exists(pid) => {
                world.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
            }
            // Its probes were away on purpose, and that is told.
            Err(_) if world.builder().record(record).is_some_and(|of| of.armed == armed::PAUSED) => {}
            Err(_) => self.never_looked_at(world, pid, record),
        }
    }

    /// A process was to be looked at again when tracing ended: its code is learnt, and what is not probed is said.
    fn look_last(
        &self,
        world: &mut impl World<L>,
        (record, since_ns): (u32, u64),
        view: &ProcessView,
        plan: &Plan,
    ) {
        self.learn(world, record, view, plan);
        let pid = view.identity.pid;
        let is_own = self.probed.get(&pid).is_some_and(|placed| placed.plans().any(FilePlan::is_own_samples));
        let new = if is_own || !self.how.probes { Vec::new() } else { self.unprobed(pid, &plan.files) };
        // Else it has a gap until now anyway.
        if !new.is_empty() && world.is_armed(record) {
            world.builder_mut().add_gap(record, since_ns..u64::MAX);
            note_late(world, pid, &view.comm, &new, world.now_ns().saturating_sub(since_ns));
        }
    }

    /// What is probed of a plan: the allocator's own samples where it offers them, unless its functions are probed already, from
    /// before a library came that does, or from the program that was there before. Both at once would count twice.
    fn settled(&mut self, world: &mut impl World<L>, pid: u32, mut plan: Plan) -> Plan {
        if plan.only_own {
            return plan;
        }
        let (own, functions): (Vec<FilePlan>, Vec<FilePlan>) =
            self.plans_in(pid).into_iter().partition(FilePlan::is_own_samples);
        if plan.prefers_own && functions.is_empty() {
            plan.files = std::mem::take(&mut plan.own);
            plan.refusals = plan.own_refusals.iter().map(FileRefusal::to_string).collect();
        } else if let Some(placed) = self.probed.get_mut(&pid).filter(|_| !own.is_empty()) {
            // Of the image before, or its parent's. Nothing counts while they go.
            if let Some(record) = world.index_of(pid) {
                world.disarm(record);
            }
            let links = own.iter().flat_map(|plan| placed.remove(plan.file.below.id));
            drop(links.collect::<Vec<L>>());
        }
        plan
    }

    /// Says of a process that it is traced by samples of its own, if it was chosen.
    fn tell_of_own_samples(world: &mut impl World<L>, view: &ProcessView, plan: &Plan) {
        let own = plan.files.iter().filter(|plan| plan.is_own_samples());
        let files: Vec<String> = own.map(|plan| plan.file.path.display().to_string()).collect();
        if !plan.only_own && !files.is_empty() {
            let (pid, comm) = (view.identity.pid, view.comm.clone());
            world.note(Note::OwnSamples { pid, comm, files });
        }
    }

    /// Whether what is probed in a process was placed in the image before the one of `record`.
    fn are_of_image_before(&self, world: &impl World<L>, pid: u32, record: u32) -> bool {
        let began = world.builder().record(record).filter(|of| of.after_exec != 0).map(|of| of.started_ns);
        began.is_some_and(|began| self.probed.get(&pid).is_some_and(|placed| placed.are_before(began)))
    }

    /// Where probes are for all: a process that is no target yet may have brought an allocator that nobody had before, at
    /// its exec at `since_ns`.
    pub(super) fn look_for_allocators(&mut self, world: &mut impl World<L>, pid: u32, since_ns: u64) {
        let Ok((view, plan)) = world.discover(pid) else { return };
        note_not_probed(world, &plan.served);
        let new = self.unprobed(pid, &plan.files);
        match self.place(world, pid, &plan.files) {
            Ok(()) if !new.is_empty() => {
                let late_ns = world.now_ns().saturating_sub(since_ns);
                note_late(world, pid, &view.comm, &new, late_ns);
            }
            Err(error @ TargetError::Refused { .. }) => {
                world.note(Note::ProbesNotPlaced { pid, reason: error.reason() });
            }
            // Gone by now: else it will be looked at again when it allocates.
            _ => {}
        }
    }

    /// A process ended before anybody could look at what it had mapped last: allocators among that, which nobody could
    /// foresee, were not probed.
    pub(super) fn never_looked_at(&mut self, world: &mut impl World<L>, pid: u32, record: u32) {
        let per_process = self.how.per_process;
        if !self.how.probes || per_process && !self.probed.contains_key(&pid) {
            return;
        }
        let code = world.builder().code(record);
        let mut objects: Vec<&Arc<Object>> = code.iter().filter_map(Code::object).collect();
        // By address: the program lies lowest, and libraries the lower the later they were mapped, which is their order of
        // resolution.
        if let Some(libraries) = objects.get_mut(1..) {
            libraries.reverse();
        }
        let plan = world.plan_of(objects);
        let plan = if self.is_over { plan } else { self.settled(world, pid, plan) };
        note_not_probed(world, &plan.refusals);
        learn_allocators(world, record, &plan);
        let mut files: BTreeSet<String> = self.unprobed(pid, &plan.files).into_iter().collect();
        if per_process {
            files.extend(world.builder().unopened_code(record).map(str::to_owned));
        }
        if files.is_empty() {
            return;
        }
        let comm =
            world.builder_mut().process_mut(record).map(|process| process.comm.clone()).unwrap_or_default();
        let files = files.into_iter().collect();
        world.note(Note::EndedUnseen { pid, comm, files, opened: !per_process });
        if !per_process && !self.is_over {
            // For the next that are like it. What cannot be placed is told as it was.
            let _ = self.place_sites(world, pid, pid, &plan.files);
            // Where probes are placed by process, it has one until it is looked at.
            if let Some(started_ns) = world.builder().record(record).map(|record| record.started_ns) {
                world.builder_mut().add_gap(record, started_ns..u64::MAX);
            }
        }
    }

    /// The record of `pid`: there already, or new.
    fn register(
        &self,
        world: &mut impl World<L>,
        pid: u32,
        seen: Option<&ProcessView>,
    ) -> Result<u32, TargetError> {
        if let Some(record) = world.index_of(pid) {
            return Ok(record);
        }
        let index = world.register(pid, seen).map_err(|source| TargetError::Register { pid, source })?;
        let index = index.ok_or(TargetError::TableFull)?;
        world.read_processes();
        world.builder_mut().was_found(index);
        // Of an end that came before, nobody tells.
        if !world.is_running(pid, world.thread_with_memory(pid)) {
            forget_vanished(world, pid, index);
            let source = ProcError::Gone { pid, file: procfs::path(pid, "stat") }.into();
            return Err(TargetError::Discover { pid, source });
        }
        Ok(index)
    }

    /// Keeps what was seen of a process: its code, its name, its allocators.
    fn learn(&self, world: &mut impl World<L>, record: u32, view: &ProcessView, plan: &Plan) {
        if self.how.probes {
            note_not_probed(world, &plan.refusals);
            for AllocatorInfo { kind, path } in &plan.hidden {
                world.note(Note::HiddenAllocator { path: path.clone(), allocator: kind.clone() });
            }
            Self::tell_of_own_samples(world, view, plan);
        }
        world.builder_mut().set_image(record, &view.mappings, &view.objects);
        world.publish_code(record);
        world.builder_mut().describe(record, &view.exe, &view.comm, view.rss_bytes);
        learn_allocators(world, record, plan);
    }

    fn check(&self, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        let Some(reason) = refusal(&view.status, plan) else { return Ok(()) };
        let applies = match reason {
            Refusal::NoMemory => true,
            // The system calls of 32-bit programs have no tracepoints.
            Refusal::WrongMachine { .. } => !self.how.watched,
            _ => self.how.probes,
        };
        if applies { Err(refused(view, reason)) } else { Ok(()) }
    }

    /// Refuses a process whose allocator's code is not what its file has, in files of which we have not probed all yet.
    fn check_code(&self, world: &impl World<L>, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        let missing = self.missing_of(view, plan);
        let fault = world.fault(view, &missing.iter().collect::<Vec<_>>(), Expected::File);
        fault.map_or(Ok(()), |reason| Err(refused(view, reason)))
    }

    /// Refuses a process that is being debugged and has a breakpoint at a site that we have not probed yet: the kernel
    /// takes it for a probe that is there already (`verify_opcode`, kernel/events/uprobes.c, 6.18) and places nothing, so
    /// calls would be missing in silence. Other tracers' probes look the same, and are no matter where no debugger is.
    fn check_breakpoints(
        &self,
        world: &impl World<L>,
        view: &ProcessView,
        plan: &Plan,
    ) -> Result<(), TargetError> {
        let tracer = view.status.tracer_pid;
        if tracer == 0 {
            return Ok(());
        }
        let symbols = world.occupied(view, &self.missing_of(view, plan));
        if symbols.is_empty() {
            return Ok(());
        }
        Err(refused(view, Refusal::Breakpoints { symbols, tracer }))
    }

    /// The parts of a plan that are not probed in its process.
    fn missing_of(&self, view: &ProcessView, plan: &Plan) -> Vec<FilePlan> {
        plan.files.iter().filter_map(|plan| self.missing(view.identity.pid, plan)).collect()
    }
}

/// Keeps which allocators a process has.
fn learn_allocators<L>(world: &mut impl World<L>, record: u32, plan: &Plan) {
    let Some(process) = world.builder_mut().process_mut(record) else { return };
    for file in &plan.files {
        if !process.allocators.contains(&file.allocator) {
            process.allocators.push(file.allocator.clone());
        }
    }
}

/// Refuses a process that lacks any of the probes that were placed in it.
fn check_placed<L>(world: &impl World<L>, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
    let fault = world.fault(view, &plan.files.iter().collect::<Vec<_>>(), Expected::Probes);
    fault.map_or(Ok(()), |reason| Err(refused(view, reason)))
}

fn refused(view: &ProcessView, reason: Refusal) -> TargetError {
    TargetError::Refused { pid: view.identity.pid, comm: view.comm.clone(), reason }
}

/// Each is a sentence.
fn note_not_probed<L>(world: &mut impl World<L>, what: &[String]) {
    what.iter().for_each(|what| world.note(Note::NotProbed { what: what.clone() }));
}

/// Probes of `files` came so late after they were mapped.
fn note_late<L>(world: &mut impl World<L>, pid: u32, comm: &str, files: &[String], late_ns: u64) {
    world.note(Note::ProbedLate { pid, comm: comm.to_owned(), files: files.to_vec(), late_ns });
}
