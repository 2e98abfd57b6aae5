//! What userspace tells the BPF programs once, before they are loaded (read-only data, so the verifier sees
//! constants and drops the branches that are not taken).

/// Which processes count.
pub mod scope {
    /// Those registered, and their children if followed.
    pub const TARGETS: u32 = 0;
    /// Every process that is not excluded.
    pub const ALL: u32 = 1;
    /// As `TARGETS`, and whatever execs as a certain effective user.
    pub const USER: u32 = 2;
    /// As `TARGETS`, and whatever execs in a certain cgroup or below.
    pub const CGROUP: u32 = 3;
    /// As `TARGETS`, and whatever execs.
    pub const MACHINE: u32 = 4;
}

/// What userspace is told of each growth call.
pub mod growth_calls {
    /// Nothing: they are summed up by site.
    pub const SUMMED: u32 = 0;
    /// All of it, with its stack; there are no sites.
    pub const SHOWN: u32 = 1;
    /// All of it, with its site, and of each page fault its page: what became of the memory is followed.
    pub const FOLLOWED: u32 = 2;
}

/// How stacks are walked.
pub mod stack_mode {
    pub const NONE: u32 = 0;
    pub const FRAME_POINTERS: u32 = 1;
    /// By unwind tables, and by frame pointers where there are none.
    pub const AUTO: u32 = 2;
    /// By unwind tables only.
    pub const DWARF: u32 = 3;
}

/// Byte offsets from the kernel's BTF, to where a thread's replaced return addresses are: `task_struct.utask`,
/// `uprobe_task.return_instances`, and the members `stack`, `orig_ret_vaddr` and `next` of a `return_instance`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReturnOffsets {
    pub task_utask: u32,
    pub utask_return_instances: u32,
    pub instance_stack: u32,
    pub instance_address: u32,
    pub instance_next: u32,
}

/// Byte offsets from the kernel's BTF: the way from a task to the files whose code it maps, and to what tells those
/// files apart. `task_struct.mm`, `.files`, `mm_struct.exe_file`, `.start_code`, `.saved_auxv`, `.total_vm`,
/// `files_struct.fdt`, `fdtable.fd`, `.max_fds`, `file.f_inode`, `inode.i_ino`, `.i_sb`, `.i_size`, the seconds and
/// nanoseconds of its modification, `super_block.s_dev`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeOffsets {
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
    pub inode_modified_s: u32,
    pub inode_modified_ns: u32,
    pub super_block_dev: u32,
}

/// The settings; sizes are those of the maps of the same name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// One of `scope`.
    pub scope: u32,
    /// 1: children of targets become targets.
    pub follow: u32,
    /// One of `stack_mode`.
    pub stack_mode: u32,
    pub max_sites: u32,
    /// Nodes of the tree of stacks.
    pub max_frames: u32,
    pub max_processes: u32,
    /// Slots of `PENDING` minus one; the number of slots is a power of two.
    pub pending_mask: u32,
    /// Byte offsets from the kernel's BTF: `task_struct.tgid`, `task_struct.signal`, `signal_struct.live`,
    /// and below `signal_struct.flags`.
    pub task_tgid: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    /// Page size of the machine, for pvalloc and mappings.
    pub page_size: u32,
    /// 1: probes are in files, for all processes, so that a child is traced from its first instruction.
    pub probes_for_all: u32,
    /// 1 if `returns` is known; else return addresses that return probes replaced stay unknown.
    pub has_return_instances: u32,
    pub returns: ReturnOffsets,
    /// 1 if `code` is known; else new mappings are put in force by userspace alone.
    pub has_code_files: u32,
    pub code: CodeOffsets,
    /// 1: blocks outside of these sizes, both ends included, are not entered.
    pub size_filter: u32,
    pub min_size: u64,
    pub max_size: u64,
    /// 1: `STATISTICS` are kept.
    pub statistics: u32,
    /// One of `growth_calls`.
    pub growth_calls: u32,
    /// For `growth_calls::SHOWN`: calls of fewer bytes are told of without a stack.
    pub shown_min: u64,
    /// For `scope::CGROUP`: the cgroup's id, which is its directory's inode number.
    pub cgroup_id: u64,
    /// For `scope::USER`: the user, and byte offsets from the kernel's BTF: `task_struct.cred`, `cred.euid`.
    pub user: u32,
    pub task_cred: u32,
    pub cred_euid: u32,
    pub signal_flags: u32,
    /// Lines of the live table.
    pub live_lines: u32,
    /// Cells of the index of sites minus one; their number is a power of two.
    pub index_mask: u32,
    /// Who is trusted beside root.
    pub own_user: u32,
    /// See `share::few`: of live blocks, and of calls under way.
    pub few_live: u32,
    pub few_calls: u32,
    /// Entries of the map beside the table of live blocks.
    pub max_spilled: u32,
    /// `CLOCK_MONOTONIC` before anything was counted: see `live::time`.
    pub base_ns: u64,
    /// What nobody outside knows, another one each session.
    pub secret: u64,
    /// 1: lines are logged from the rare and odd places.
    pub log: u64,
    /// Elements of `SCRATCH` minus one; their number is a power of two.
    pub scratch_mask: u64,
    /// Mean bytes from one sample to the next; 0: every block is entered.
    pub sample_bytes: u64,
    /// 0: blocks are traced, and their frees are not: a block is over when its address is handed out again.
    pub frees: u64,
    /// 1: sites are told apart by thread, too.
    pub threads: u64,
    /// 1: frees are looked into, too: see `frees`.
    pub check_frees: u64,
    /// 1: how long blocks lived is counted by site.
    pub lifetimes: u64,
}

impl Settings {
    /// The bytes, as the BPF object's read-only data wants them.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `repr(C)` without padding (all fields' sizes add up, see below), so every byte is initialised.
        unsafe { core::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }
}

const _: () = assert!(size_of::<Settings>() == 48 * 4 + 13 * 8);
