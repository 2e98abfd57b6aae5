//! Whether the code that a process runs is its file's, with our probes in it. Sites are chosen by the file; where somebody
//! has changed the code in memory (live patches, instrumentation, text relocations), one could lie in the middle of
//! another instruction, and the kernel would put the file's byte back when the probe goes. And the kernel places nothing,
//! and says nothing, in code that is writable (`valid_vma`, kernel/events/uprobes.c, 6.18).

use super::{
    Session, TargetError,
    mapped_code::{MappedCode, Stretch},
    monotonic_ns,
    placed::PlacedProbes,
};
use crate::{
    probes::{
        discover::ProcessView,
        plan::{FilePlan, Plan},
        probe::Probe,
        refusal::Refusal,
    },
    process::{maps::Mapping, procfs},
};

/// `int3`: a probe, another tracer's or a debugger's breakpoint, which only hides a byte.
const BREAKPOINT: u8 = 0xcc;

/// `call rel32`: what Linux from 6.18 makes of a probe on a long nop.
const CALL: u8 = 0xe8;

/// `nopl 0x0(%rax,%rax,1)`.
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// What code is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The file's bytes.
    File,
    /// The same, and a breakpoint at each site.
    Probes,
}

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
            if let Some(reason) = self.fault_in_probed(pid).filter(|fault| !is_told(fault)) {
                let comm = procfs::comm(pid).unwrap_or_default();
                self.let_go_of_refused(TargetError::Refused { pid, comm, reason });
            }
        }
    }

    /// Refuses a process whose allocator's code is not what its file has, in files of which we have not probed all yet.
    pub(super) fn check_code(&self, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        let missing = plan.files.iter().filter_map(|plan| self.missing(view.identity.pid, plan));
        let missing: Vec<FilePlan> = missing.collect();
        refuse_fault(view, &missing.iter().collect::<Vec<_>>(), Expected::File)
    }

    /// Refuses a process that lacks any of the probes that were placed in it.
    pub(super) fn check_placed(view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        refuse_fault(view, &plan.files.iter().collect::<Vec<_>>(), Expected::Probes)
    }

    /// Refuses a process that is being debugged and has a breakpoint at a site that we have not probed yet: the kernel
    /// takes it for a probe that is there already (`verify_opcode`, kernel/events/uprobes.c, 6.18) and places nothing, so
    /// calls would be missing in silence. Other tracers' probes look the same, and are no matter where no debugger is.
    pub(super) fn check_breakpoints(&self, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        let (pid, tracer) = (view.identity.pid, view.status.tracer_pid);
        if tracer == 0 {
            return Ok(());
        }
        // Unreadable: then nothing can be said, and probes are placed as for any other process.
        let Some(code) = MappedCode::open(view.thread, &view.mappings) else { return Ok(()) };
        let missing = plan.files.iter().filter_map(|plan| self.missing(pid, plan));
        let symbols: Vec<String> = missing.flat_map(|plan| occupied(&code, &plan)).collect();
        if symbols.is_empty() {
            return Ok(());
        }
        let reason = Refusal::Breakpoints { symbols, tracer };
        Err(TargetError::Refused { pid, comm: view.comm.clone(), reason })
    }

    /// What is not as expected in the code of a process that was probed.
    pub(super) fn fault_in_probed(&self, pid: u32) -> Option<Refusal> {
        let code = MappedCode::now(procfs::thread_with_memory(pid))?;
        let own = self.probed.get(&pid).into_iter().flat_map(PlacedProbes::plans);
        own.chain(self.everywhere.plans()).find_map(|plan| fault_in(&code, plan, Expected::Probes))
    }
}

/// Whether a process lacks the breakpoint of any of a file's sites, as one of its threads sees it.
pub(super) fn lacks_breakpoints(thread: u32, plan: &FilePlan) -> bool {
    let Some(code) = MappedCode::now(thread) else { return false };
    let is_missing = |offset: u64| {
        let mut stretches = code.stretches(&plan.file, offset..offset + 1);
        stretches.any(|stretch| stretch.in_memory.iter().any(|byte| !is_probe(*byte)))
    };
    plan.probes.iter().any(|probe| probe.sites.iter().any(|site| is_missing(site.offset)))
}

