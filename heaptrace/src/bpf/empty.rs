//! Probes whose programs do nothing: what a hit costs before anything is accounted.

use super::{
    multi::{MultiLink, MultiProgram, empty_program},
    site::PlacedSite,
};
use crate::process::{inherited::Unshared, system};
use heaptrace_common::probe::Cookie;
use perf_event::{Builder, Counter, events::Raw};
use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Probes that are in place until this is dropped.
pub struct EmptyProbes {
    /// Whose time `/proc/self/fdinfo` has.
    _program: OwnedFd,
    _link: Option<MultiLink>,
    _events: Vec<Unshared<Counter>>,
}

impl EmptyProbes {
    /// Places them at these file offsets in process `pid`, in the way that [`super::Attacher`] would: by multi links, or
    /// by perf events.
    pub fn place(multi: bool, path: &Path, offsets: &[u64], pid: u32) -> io::Result<Self> {
        if multi {
            let site = |offset: &u64| PlacedSite { offset: *offset, cookie: Cookie::default() };
            let sites: Vec<PlacedSite> = offsets.iter().map(site).collect();
            let program = MultiProgram::empty()?;
            let link = program.attach(path, &sites, Some(pid))?;
            return Ok(Self { _program: program.into(), _link: Some(link), _events: Vec::new() });
        }
        let program = empty_program()?;
        let kind = system::read_text("/sys/bus/event_source/devices/uprobe/type")?;
        let kind = kind.trim().parse().map_err(io::Error::other)?;
        let name = CString::new(path.as_os_str().as_bytes())?;
        let pid = pid.try_into().map_err(io::Error::other)?;
        let mut events = Vec::new();
        for offset in offsets {
            // What the numbers are: perf_event_open(2), `kprobe`, `uprobe`; /sys/.../uprobe/format.
            let probe = Raw::new(0).config1(name.as_ptr() as u64).config2(*offset);
            let mut event = Builder::new(probe);
            event.observe_pid(pid).any_cpu().attrs_mut().type_ = kind;
            let mut event = event.build()?;
            event.set_bpf(program.as_raw_fd())?;
            event.enable()?;
            events.push(Unshared::new(event));
        }
        Ok(Self { _program: program, _link: None, _events: events })
    }
}
