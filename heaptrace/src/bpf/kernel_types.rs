//! Offsets of kernel struct members, from the kernel's own BTF.

use super::{btf::Btf, error::LoadError};
use crate::process::system;
use heaptrace_common::settings::{CodeOffsets, ReturnOffsets};

/// Where the running kernel describes its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Byte offsets that the BPF programs need.
#[derive(Clone, Copy, Debug)]
pub struct KernelTypes {
    pub task_tgid: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    pub signal_flags: u32,
    pub task_cred: u32,
    pub cred_euid: u32,
    /// `None` if the kernel names them otherwise, or has no uprobes.
    pub return_instances: Option<ReturnOffsets>,
    /// `None` if the kernel names them otherwise.
    pub code_files: Option<CodeOffsets>,
}

fn code_offsets(btf: &Btf) -> Option<CodeOffsets> {
    // Before 6.11 a timespec64, which was called otherwise before 6.6 (include/linux/fs.h).
    let timespec = ["i_mtime", "__i_mtime"].into_iter().find_map(|name| btf.member_offset("inode", name));
    let (inode_modified_s, inode_modified_ns) = match timespec {
        Some(at) => (at, at + btf.member_offset("timespec64", "tv_nsec")?),
        None => (btf.member_offset("inode", "i_mtime_sec")?, btf.member_offset("inode", "i_mtime_nsec")?),
    };
    Some(CodeOffsets {
        task_mm: btf.member_offset("task_struct", "mm")?,
        task_files: btf.member_offset("task_struct", "files")?,
        mm_exe_file: btf.member_offset("mm_struct", "exe_file")?,
        mm_start_code: btf.member_offset("mm_struct", "start_code")?,
        mm_saved_auxv: btf.member_offset("mm_struct", "saved_auxv")?,
        mm_total_vm: btf.member_offset("mm_struct", "total_vm")?,
        files_fdt: btf.member_offset("files_struct", "fdt")?,
        fdtable_fd: btf.member_offset("fdtable", "fd")?,
        fdtable_max_fds: btf.member_offset("fdtable", "max_fds")?,
        file_inode: btf.member_offset("file", "f_inode")?,
        inode_number: btf.member_offset("inode", "i_ino")?,
        inode_super_block: btf.member_offset("inode", "i_sb")?,
        inode_size: btf.member_offset("inode", "i_size")?,
        inode_modified_s,
        inode_modified_ns,
        super_block_dev: btf.member_offset("super_block", "s_dev")?,
    })
}

fn return_offsets(btf: &Btf) -> Option<ReturnOffsets> {
    Some(ReturnOffsets {
        task_utask: btf.member_offset("task_struct", "utask")?,
        utask_return_instances: btf.member_offset("uprobe_task", "return_instances")?,
        instance_stack: btf.member_offset("return_instance", "stack")?,
        instance_address: btf.member_offset("return_instance", "orig_ret_vaddr")?,
        instance_next: btf.member_offset("return_instance", "next")?,
    })
}

impl KernelTypes {
    /// Reads them from the running kernel.
    pub fn read() -> Result<Self, LoadError> {
        let fail = |what: String| LoadError::KernelTypes { path: VMLINUX, what };
        let bytes = system::read(VMLINUX).map_err(|error| fail(error.to_string()))?;
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
            signal_flags: member("signal_struct", "flags")?,
            task_cred: member("task_struct", "cred")?,
            cred_euid: member("cred", "euid")?,
            return_instances: return_offsets(&btf),
            code_files: code_offsets(&btf),
        })
    }
}
