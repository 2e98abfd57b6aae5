//! A probe whose program takes the kernel's own stack walk, `bpf_get_stackid`, or does nothing, at an entry or, as a
//! session (kernel 6.13), at entry and return: to measure beside.

use anyhow::{Context as _, Result};
use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// include/uapi/linux/bpf.h
const BPF_MAP_CREATE: i32 = 0;
const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_MAP_TYPE_STACK_TRACE: u64 = 7;
const BPF_PROG_TYPE_KPROBE: u64 = 2;
const BPF_TRACE_UPROBE_MULTI: u64 = 48;
const BPF_TRACE_UPROBE_SESSION: u64 = 57;
const BPF_F_USER_STACK: u64 = 1 << 8;

/// Frames that the map keeps of a stack, as memleak has it.
const DEPTH: u64 = 127;

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    Nothing,
    StackId,
    /// Nothing, twice.
    NothingAtReturnToo,
}

/// In place until this is dropped.
pub struct StackIdProbe {
    _link: OwnedFd,
    _program: OwnedFd,
    _map: OwnedFd,
}

impl StackIdProbe {
    /// At a file offset, in process `pid`.
    pub fn place(does: Does, path: &Path, offset: u64, pid: u32) -> Result<Self> {
        let attach_type = match does {
            Does::NothingAtReturnToo => BPF_TRACE_UPROBE_SESSION,
            _ => BPF_TRACE_UPROBE_MULTI,
        };
        // type, key size; value size, entries
        let map = bpf(BPF_MAP_CREATE, &[BPF_MAP_TYPE_STACK_TRACE | 4 << 32, (DEPTH * 8) | (10_240 << 32)])
            .context("failed to make a stack map")?;
        let mut instructions = Vec::new();
        if does == Does::StackId {
            // r2 = map (BPF_PSEUDO_MAP_FD); r3 = flags; call bpf_get_stackid, number 27; r1 is the context
            instructions.extend([0x18 | 2 << 8 | 1 << 12 | (map.as_raw_fd() as u64) << 32, 0]);
            instructions.extend([0xb7 | 3 << 8 | BPF_F_USER_STACK << 32, 0x85 | 27 << 32]);
        }
        // r0 = 0; exit
        instructions.extend([0xb7, 0x95]);
        let mut load = [0u64; 16];
        load[0] = BPF_PROG_TYPE_KPROBE | (instructions.len() as u64) << 32;
        load[1] = instructions.as_ptr() as u64;
        load[2] = c"GPL".as_ptr() as u64;
        // expected_attach_type is at byte 68.
        load[8] = attach_type << 32;
        let program = bpf(BPF_PROG_LOAD, &load).context("failed to load the program")?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        // prog_fd; attach type, flags; path, offsets, reference counters, cookies; count, flags; pid
        let link = [
            program.as_raw_fd() as u64,
            attach_type,
            path.as_ptr() as u64,
            &raw const offset as u64,
            0,
            0,
            1,
            u64::from(pid),
        ];
        let link = bpf(BPF_LINK_CREATE, &link).context("failed to place the probe")?;
        Ok(Self { _link: link, _program: program, _map: map })
    }
}

/// bpf(2) with an attribute of these words, which refer to memory that outlives the call.
fn bpf(command: i32, attribute: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: the length is the slice's; the commands used here make a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_ptr(), size_of_val(attribute)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
