//! Targets come and go.

use super::Engine;
use crate::{
    bpf::MapError,
    error::CannotTrace,
    process::ldso::Program,
    session::{Session, TargetError},
    target::{HeldChild, Target, pids_named, pids_of_user},
};
use anyhow::bail;

impl<F> Engine<F> {
    /// Traces what is running of `target`: nothing of a command.
    ///
    /// # Errors
    /// [`CannotTrace`] if none of it is there, or can be traced.
    pub fn add_running(&mut self, target: &Target) -> anyhow::Result<()> {
        add_running(&mut self.session, target)?;
        self.clock.have_targets();
        Ok(())
    }

    /// Traces a process.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn add_pid(&mut self, pid: u32) -> Result<(), TargetError> {
        self.session.add_pid(pid)?;
        self.clock.have_targets();
        Ok(())
    }

    /// Traces a command that has not begun.
    ///
    /// # Errors
    /// [`CannotTrace`] if it cannot be.
    pub fn add_command(&mut self, child: &HeldChild, program: &Program) -> Result<(), CannotTrace> {
        self.session.add_command(child, program).map_err(cannot)?;
        self.clock.have_targets();
        Ok(())
    }

    /// Traces a process no more, nor children that were followed from it; gives the PIDs of them all, none if it was no
    /// target.
    ///
    /// # Errors
    /// If the kernel side cannot be told.
    pub fn drop_pid(&mut self, pid: u32) -> Result<Vec<u32>, MapError> {
        self.may_have_ended = true;
        self.session.remove_pid(pid)
    }
}

fn add_running(session: &mut Session, target: &Target) -> anyhow::Result<()> {
    match target {
        Target::All => session.add_all().map_err(cannot)?,
        Target::User { id, .. } => session.add_members(&pids_of_user(*id)?).map_err(cannot)?,
        Target::Cgroup(cgroup) => {
            let pids = cgroup.pids().map_err(|error| CannotTrace(error.to_string()))?;
            session.add_members(&pids).map_err(cannot)?;
        }
        Target::Pids(pids) => {
            for pid in pids {
                session.add_pid(*pid).map_err(cannot)?;
            }
        }
        Target::Comm(comm) => {
            let pids = pids_named(comm)?;
            if pids.is_empty() {
                bail!(CannotTrace(format!(
                    "no running process is named {comm}; names are those in /proc/PID/comm, at most 15 bytes"
                )));
            }
            let mut traced = 0;
            let mut last = None;
            for pid in pids {
                match session.add_pid(pid) {
                    Ok(()) => traced += 1,
                    Err(error) => last = Some(session.leave_out_named(pid, error)),
                }
            }
            if let (0, Some(error)) = (traced, last) {
                bail!(CannotTrace(error));
            }
        }
        Target::Command(_) => {}
    }
    Ok(())
}

fn cannot(error: TargetError) -> CannotTrace {
    CannotTrace(error.to_string())
}
