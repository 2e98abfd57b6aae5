//! Whether the code that a process runs is its file's. Sites are chosen by the file; where somebody has changed the code
//! in memory (live patches, instrumentation, text relocations), one could lie in the middle of another instruction, and
//! the kernel would put the file's byte back when the probe goes.

use super::{Session, TargetError};
use crate::{
    probes::{discover::ProcessView, plan::FilePlan, plan::Plan, refusal::Refusal},
    process::procfs,
};
use std::{fs::File, os::unix::fs::FileExt as _};

/// `int3`: another tracer's probe or a debugger's breakpoint, which only hides a byte.
const BREAKPOINT: u8 = 0xcc;

/// `nopl 0x0(%rax,%rax,1)`, which a probe on it becomes a call of, from Linux 6.18.
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

impl Session {
    /// Refuses a process whose allocator's code is not what its file has, in files that we have not probed yet.
    pub(super) fn check_code(&self, view: &ProcessView, plan: &Plan) -> Result<(), TargetError> {
        let pid = view.identity.pid;
        // Unreadable: then nothing can be said.
        let Ok(memory) = File::open(procfs::path(pid, "mem")) else { return Ok(()) };
        let unprobed = plan.files.iter().filter(|plan| !self.is_probed(pid, plan.file.id()));
        let changed = unprobed.filter_map(|plan| Some((plan, first_change(view, plan, &memory)?)));
        let Some((plan, offset)) = changed.into_iter().next() else { return Ok(()) };
        let reason = Refusal::CodeChanged { path: plan.file.path.clone(), offset };
        Err(TargetError::Refused { pid, comm: view.comm.clone(), reason })
    }
}

/// The file offset of the first instruction byte of a probed function that the process has changed.
fn first_change(view: &ProcessView, plan: &FilePlan, memory: &File) -> Option<u64> {
    let of_file = || view.mappings.iter().filter(|m| m.permissions.execute && plan.file.is_behind(m));
    plan.code.iter().find_map(|range| {
        let length = usize::try_from(range.end - range.start).ok()?;
        let address = of_file().find_map(|mapping| {
            let into = range.start.checked_sub(mapping.offset)?;
            (into + length as u64 <= mapping.end - mapping.start).then_some(mapping.start + into)
        })?;
        let mut mapped = vec![0; length];
        memory.read_exact_at(&mut mapped, address).ok()?;
        let file = plan.file.read_at(range.start, length).ok()?;
        changed_at(&file, &mapped).map(|at| range.start + at as u64)
    })
}

/// Where the code differs, if not by breakpoints and what the kernel makes of probes.
fn changed_at(file: &[u8], mapped: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < file.len().min(mapped.len()) {
        if file[at..].starts_with(&NOP5) && matches!(mapped[at], 0xe8 | 0xcc) {
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