fn refuse_fault(view: &ProcessView, plans: &[&FilePlan], expected: Expected) -> Result<(), TargetError> {
    let pid = view.identity.pid;
    match fault(view.thread, &view.mappings, plans, expected) {
        Some(reason) => Err(TargetError::Refused { pid, comm: view.comm.clone(), reason }),
        None => Ok(()),
    }
}

/// What is not as expected in a process's code of the files of `plans`. Nothing can be said of what cannot be read.
fn fault(thread: u32, mappings: &[Mapping], plans: &[&FilePlan], expected: Expected) -> Option<Refusal> {
    let find = |code: &MappedCode<'_>| plans.iter().find_map(|plan| fault_in(code, plan, expected));
    find(&MappedCode::open(thread, mappings)?)?;
    // Not what another image has there, which the process has replaced its own with since.
    find(&MappedCode::now(thread)?)
}

fn fault_in(code: &MappedCode<'_>, plan: &FilePlan, expected: Expected) -> Option<Refusal> {
    let path = || plan.file.path.clone();
    plan.code.iter().flat_map(|range| code.stretches(&plan.file, range.clone())).find_map(|stretch| {
        if let Some(at) = changed_at(&stretch.in_file, &stretch.in_memory) {
            return Some(Refusal::CodeChanged { path: path(), offset: stretch.offset + at as u64 });
        }
        let mut sites =
            plan.probes.iter().flat_map(|probe| probe.sites.iter().map(move |s| (probe, s.offset)));
        let is_missing =
            |(_, offset): &(&Probe, u64)| byte_at(&stretch, *offset).is_some_and(|byte| !is_probe(byte));
        let (probe, offset) = sites.find(is_missing).filter(|_| expected == Expected::Probes)?;
        Some(Refusal::NoBreakpoint { path: path(), symbol: probe.symbol.clone(), offset })
    })
}

fn is_probe(byte: u8) -> bool {
    matches!(byte, BREAKPOINT | CALL)
}

fn byte_at(stretch: &Stretch, offset: u64) -> Option<u8> {
    stretch.in_memory.get(usize::try_from(offset.checked_sub(stretch.offset)?).ok()?).copied()
}

/// The functions of a file at whose probe sites the process has a breakpoint that the file does not have.
fn occupied(code: &MappedCode<'_>, plan: &FilePlan) -> Vec<String> {
    let is_occupied = |offset: u64| {
        let mut stretches = code.stretches(&plan.file, offset..offset + 1);
        stretches.any(|byte| byte.in_memory == [BREAKPOINT] && byte.in_file != [BREAKPOINT])
    };
    let is_occupied = |probe: &&Probe| probe.sites.iter().any(|site| is_occupied(site.offset));
    let probes = plan.probes.iter().filter(is_occupied);
    probes.map(|probe| probe.symbol.clone()).collect()
}

/// Where the code differs, if not by breakpoints and what the kernel makes of probes.
fn changed_at(file: &[u8], mapped: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < file.len().min(mapped.len()) {
        if file[at..].starts_with(&NOP5) && is_probe(mapped[at]) {
            at += NOP5.len();
            continue;
        }
        if file[at] != mapped[at] && mapped[at] != BREAKPOINT {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: [u8; 10] = [0x53, 0x48, 0x89, 0xfb, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];

    #[test]
    fn breakpoints_and_probed_nops_are_no_change() {
        assert_eq!(changed_at(&CODE, &CODE), None);
        let mut mapped = CODE;
        mapped[0] = 0xcc;
        assert_eq!(changed_at(&CODE, &mapped), None);
        mapped[4..9].copy_from_slice(&[0xe8, 1, 2, 3, 4]);
        assert_eq!(changed_at(&CODE, &mapped), None);
    }

    #[test]
    fn a_patch_is_a_change() {
        let mut mapped = CODE;
        mapped[..2].copy_from_slice(&[0xeb, 0x10]);
        assert_eq!(changed_at(&CODE, &mapped), Some(0));
        mapped = CODE;
        mapped[9] = 0x90;
        assert_eq!(changed_at(&CODE, &mapped), Some(9));
    }
}
