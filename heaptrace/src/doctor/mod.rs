//! What `heaptrace doctor` finds out: what works here and what does not, what a probe costs, and how a process would
//! be traced. Looks only: it mounts nothing, writes nothing and touches no process but its own. No check keeps
//! another from being made; one that cannot be made says why.

mod cost;
mod diagnosis;
mod machine;
mod process;
mod rights;
#[cfg(test)]
mod tests;
mod text;

pub use diagnosis::{Cost, Diagnosis, ModePrice, Modes, Probe, Process};
pub use process::examine as examine_process;

use crate::printable::write_json_pretty;
use crate::{model::Host, process::system};
use diagnosis::Attach;
use std::io::{self, Write};

/// Examines this machine, and process `pid` if one is named.
pub fn examine(pid: Option<u32>) -> Diagnosis {
    let machine = machine::examine();
    let cost = cost::measure(machine.attach);
    let mut process = pid.map(process::examine);
    if machine.attach != Some(Attach::UprobeMulti) {
        // Only programs on multi links verify.
        let probes = process.iter_mut().flat_map(|process| &mut process.probes);
        probes.for_each(|probe| probe.verified_from = None);
    }
    let reason = machine.refusal.or_else(|| process.as_ref()?.reason.clone());
    Diagnosis {
        schema: diagnosis::SCHEMA,
        heaptrace: env!("CARGO_PKG_VERSION").to_owned(),
        host: Host { kernel: system::kernel_release(), arch: std::env::consts::ARCH.to_owned() }.into(),
        attach: machine.attach,
        features: machine.features,
        privileges: rights::examine(),
        tracefs: machine.tracefs,
        cost,
        process,
        can_trace: reason.is_none(),
        reason,
        modes: None,
    }
}

/// What is the same for every process.
pub struct Ground {
    /// Why nothing can be traced here, if it cannot.
    pub refusal: Option<String>,
    pub cost: Cost,
}

/// Examines this machine alone, as far as tracing one of its processes goes.
pub fn examine_ground() -> Ground {
    let machine = machine::examine();
    Ground { refusal: machine.refusal, cost: cost::measure(machine.attach) }
}

impl Diagnosis {
    /// Writes it for people.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        text::render(self, out)
    }

    /// Writes it for programs.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_json_pretty(self, out)?;
        writeln!(out)
    }
}
