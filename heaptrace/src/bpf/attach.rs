//! Placing probes and taking them away, whichever way the kernel offers.

use super::{
    checks::FunctionCheck,
    gates::Gate,
    letting_go::{Held, Leaving},
    multi::MultiProgram,
    perf_link::CountedProbe,
    site::{HIT, OWN, PlacedSite},
};
use crate::process::{inherited::Unshared, object::Object};
use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use std::{io, os::fd::AsFd as _, path::Path, sync::Arc};

/// How probes are placed.
pub enum Attacher {
    /// One link for all functions of a file (kernel 6.6, with a filter by process: 6.10 or a backport).
    Multi {
        program: MultiProgram,
        /// The one of probes that programs offer, where these are used.
        own: Option<MultiProgram>,
    },
    /// A perf event for each function; letting go takes about 110 ms each.
    PerfEvents,
}

/// Probes that are in place; dropping it takes them away, which waits for the kernel's grace periods.
#[must_use]
pub struct Links {
    multi: Vec<Held>,
    perf: Vec<PerfProbe>,
    /// Behind which they are.
    pub(super) gate: Option<Arc<Gate>>,
    /// What they verify; its number is another function's only once they are gone.
    check: Option<Arc<FunctionCheck>>,
}

/// A probe by a perf event. Its fields are what it is held by.
#[expect(dead_code, reason = "dropping it takes it away")]
enum PerfProbe {
    Plain(Unshared<UProbeLink>),
    Counted(CountedProbe),
}

impl Attacher {
    /// Places all `sites` of `file`, in one process or in all that map it. `own`: they are offered by the program.
    pub fn attach(
        &self,
        ebpf: &mut Ebpf,
        file: &Arc<Object>,
        sites: &[PlacedSite],
        pid: Option<u32>,
        own: bool,
    ) -> io::Result<Links> {
        let path = &file.attach_path();
        let mut perf = Vec::new();
        match self {
            Self::Multi { program, own: of_own } => {
                let program = if own { of_own.as_ref() } else { Some(program) };
                let program = program.ok_or_else(|| io::Error::other(format!("no program {OWN}")))?;
                let multi = vec![Held::new(program.attach(path, sites, pid)?, file, sites, pid)];
                return Ok(Links { multi, perf, gate: None, check: None });
            }
            Self::PerfEvents => {
                for site in sites {
                    perf.push(attach_perf(ebpf, if own { OWN } else { HIT }, path, site, pid)?);
                }
            }
        }
        Ok(Links { multi: Vec::new(), perf, gate: None, check: None })
    }
}

fn attach_perf(
    ebpf: &mut Ebpf,
    program: &str,
    path: &Path,
    site: &PlacedSite,
    pid: Option<u32>,
) -> io::Result<PerfProbe> {
    let program: &mut UProbe = ebpf
        .program_mut(program)
        .ok_or_else(|| io::Error::other(format!("no program {program}")))?
        .try_into()
        .map_err(io::Error::other)?;
    if site.semaphore != 0 {
        let program = program.fd().map_err(io::Error::other)?.as_fd();
        return CountedProbe::place(program, path, site, pid).map(PerfProbe::Counted);
    }
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(site.offset),
        cookie: Some(site.cookie.to_bits()),
    };
    let scope = match pid {
        Some(pid) => UProbeScope::OneProcess(pid.try_into().map_err(io::Error::other)?),
        None => UProbeScope::AllProcesses,
    };
    let link = program.attach(point, path, scope).map_err(io::Error::other)?;
    program.take_link(link).map(|link| PerfProbe::Plain(Unshared::new(link))).map_err(io::Error::other)
}

impl Links {
    /// One link's, which verifies.
    pub(super) fn of_check(link: Held, check: &Arc<FunctionCheck>) -> Self {
        Self { multi: vec![link], perf: Vec::new(), gate: None, check: Some(Arc::clone(check)) }
    }

    /// Each link by itself.
    pub(super) fn split(self) -> Vec<Leaving> {
        let Self { multi, perf, gate, check } = self;
        let multi = multi.into_iter().map(|held| held.leaving((gate.clone(), check.clone())));
        let perf = perf.into_iter().map(|link| Box::new((link, gate.clone())) as Box<dyn Send>);
        multi.chain(perf.map(Leaving::from)).collect()
    }
}
