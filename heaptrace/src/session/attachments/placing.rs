//! Placing probes in one process, or wherever a file is mapped, and what is placed already.

use super::{Attachments, How, World, placed::PlacedProbes};
use crate::{
    model::Note,
    probes::{plan::FilePlan, refusal::Refusal},
    process::object::FileId,
    session::error::TargetError,
};
use heaptrace_common::event::Event;

impl<L: Send + 'static> Attachments<L> {
    /// Probes `files` in process `pid`, or, where probes are for all processes, wherever they are mapped.
    pub(super) fn place(
        &mut self,
        world: &mut impl World<L>,
        pid: u32,
        files: &[FilePlan],
    ) -> Result<(), TargetError> {
        if self.how.per_process && !self.leaderless.contains(pid) && world.thread_with_memory(pid) != pid {
            self.expect_leaderless(world, pid);
        }
        self.place_and_keep(world, pid, files)
    }

    /// The same by way of `thread`, one of the process's.
    pub(super) fn place_by(
        &mut self,
        world: &mut impl World<L>,
        pid: u32,
        thread: u32,
        files: &[FilePlan],
    ) -> Result<(), TargetError> {
        self.place_sites(world, pid, thread, files)?;
        files.iter().for_each(|plan| self.verify(world, pid, thread, plan));
        Ok(())
    }

    pub(super) fn place_sites(
        &mut self,
        world: &mut impl World<L>,
        pid: u32,
        thread: u32,
        files: &[FilePlan],
    ) -> Result<(), TargetError> {
        let How { probes, per_process, .. } = self.how;
        for plan in files.iter().filter(|_| probes) {
            let Some(plan) = self.missing(pid, plan) else { continue };
            // Last: a file can be written to at any time.
            if let Some(offset) = world.first_change(&plan) {
                let reason = Refusal::FileChanged { path: plan.file.path.clone(), offset };
                return Err(TargetError::Refused { pid, comm: world.comm(pid), reason });
            }
            let late = self.counts_already(world, pid);
            let links = world.attach(&plan, per_process.then_some(thread), late).map_err(|source| {
                let path = plan.file.path.display();
                // `ref_ctr_offset` of all who probe an instruction is to be one (kernel/events/uprobes.c).
                let hint = match source.raw_os_error() {
                    Some(libc::EINVAL) if plan.is_own_samples() => {
                        ", where another tracer may have a probe without its semaphore (--no-native does without)"
                    }
                    _ => "",
                };
                TargetError::Attach { path: format!("{path}{hint}"), source }
            })?;
            if per_process {
                let now_ns = world.now_ns();
                self.probed.entry(pid).or_insert_with(|| PlacedProbes::new(now_ns)).add(plan, links);
            } else {
                self.shared.add(plan.file.path.display().to_string());
                self.everywhere.add(plan, links);
            }
        }
        Ok(())
    }

    /// Whether calls of `pid`, or of any process where probes are for all, count by now.
    fn counts_already(&self, world: &impl World<L>, pid: u32) -> bool {
        if !self.how.per_process {
            return world.all_count();
        }
        world.index_of(pid).is_some_and(|record| world.is_armed(record))
    }

    /// A process's probes are in place: it counts from now on, which is when.
    pub(super) fn arm(&mut self, world: &mut impl World<L>, pid: u32, record: u32) -> u64 {
        let now_ns = world.now_ns();
        world.arm(record, now_ns);
        if self.how.per_process {
            self.verification.began_to_count(pid, world);
        }
        now_ns
    }

    /// What is probed in process `pid`.
    fn placed_in(&self, pid: u32) -> Option<&PlacedProbes<L>> {
        if self.how.per_process { self.probed.get(&pid) } else { Some(&self.everywhere) }
    }

    /// Whether any function of `file` is probed in process `pid`.
    pub(super) fn is_probed(&self, pid: u32, file: FileId) -> bool {
        self.placed_in(pid).is_some_and(|placed| placed.has(file))
    }

    /// The part of `plan` that is not probed in process `pid`.
    pub(super) fn missing(&self, pid: u32, plan: &FilePlan) -> Option<FilePlan> {
        self.placed_in(pid).map_or_else(|| Some(plan.clone()), |placed| placed.missing(plan))
    }

    /// The files of `plans` in which process `pid` lacks probes.
    pub(super) fn unprobed(&self, pid: u32, plans: &[FilePlan]) -> Vec<String> {
        let unprobed = plans.iter().filter(|plan| self.missing(pid, plan).is_some());
        unprobed.map(|plan| plan.file.path.display().to_string()).collect()
    }

    /// What is probed in process `pid` alone.
    pub(super) fn plans_in(&self, pid: u32) -> Vec<FilePlan> {
        self.probed.get(&pid).map(|placed| placed.plans().cloned().collect()).unwrap_or_default()
    }

    /// Lets go of what is probed in another process that had the PID of one that began at `started_ns`, if no event told of
    /// its exit.
    pub(super) fn let_go_of_namesake(&mut self, world: &mut impl World<L>, pid: u32, started_ns: u64) {
        if self.probed.get(&pid).is_some_and(|placed| placed.are_before(started_ns)) {
            self.let_go(world, pid);
        }
        self.forget_paused_namesake(pid, started_ns);
    }

    /// Probes in a forked child what is probed in its parent.
    pub(super) fn place_in_child(&mut self, world: &mut impl World<L>, event: &Event) {
        let Event { tgid: child, process: record, parent_tgid, time_ns, .. } = *event;
        if !self.how.per_process || !self.how.probes {
            return;
        }
        self.let_go_of_namesake(world, child, time_ns);
        if self.pauses_child(world, parent_tgid, child, record) {
            return;
        }
        let plans = self.plans_in(parent_tgid);
        // Its parent lost its probes; until it is looked at itself, it has a gap.
        if plans.is_empty() {
            return;
        }
        let before_ns = world.now_ns();
        let placed = self.place_sites(world, child, child, &plans);
        self.placed_ns = self.placed_ns.saturating_add(world.now_ns().saturating_sub(before_ns));
        match placed {
            Ok(()) => {}
            Err(error @ TargetError::Refused { .. }) => {
                return world.note(Note::ProbesNotPlaced { pid: child, reason: error.reason() });
            }
            // It has exited already; its gap is then its life.
            Err(_) => return,
        }
        world.arm(record, world.now_ns());
        // Most have replaced their image by now, and nothing of it need be known: probes go by file. What allocators it
        // has beside these is found when it is looked at.
        if let Some(now) = world.index_of(child).filter(|now| *now != record) {
            world.arm(now, world.now_ns());
        }
        // Last: its first calls are to be counted.
        plans.iter().for_each(|plan| self.verify(world, child, child, plan));
    }
}
