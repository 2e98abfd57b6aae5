//! Targets come and go.

use super::Engine;
use crate::{
    bpf::MapError,
    error::CannotTrace,
    process::{ldso::Program, procfs},
    session::{Session, TargetError},
    target::{HeldChild, Target, descendants, pids_named, pids_of_user},
};
use anyhow::bail;
use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

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
    /// [`CannotTrace`] if it cannot be.
    pub fn add_pid(&mut self, pid: u32) -> Result<(), CannotTrace> {
        add_pid(&mut self.session, pid)?;
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
                add_pid(session, *pid)?;
            }
        }
        Target::Comm(comm) => {
            let pids = pids_named(comm)?;
            if pids.is_empty() {
                bail!(CannotTrace(format!(
                    "no running process is named {comm}; names are those in /proc/PID/comm, at most 15 bytes"
                )));
            }
            Added::default().and(session, &pids).any()?;
        }
        Target::Tree(named) => add_tree(session, named)?,
        Target::Command(_) => {}
    }
    Ok(())
}

/// Of several processes, of which some may have ended or must be left alone.
#[derive(Default)]
struct Added {
    any: bool,
    /// Why the last one that is not traced is not.
    last: Option<String>,
}

impl Added {
    fn and(mut self, session: &mut Session, pids: &[u32]) -> Self {
        for pid in pids {
            match session.add_pid(*pid) {
                Ok(()) => self.any = true,
                Err(error) => {
                    let ended = has_ended(*pid);
                    let why = session.leave_out_named(*pid, error);
                    self.last = Some(if ended { ended_before(*pid) } else { why });
                }
            }
        }
        self
    }

    /// # Errors
    /// [`CannotTrace`] if none is traced.
    fn any(self) -> Result<(), CannotTrace> {
        match self.last {
            Some(why) if !self.any => Err(CannotTrace(why)),
            _ => Ok(()),
        }
    }
}

/// Traces `named`, which must be there, and what runs below them.
fn add_tree(session: &mut Session, named: &[u32]) -> anyhow::Result<()> {
    /// What is started before its parent is traced is found in the next round; what is started later is followed.
    const ROUNDS: usize = 4;
    if let Some(pid) = named.iter().find(|pid| !procfs::exists(**pid)) {
        bail!(nobody(*pid));
    }
    let mut added = Added::default();
    let mut looked_at: HashSet<u32> = HashSet::new();
    let mut pids = named.to_vec();
    pids.extend(descendants(named)?);
    for _ in 0..ROUNDS {
        added = added.and(session, &pids);
        looked_at.extend(&pids);
        pids = descendants(named)?;
        pids.retain(|pid| !looked_at.contains(pid) && !session.knows(*pid));
        if pids.is_empty() {
            break;
        }
    }
    Ok(added.any()?)
}

/// Of one that ends meanwhile that is why, whatever was met first: a file of /proc that is not there, memory that it has let
/// go of, a probe that finds no process.
fn add_pid(session: &mut Session, pid: u32) -> Result<(), CannotTrace> {
    let was_there = procfs::exists(pid);
    session.add_pid(pid).map_err(|error| match was_there {
        false => nobody(pid),
        true if has_ended(pid) => CannotTrace(ended_before(pid)),
        true => cannot(error),
    })
}

fn nobody(pid: u32) -> CannotTrace {
    CannotTrace(format!("there is no process {pid}"))
}

fn ended_before(pid: u32) -> String {
    format!("process {pid} ended before it could be traced")
}

/// Whether a process that could not be traced has ended, or does just now.
fn has_ended(pid: u32) -> bool {
    const SOON: Duration = Duration::from_millis(200);
    const POLL: Duration = Duration::from_millis(5);
    let before = Instant::now();
    loop {
        if !procfs::is_running(pid, procfs::thread_with_memory(pid)) {
            return true;
        }
        // Its memory goes first (`do_exit`, kernel/exit.c); a kernel thread has none.
        let is_ending = procfs::read_status(pid).is_ok_and(|status| status.no_memory);
        if !is_ending || before.elapsed() > SOON {
            return false;
        }
        thread::sleep(POLL);
    }
}

fn cannot(error: TargetError) -> CannotTrace {
    CannotTrace(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_is_told_from_who_runs() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        assert!(!has_ended(child.id()));
        child.kill().expect("a signal");
        let before = Instant::now();
        // Not waited for: there is still something of it.
        while !has_ended(child.id()) {
            assert!(before.elapsed() < Duration::from_secs(60));
        }
        assert!(procfs::exists(child.id()));
        child.wait().expect("its end");
        assert!(has_ended(child.id()));
    }
}
