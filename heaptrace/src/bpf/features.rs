//! What the running kernel can do, found by trying, not by its version.

use super::{
    attach::{Attacher, PlacedSite},
    maps::Maps,
    multi::try_program,
    tracepoints::Placed,
};
use crate::process::procfs;
use aya::Ebpf;
use heaptrace_common::{
    function::{Function, Shape},
    probe::{Cookie, ProbeRecord, Role},
    record::{ProcessRecord, process_state},
};
use std::{hint::black_box, path::Path, process, thread};

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

impl Features {
    /// Sentences for the report about what had to be done otherwise.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.probes && !self.multi_links {
            notes.push(
                "this kernel has no uprobe multi links: perf-event probes are used, which cost more and take \
                 about 0.1 s each to remove"
                    .to_owned(),
            );
        } else if self.probes && !self.multi_filter {
            notes.push(
                "this kernel's uprobe multi links filter by thread: perf-event probes are used, which cost \
                 more and take about 0.1 s each to remove"
                    .to_owned(),
            );
        }
        match &self.growth {
            Placed::Off => notes.push("brk and mmap were not traced (--no-growth)".to_owned()),
            Placed::On => {}
            Placed::Unavailable(why) => notes.push(format!("brk and mmap were not traced: {why}")),
        }
        if let Placed::Unavailable(why) = &self.faults {
            notes.push(format!("page faults were not traced: {why}"));
        }
        notes
    }

    /// Probes a function of our own for this process, calls it from another thread, and looks whether the hit
    /// was seen: until 6.10 the filter compared threads (`uprobe_multi_link_filter`, kernel/trace/bpf_trace.c).
    pub fn check_multi_filter(&self, attacher: &Attacher, ebpf: &mut Ebpf, maps: &mut Maps) -> bool {
        let Some((path, offset)) = own_function() else { return false };
        let record = ProcessRecord {
            tgid: process::id(),
            state: process_state::RUNNING,
            armed: 1,
            parent: heaptrace_common::record::NO_PROCESS,
            ..ProcessRecord::default()
        };
        let Ok(Some(index)) = maps.register(record) else { return false };
        let free = ProbeRecord::new(Function::Free, Shape::Free0, Role::Free);
        let Some(row) = maps.probe_row(&free) else { return false };
        let site = PlacedSite { offset, cookie: Cookie { row, gate: 0 } };
        let seen = match attacher.attach(ebpf, Path::new(&path), &[site], Some(process::id())) {
            Ok(links) => {
                let called = thread::spawn(|| probed_function(1)).join();
                drop(links);
                called.is_ok() && maps.process(index).is_some_and(|record| record.unknown_frees == 1)
            }
            Err(_) => false,
        };
        // The record stays behind; the drain leaves out our own process.
        let excluded = maps.set_index(process::id(), heaptrace_common::record::process_index::OWN);
        seen && excluded.is_ok()
    }
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

/// Stands for `free` in the check; its argument is no block's address.
#[inline(never)]
extern "C" fn probed_function(address: usize) -> usize {
    black_box(address)
}

/// File and offset of [`probed_function`].
fn own_function() -> Option<(String, u64)> {
    own_code(probed_function as *const () as u64)
}

/// File and offset of code of our own.
pub fn own_code(address: u64) -> Option<(String, u64)> {
    let mappings = procfs::read_maps(process::id()).ok()?;
    let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))?;
    Some(("/proc/self/exe".to_owned(), address - mapping.start + mapping.offset))
}
