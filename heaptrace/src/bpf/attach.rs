//! Placing probes and taking them away, whichever way the kernel offers.

use super::{
    checks::FunctionCheck,
    gates::Gate,
    multi::{MultiLink, MultiProgram},
    perf_link::CountedProbe,
    site::{HIT, OWN, PlacedSite},
};
use crate::process::inherited::Unshared;
use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use std::{
    io,
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
    vec::IntoIter,
};

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
    multi: Vec<MultiLink>,
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
    /// Places all `sites` of the file at `path`, in one process or in all that map it. `own`: they are offered by the program.
    pub fn attach(
        &self,
        ebpf: &mut Ebpf,
        path: &Path,
        sites: &[PlacedSite],
        pid: Option<u32>,
        own: bool,
    ) -> io::Result<Links> {
        let mut perf = Vec::new();
        match self {
            Self::Multi { program, own: of_own } => {
                let program = if own { of_own.as_ref() } else { Some(program) };
                let program = program.ok_or_else(|| io::Error::other(format!("no program {OWN}")))?;
                let multi = vec![program.attach(path, sites, pid)?];
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
    pub(super) fn of_check(link: MultiLink, check: &Arc<FunctionCheck>) -> Self {
        Self { multi: vec![link], perf: Vec::new(), gate: None, check: Some(Arc::clone(check)) }
    }

    /// Each link by itself.
    pub(super) fn split(self) -> Vec<Box<dyn Send>> {
        let Self { multi, perf, gate, check } = self;
        // Fields go in their order: the link first.
        let multi = multi.into_iter().map(|fd| Box::new((fd, gate.clone(), check.clone())) as Box<dyn Send>);
        multi.chain(perf.into_iter().map(|link| Box::new((link, gate.clone())) as Box<dyn Send>)).collect()
    }
}

/// Links that are on their way, on many threads, the first ones first: the kernel waits for a grace period at each link, and
/// those overlap.
pub struct Removal(Vec<JoinHandle<Instant>>);

impl Removal {
    pub(super) fn begin(links: Vec<Box<dyn Send>>) -> Self {
        const THREADS: usize = 64;
        let threads = links.len().min(THREADS);
        let left = Arc::new(Mutex::new(links.into_iter()));
        let next = |left: &Mutex<IntoIter<Box<dyn Send>>>| {
            left.lock().unwrap_or_else(PoisonError::into_inner).next()
        };
        let start = |_| {
            let left = Arc::clone(&left);
            thread::spawn(move || {
                while let Some(link) = next(&left) {
                    drop(link);
                }
                Instant::now()
            })
        };
        Self((0..threads).map(start).collect())
    }

    /// Waits until they are gone; gives when the last one was.
    pub fn wait(self) -> Option<Instant> {
        // A panic there has left nothing that anything depends on.
        self.0.into_iter().filter_map(|thread| thread.join().ok()).max()
    }
}
