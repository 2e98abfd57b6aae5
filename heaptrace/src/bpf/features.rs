//! What the running kernel can do, found by trying, not by its version.

use super::{multi::try_program, tracepoints::Placed};

/// The findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Allocators are to be probed; if not, what follows of links was not looked at.
    pub probes: bool,
    /// Uprobe multi links (6.6).
    pub multi_links: bool,
    /// Their filter by process covers all threads (6.10, and fixed stables).
    pub multi_filter: bool,
    pub growth: Placed,
    pub faults: Placed,
}

/// Whether a probe's program can ask for its cookie (Linux 5.15), without which it does not know what it is in.
/// A kernel that refuses for another reason is not judged here: loading the real programs tells more.
pub(super) fn has_cookies() -> bool {
    !cookies().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// The same, with the kernel's own answer.
pub(super) fn cookies() -> std::io::Result<std::os::fd::OwnedFd> {
    // call bpf_get_attach_cookie, number 174 of include/uapi/linux/bpf.h, with r1 as it comes: the context;
    // r0 = 0; exit
    try_program(&[174 << 32 | 0x85, 0xb7, 0x95], 0)
}
