//! Targets in and out: a PID, a command before it runs, the whole machine.

use super::{Session, TargetError, attachments::World as _};
use crate::{
    bpf::MapError,
    probes::refusal::{Refusal, refusal},
    process::{ldso::Program, procfs},
    target::HeldChild,
};

impl Session {
    /// Traces a running process.
    pub fn add_pid(&mut self, pid: u32) -> Result<(), TargetError> {
        let (attachments, mut world) = self.split();
        attachments.add(&mut world, pid, true)?;
        self.begin_counting();
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
        let (attachments, mut world) = self.split();
        for pid in pids.iter().copied().filter(|pid| *pid != own) {
            attachments.add_one_of_many(&mut world, pid, whole)?;
        }
        self.begin_counting();
        Ok(())
    }

    /// One of several targets cannot be traced: the report says so, if the others are. Gives why.
    pub fn leave_out_named(&mut self, pid: u32, error: TargetError) -> String {
        let (attachments, mut world) = self.split();
        attachments.leave_out_named(&mut world, pid, error)
    }

    /// Traces a command that has not begun: its probes are in place before it execs.
    pub fn add_command(&mut self, child: &HeldChild, program: &Program) -> Result<(), TargetError> {
        let Program { exe, libraries } = program;
        let fail = |reason: String| TargetError::Command { command: exe.display().to_string(), reason };
        let plan = self.discoverer.plan_for_paths(exe, libraries).map_err(|error| fail(error.to_string()))?;
        let status = procfs::read_status(child.pid()).map_err(|error| fail(error.to_string()))?;
        // What it loads itself, or starts, may tell of samples.
        let may_yet = |reason: &Refusal| matches!(reason, Refusal::NoSamples { .. });
        if let Some(reason) = refusal(&status, &plan).filter(|reason| self.probes && !may_yet(reason)) {
            return Err(fail(reason.to_string()));
        }
        let files = if plan.prefers_own { plan.own } else { plan.files };
        if let Some(unwinding) = &mut self.unwinding {
            let files = std::iter::once(exe).chain(libraries);
            let objects: Vec<_> = files.filter_map(|path| self.discoverer.object_at(path)).collect();
            unwinding.prepare(&objects);
        }
        let (attachments, mut world) = self.split();
        world.wait_for_tables();
        attachments.add_held(&mut world, child.pid(), &files)?;
        self.begin_counting();
        Ok(())
    }

    /// Takes the probes of a process away, and those of children that were followed from it: what they did until now
    /// stays in the profile, as that of processes that are not looked at any more. Gives the PIDs that were let go of;
    /// none if the process was no target, or if probes are not placed by process.
    ///
    /// # Errors
    /// If the kernel side cannot be told.
    pub fn remove_pid(&mut self, pid: u32) -> Result<Vec<u32>, MapError> {
        let (attachments, mut world) = self.split();
        attachments.remove(&mut world, pid)
    }
}
