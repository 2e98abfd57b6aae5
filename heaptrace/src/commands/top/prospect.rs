//! What tracing a process would be: whether it can be, and what each call would cost.

use super::job::{Done, Job};
use crate::{
    doctor::{self, Ground, Process},
    model::Mode,
    top::{Answer, Offer, ProbeCost},
};

/// What was found out about this machine, once.
#[derive(Default)]
pub struct Prospects {
    ground: Option<Ground>,
}

impl Prospects {
    /// Answers what it is asked; others are not for it.
    pub fn answer(&mut self, job: Job) -> Option<Done> {
        let ground = self.ground.get_or_insert_with(doctor::examine_ground);
        match job {
            Job::Examine { pid, table_bytes, mode } => {
                Some(Done::Examined { pid, answer: examine(ground, pid, table_bytes, mode) })
            }
            Job::Cost { pid, allocators, mode } => {
                let cost = cost(ground, &doctor::examine_process(pid), mode);
                Some(Done::Cost { allocators, cost })
            }
            Job::Names { .. } | Job::Flame { .. } => None,
        }
    }
}

fn examine(ground: &Ground, pid: u32, table_bytes: u64, mode: Mode) -> Answer {
    if let Some(refusal) = &ground.refusal {
        return Answer::Cannot(refusal.clone());
    }
    if pid == std::process::id() {
        return Answer::Cannot("it is this top".into());
    }
    let process = doctor::examine_process(pid);
    if let Some(reason) = process.reason.as_ref().filter(|_| !process.can_trace) {
        return Answer::Cannot(reason.clone());
    }
    let probed = process.allocators.iter().filter(|allocator| allocator.probed > 0);
    let allocators = probed.map(|allocator| format!("{} {}", allocator.kind, allocator.path)).collect();
    Answer::Can(Offer {
        cost: cost(ground, &process, mode),
        own_samples: mode == Mode::Native,
        allocators,
        probes: process.probes.len(),
        table_bytes,
        notes: process.left_out,
    })
}

/// What malloc and free of a process take longer at the least in this mode, if all that is known.
fn cost(ground: &Ground, process: &Process, mode: Mode) -> Option<ProbeCost> {
    let least = |probe: &doctor::Probe, reads: &str| {
        let sites = probe.sites.iter().filter(|site| site.reads == reads);
        let costs = sites.map(|site| match site.emulated {
            true => ground.cost.emulated_ns,
            false => ground.cost.single_stepped_ns,
        });
        costs.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
    };
    let find = |name: &str, frees: bool| {
        let of_kind = || process.probes.iter().filter(|probe| (probe.kind == "free") == frees);
        of_kind().find(|probe| probe.function == name).or_else(|| of_kind().next())
    };
    let malloc = find("malloc", false)?;
    let pair = || Some(least(malloc, "arguments")? + least(malloc, "result")?);
    Some(ProbeCost {
        alloc_ns: least(malloc, "whole call").or_else(pair)?,
        free_ns: if mode.has_frees() { Some(least(find("free", true)?, "free")?) } else { None },
    })
}
