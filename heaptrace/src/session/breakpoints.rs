//! A debugger's breakpoints where probes would go: the kernel takes them for probes that are there already
//! (`verify_opcode`, kernel/events/uprobes.c, 6.18) and places nothing, so calls would be missing in silence.

use super::{Session, TargetError};
use crate::{
    probes::{discover::ProcessView, plan::FilePlan, plan::Plan, plan::Probe, refusal::Refusal},
    process::procfs,
};
use std::{fs::File, os::unix::fs::FileExt as _};

/// `int3`.
const BREAKPOINT: u8 = 0xcc;

impl Session {
    /// Refuses a process that is being debugged and has a breakpoint at a site that we have not probed yet. Other
    /// tracers' probes look the same, and are no matter where no debugger is.
    pub(super) fn check_breakpoints(&self, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        let (pid, tracer) = (view.identity.pid, view.status.tracer_pid);
        if tracer == 0 {
            return Ok(());
        }
        // Unreadable: then nothing can be said, and probes are placed as for any other process.
        let Ok(memory) = File::open(procfs::path(pid, "mem")) else { return Ok(()) };
        let unprobed = plan.files.iter().filter(|plan| !self.is_probed(pid, plan.file.id()));
        let symbols: Vec<String> = unprobed.flat_map(|plan| occupied(view, plan, &memory)).collect();
        if symbols.is_empty() {
            return Ok(());
        }
        let reason = Refusal::Breakpoints { symbols, tracer };
        Err(TargetError::Refused { pid, comm: view.comm.clone(), reason })
    }
}

/// The functions of a file at whose probe sites the process has a breakpoint that the file does not have.
fn occupied(view: &ProcessView, plan: &FilePlan, memory: &File) -> Vec<String> {
    let of_file = || view.mappings.iter().filter(|m| m.permissions.execute && plan.file.is_behind(m));
    let is_occupied = |offset: u64| {
        let address = of_file().find_map(|mapping| {
            let into = offset.checked_sub(mapping.offset)?;
            (into < mapping.end - mapping.start).then_some(mapping.start + into)
        });
        let mut byte = [0];
        address.is_some_and(|address| memory.read_exact_at(&mut byte, address).is_ok())
            && byte == [BREAKPOINT]
            && plan.file.read_at(offset, 1).is_ok_and(|original| original != byte)
    };
    let is_occupied = |probe: &&Probe| probe.sites.iter().any(|site| is_occupied(site.offset));
    let probes = plan.probes.iter().filter(is_occupied);
    probes.map(|probe| probe.symbol.clone()).collect()
}
