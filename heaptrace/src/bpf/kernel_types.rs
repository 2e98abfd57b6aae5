//! Offsets of kernel struct members, from the kernel's own BTF.

use super::{LoadError, btf::Btf};

/// Where the running kernel describes its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Byte offsets that the BPF programs need.
#[derive(Clone, Copy, Debug)]
pub struct KernelTypes {
    pub task_tgid: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    pub task_cred: u32,
    pub cred_euid: u32,
    /// `None` if the kernel names them otherwise, or has no uprobes.
    pub return_instances: Option<ReturnInstances>,
}

/// Where a thread's replaced return addresses are: `task_struct.utask`, `uprobe_task.return_instances`, and the
/// members `stack`, `orig_ret_vaddr` and `next` of a `return_instance`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReturnInstances {
    pub task_utask: u32,
    pub utask_return_instances: u32,
    pub instance_stack: u32,
    pub instance_address: u32,
    pub instance_next: u32,
}

impl ReturnInstances {
    fn find(btf: &Btf) -> Option<Self> {
        Some(Self {
            task_utask: btf.member_offset("task_struct", "utask")?,
            utask_return_instances: btf.member_offset("uprobe_task", "return_instances")?,
            instance_stack: btf.member_offset("return_instance", "stack")?,
            instance_address: btf.member_offset("return_instance", "orig_ret_vaddr")?,
            instance_next: btf.member_offset("return_instance", "next")?,
        })
    }
}

impl KernelTypes {
    /// Reads them from the running kernel.
    pub fn read() -> Result<Self, LoadError> {
        let fail = |what: String| LoadError::KernelTypes { path: VMLINUX, what };
        let bytes = std::fs::read(VMLINUX).map_err(|error| fail(error.to_string()))?;
        let btf =
            Btf::parse(&bytes).ok_or_else(|| fail("it is no BTF that heaptrace can read".to_owned()))?;
        let member = |structure: &str, member: &str| {
            btf.member_offset(structure, member)
                .ok_or_else(|| fail(format!("no member {member} in struct {structure}")))
        };
        Ok(Self {
            task_tgid: member("task_struct", "tgid")?,
            task_signal: member("task_struct", "signal")?,
            signal_live: member("signal_struct", "live")?,
            task_cred: member("task_struct", "cred")?,
            cred_euid: member("cred", "euid")?,
            return_instances: ReturnInstances::find(&btf),
        })
    }
}
