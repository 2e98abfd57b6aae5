//! Looks again at the code of those that were probed.

use super::{Session, TargetError, code_check::fault_now, monotonic_ns};
use crate::{probes::refusal::Refusal, process::procfs};

impl Session {
    /// Looks at the code of those whose turn it is: for once a second.
    pub(super) fn look_at_code(&mut self) {
        if !self.probes || self.counting.is_over() {
            return;
        }
        let running: Vec<u32> = self.builder.running().map(|(_, pid)| pid).collect();
        for pid in self.code_rounds.due(&running, monotonic_ns()) {
            // Breakpoints that went with its first thread are told of where they are held.
            let is_told = |fault: &Refusal| {
                matches!(fault, Refusal::NoBreakpoint { .. }) && !procfs::is_running(pid, pid)
            };
            let (attachments, mut world) = self.split();
            let fault = fault_now(pid, attachments.plans_for(pid)).filter(|fault| !is_told(fault));
            if let Some(reason) = fault {
                let comm = procfs::comm(pid).unwrap_or_default();
                attachments.let_go_of_refused(&mut world, TargetError::Refused { pid, comm, reason });
            }
        }
    }
}
