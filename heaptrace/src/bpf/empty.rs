//! Probes whose programs do nothing: what a hit costs before anything is accounted.

use super::{
    multi::{MultiLink, MultiProgram, empty_program},
    perf_link,
    site::PlacedSite,
};
use crate::process::inherited::Unshared;
use perf_event::Counter;
use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
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
    /// Places them in process `pid`, in the way that [`super::Attacher`] would: by multi links, or by perf events. What they
    /// have for cookies is all the same.
    pub fn place(multi: bool, path: &Path, sites: &[PlacedSite], pid: u32) -> io::Result<Self> {
        if multi {
            let program = MultiProgram::empty()?;
            let link = program.attach(path, sites, Some(pid))?;
            return Ok(Self { _program: program.into(), _link: Some(link), _events: Vec::new() });
        }
        let program = empty_program()?;
        let mut events = Vec::new();
        for site in sites {
            let mut event = perf_link::event(path, site.offset, site.semaphore, Some(pid))?;
            event.set_bpf(program.as_raw_fd())?;
            event.enable()?;
            events.push(Unshared::new(event));
        }
        Ok(Self { _program: program, _link: None, _events: events })
    }
}
