//! Single questions to the kernel, for `doctor`: each by the smallest map, program or link that needs the answer.

use super::{
    features,
    kernel_types::KernelTypes,
    multi::{BPF_TRACE_UPROBE_MULTI, empty_for_links, empty_program, try_program},
    perf_link,
    syscall::{BPF_MAP_CREATE, MapAttr, bpf_fd},
};
use crate::process::procfs;
use std::{io, os::fd::AsRawFd as _};

/// What the kernel answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No(String),
    /// It would not say, for want of a privilege.
    Refused(String),
}

impl Answer {
    fn of<T>(result: io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Yes,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Self::Refused(error.to_string()),
            Err(error) => Self::No(error.to_string()),
        }
    }
}

/// Whether there are ring buffers (Linux 5.8).
pub fn ring_buffer() -> Answer {
    /// include/uapi/linux/bpf.h, `BPF_MAP_TYPE_RINGBUF`
    const RINGBUF: u32 = 27;

    let mut attr =
        MapAttr { map_type: RINGBUF, max_entries: procfs::page_size() as u32, ..MapAttr::default() };
    // SAFETY: the attributes are numbers only.
    Answer::of(unsafe { bpf_fd(BPF_MAP_CREATE, &mut attr) })
}

/// Whether a probe's program can ask for its cookie (Linux 5.15).
pub fn cookies() -> Answer {
    Answer::of(features::cookies())
}

/// Whether a program can be attached to a perf event by a link, which carries a cookie (Linux 5.15).
pub fn perf_links() -> Answer {
    let link = empty_program().and_then(|program| perf_link::link(program.as_raw_fd(), -1, 0));
    match link {
        // It looked for the event, which there is none of, so it knows such links.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Answer::Yes,
        link => Answer::of(link),
    }
}

/// Whether a program can find the user registers of the thread it runs in (Linux 5.15).
pub fn task_pt_regs() -> Answer {
    // include/uapi/linux/bpf.h: call bpf_get_current_task_btf (158); r1 = r0; call bpf_task_pt_regs (175); r0 = 0;
    // exit
    let program = [158 << 32 | 0x85, 0x01bf, 175 << 32 | 0x85, 0xb7, 0x95];
    Answer::of(try_program(&program, 0))
}

/// Whether there are uprobe multi links (Linux 6.6).
pub fn multi_links() -> Answer {
    Answer::of(empty_for_links(BPF_TRACE_UPROBE_MULTI))
}

/// Whether the kernel describes its types, as far as nothing works without them.
pub fn kernel_types() -> Answer {
    KernelTypes::read().map_or_else(|error| Answer::No(error.to_string()), |_| Answer::Yes)
}

/// Whether it describes those of uprobes.
pub fn uprobe_types() -> Answer {
    match KernelTypes::read() {
        Ok(types) if types.return_instances.is_some() => Answer::Yes,
        Ok(_) => Answer::No("struct uprobe_task or return_instance is not in the BTF".to_owned()),
        Err(error) => Answer::No(error.to_string()),
    }
}
