//! Links of programs to perf events (Linux 5.15), and the perf events of single probes.

use super::{
    site::PlacedSite,
    syscall::{BPF_LINK_CREATE, bpf_fd},
};
use crate::process::{inherited::Unshared, system};
use perf_event::{Builder, Counter, events::Raw};
use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// include/uapi/linux/bpf.h
const BPF_PERF_EVENT: u32 = 41;

/// A probe that the kernel counts up a semaphore for, in place until this is dropped. (aya places none.)
pub struct CountedProbe {
    _link: OwnedFd,
    _event: Unshared<Counter>,
}

impl CountedProbe {
    /// Has `program` run at a site of the file at `path`, in one process or in all.
    ///
    /// # Errors
    /// As bpf(2) and perf_event_open(2): `EINVAL` where another tracer has a probe there without the semaphore.
    pub fn place(
        program: BorrowedFd<'_>,
        path: &Path,
        site: &PlacedSite,
        pid: Option<u32>,
    ) -> io::Result<Self> {
        let mut event = event(path, site.offset, site.semaphore, pid)?;
        let link = link(program.as_raw_fd(), event.as_raw_fd(), site.cookie.to_bits())?;
        event.enable()?;
        Ok(Self { _link: link, _event: Unshared::new(event) })
    }
}

/// A probe's event, which is not enabled. What the numbers are: perf_event_open(2), `uprobe`; /sys/.../uprobe/format.
///
/// # Errors
/// As perf_event_open(2).
pub fn event(path: &Path, offset: u64, semaphore: u64, pid: Option<u32>) -> io::Result<Counter> {
    /// Above these bits of `config` is the semaphore's place in the file.
    const REFERENCE_SHIFT: u32 = 32;

    let kind = system::read_text("/sys/bus/event_source/devices/uprobe/type")?;
    let kind = kind.trim().parse().map_err(io::Error::other)?;
    let name = CString::new(path.as_os_str().as_bytes())?;
    let semaphore = u32::try_from(semaphore).map_err(io::Error::other)?;
    let probe =
        Raw::new(u64::from(semaphore) << REFERENCE_SHIFT).config1(name.as_ptr() as u64).config2(offset);
    let mut event = Builder::new(probe);
    match pid {
        Some(pid) => event.observe_pid(pid.try_into().map_err(io::Error::other)?).any_cpu(),
        None => event.any_pid().one_cpu(0),
    };
    event.attrs_mut().type_ = kind;
    event.build()
}

/// Links a program to a perf event, with a cookie.
///
/// # Errors
/// As bpf(2).
pub fn link(program: RawFd, event: RawFd, cookie: u64) -> io::Result<OwnedFd> {
    /// The start of `union bpf_attr`'s part for `BPF_LINK_CREATE`, up to `perf_event.bpf_cookie`.
    #[repr(C)]
    struct LinkAttr {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        cookie: u64,
    }

    let mut attr = LinkAttr {
        prog_fd: program as u32,
        target_fd: event as u32,
        attach_type: BPF_PERF_EVENT,
        flags: 0,
        cookie,
    };
    // SAFETY: the attributes are numbers only.
    unsafe { bpf_fd(BPF_LINK_CREATE, &mut attr) }
}
