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
        })
    }
}
