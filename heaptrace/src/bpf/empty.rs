//! Probes whose programs do nothing: what a hit costs before anything is accounted.

use super::{
    attach::ProbeSite,
    multi::{MultiPrograms, empty_program},
};
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
    _links: Vec<OwnedFd>,
    _events: Vec<Counter>,
}

impl EmptyProbes {
    /// Places them in process `pid`, in the way that [`super::Attacher`] would: by multi links, or by perf events.
    pub fn place(multi: bool, path: &Path, sites: &[ProbeSite], pid: u32) -> io::Result<Self> {
        if multi {
            let links = MultiPrograms::empty()?.attach(path, sites, Some(pid))?;
            return Ok(Self { _links: links, _events: Vec::new() });
        }
        let program = empty_program()?;
        let kind = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
        let kind = kind.trim().parse().map_err(io::Error::other)?;
        let name = CString::new(path.as_os_str().as_bytes())?;
        let pid = pid.try_into().map_err(io::Error::other)?;
        let mut events = Vec::new();
        for returns in [true, false] {
            for site in sites.iter().filter(|site| !returns || site.shape.needs_return()) {
                // What the numbers are: perf_event_open(2), `kprobe`, `uprobe`; /sys/.../uprobe/format.
                let probe = Raw::new(returns.into()).config1(name.as_ptr() as u64).config2(site.offset);
                let mut event = Builder::new(probe);
                event.observe_pid(pid).any_cpu().attrs_mut().type_ = kind;
                let mut event = event.build()?;
                event.set_bpf(program.as_raw_fd())?;
                event.enable()?;
                events.push(event);
            }
        }
        Ok(Self { _links: Vec::new(), _events: events })
    }
}
