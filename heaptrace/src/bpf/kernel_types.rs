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
    /// `None` if the kernel names them otherwise.
    pub code_files: Option<CodeFiles>,
}

/// The way from a task to the files whose code it maps, and to what tells those files apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct CodeFiles {
    pub task_mm: u32,
    pub task_files: u32,
    pub mm_exe_file: u32,
    pub mm_start_code: u32,
    pub mm_saved_auxv: u32,
    pub mm_total_vm: u32,
    pub files_fdt: u32,
    pub fdtable_fd: u32,
    pub fdtable_max_fds: u32,
    pub file_inode: u32,
    pub inode_number: u32,
    pub inode_super_block: u32,
    pub inode_size: u32,
    /// Time of modification: seconds, and the nanoseconds beside.
    pub inode_modified_s: u32,
    pub inode_modified_ns: u32,
    pub super_block_dev: u32,
}

impl CodeFiles {
    fn find(btf: &Btf) -> Option<Self> {
        // Before 6.11 a timespec64, which was called otherwise before 6.6 (include/linux/fs.h).
        let timespec = ["i_mtime", "__i_mtime"].into_iter().find_map(|name| btf.member_offset("inode", name));
        let (inode_modified_s, inode_modified_ns) = match timespec {
            Some(at) => (at, at + btf.member_offset("timespec64", "tv_nsec")?),
            None => (btf.member_offset("inode", "i_mtime_sec")?, btf.member_offset("inode", "i_mtime_nsec")?),
        };
        Some(Self {
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
            code_files: CodeFiles::find(&btf),
        })
    }
}
