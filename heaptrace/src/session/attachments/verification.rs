//! Verification of probe sites in place: for a function's first calls its entry is probed, too, and its sites are held to
//! what the entry saw (`heaptrace_common::check`). A function whose calls are not as its code says is probed in the next
//! safer way, or not at all, and the report says so.

use super::{
    Attachments, World,
    verified::{Doubt, Verified, Watch, doubt, links_of},
};
use crate::{
    bpf::ProbeSite,
    model::{AfterDistrust, Note},
    probes::{plan::FilePlan, probe::Probe},
    session::error::TargetError,
};
use heaptrace_common::{check::Check, function::Shape, record::ProcessRecord};
use std::{collections::HashSet, sync::Arc};

/// Calls after which a function is believed.
const ENOUGH: u64 = 20_000;

/// Processes of one file whose calls are looked at: the code is the same in all.
const PROCESSES: usize = 4;

/// Blocks of a session whose frees were missed since a function was believed, from which on it is looked at again.
const MANY_MISSED: u64 = 256;

impl<L: Send + 'static> Attachments<L> {
    /// Has the functions of a file that was probed just now verified in a process.
    pub(super) fn verify(&mut self, world: &mut impl World<L>, pid: u32, thread: u32, plan: &FilePlan) {
        // Its breakpoints are held, but for those that are for verification alone.
        if self.leaderless.contains(pid) {
            return;
        }
        let id = plan.file.below;
        let owner = self.how.per_process.then_some(pid);
        let looked_at = self.verification.processes.entry(id).or_default();
        if looked_at.len() >= PROCESSES && !looked_at.contains(&owner) {
            return;
        }
        looked_at.insert(owner);
        let scope = self.how.per_process.then_some(thread);
        let mut opened = HashSet::new();
        for probe in &plan.probes {
            let Some(entered) = &probe.entered else { continue };
            if !self.verification.is_wanted(id, probe, owner) {
                continue;
            }
            let at = self.verification.position(id, probe).or_else(|| self.begin_check(world, plan, probe));
            let Some(verified) = at.and_then(|at| self.verification.running.get_mut(at)) else { continue };
            let entered = ProbeSite { offset: entered.offset, record: entered.record, semaphore: 0 };
            let sites: Vec<ProbeSite> = std::iter::once(entered).chain(probe_sites_of(probe)).collect();
            // While it is closed: sites are placed one after the other.
            verified.close();
            // Without, nothing is verified by this process; the numbers are the same.
            if let Ok(links) = world.watch_for(&verified.check, &plan.file, &sites, scope) {
                verified.watches.push(Watch { pid: owner, links });
            }
            opened.insert(verified.entry);
        }
        self.verification
            .open(world, |verified| verified.file.below == id && opened.contains(&verified.entry));
    }

    fn begin_check(&mut self, world: &impl World<L>, plan: &FilePlan, probe: &Probe) -> Option<usize> {
        // Not a static program, which can have an allocator of its own beside glibc's start. posix_memalign's result is no
        // block.
        let glibc = plan.allocator.kind == "glibc"
            && plan.file.elf.soname.as_deref() == Some("libc.so.6")
            && probe.shape != Shape::OutPointer;
        let check = world.new_check(glibc).or_else(|| {
            self.verification.forget_unwatched();
            world.new_check(glibc)
        })?;
        let unknown_frees = frees(world, |record| record.unknown_frees);
        self.verification.running.push(Verified::new(Arc::clone(&plan.file), probe, check, unknown_frees));
        Some(self.verification.running.len() - 1)
    }

    /// Once a second.
    pub fn look_at_checks(&mut self, world: &mut impl World<L>) {
        let seen = self.verification.seen();
        let doubted = self.doubted(world, &seen);
        // By what was looked at: of calls that came since, nothing is known.
        let mut seen = seen.iter();
        let over = self.verification.retire(|verified| {
            seen.next().is_some_and(|seen| seen.calls >= ENOUGH)
                || doubted.iter().any(|doubt| doubt.is_of(verified))
        });
        let entries = over.iter().map(|verified| (verified.file.below, verified.entry));
        self.verification.believed.extend(entries);
        self.detaching.of_running(links_of(over));
        for doubt in doubted {
            self.distrust(world, &doubt);
        }
        self.doubt_again(world);
    }

    /// At the end, once nothing counts any more: nothing can be done but to say so.
    pub fn look_at_checks_last(&mut self, world: &mut impl World<L>) {
        world.read_processes();
        for doubt in self.doubted(world, &self.verification.seen()) {
            world.note(doubt.note(AfterDistrust::Ended));
        }
    }

    /// The functions that something of what was `seen` speaks against.
    fn doubted(&mut self, world: &impl World<L>, seen: &[Check]) -> Vec<Doubt> {
        let unknown_frees = frees(world, |record| record.unknown_frees);
        let after = world.elapsed();
        // After what was seen: what gave way then is in it.
        let displaced = self.verification.displaced();
        let mut doubted = Vec::new();
        for (verified, seen) in self.verification.running.iter_mut().zip(seen) {
            let may_seem = verified.may_seem(seen.unannounced, displaced, world);
            let unknown_frees = unknown_frees.saturating_sub(verified.unknown_frees);
            doubted.extend(doubt(seen, verified.ends_here, may_seem, unknown_frees).map(|why| Doubt {
                file: Arc::clone(&verified.file),
                entry: verified.entry,
                symbol: verified.symbol.clone(),
                after,
                why,
            }));
        }
        doubted
    }

    /// Lets go of functions that have been seen enough, whose calls cost a trap more until then.
    pub fn let_go_of_verified(&mut self, world: &mut impl World<L>) {
        if self.verification.running.iter().any(|verified| verified.check.seen().calls >= ENOUGH) {
            self.look_at_checks(world);
        }
    }

    /// Verifies what is not, where it is probed.
    pub(super) fn verify_all(&mut self, world: &mut impl World<L>) {
        for (pid, plan) in self.placed_plans(world) {
            self.verify(world, pid, pid, &plan);
        }
    }

    /// Where frees go missing although all seemed well, all is looked at again.
    fn doubt_again(&mut self, world: &mut impl World<L>) {
        let missed = frees(world, |record| record.missed_frees);
        if missed < self.verification.missed.saturating_add(MANY_MISSED) {
            return;
        }
        self.verification.missed = missed;
        self.verification.believed.clear();
        self.verification.processes.clear();
        self.verify_all(world);
    }

    /// What is probed in which process, or in one of those that have a file mapped.
    fn placed_plans(&self, world: &impl World<L>) -> Vec<(u32, FilePlan)> {
        let own =
            self.probed.iter().flat_map(|(pid, placed)| placed.plans().map(|plan| (*pid, plan.clone())));
        let any = world.builder().running().next().map_or(0, |(_, pid)| pid);
        own.chain(self.everywhere.plans().map(|plan| (any, plan.clone()))).collect()
    }

    /// A function's calls were not as its code says: it is probed otherwise from here on, in all processes.
    fn distrust(&mut self, world: &mut impl World<L>, doubt: &Doubt) {
        let Doubt { file, entry, .. } = doubt;
        let since_ns = world.now_ns();
        let Some(refused) = world.distrust(file, *entry) else { return };
        let then = if refused { AfterDistrust::NotProbed } else { AfterDistrust::ProbedAtReturns };
        world.note(doubt.note(then));
        self.verification.believed.remove(&(file.below, *entry));
        // As they are now: an image that was replaced meanwhile would go on with the arm of the one before.
        world.read_processes();
        let processes: Vec<(u32, u32)> = world.builder().running().collect();
        let concerned: Vec<(u32, u32)> = processes
            .into_iter()
            .filter(|(_, pid)| self.is_probed(*pid, file.below.id))
            .filter(|(record, _)| !self.how.per_process || world.is_armed(*record))
            .collect();
        let records: Vec<u32> = concerned.iter().map(|(record, _)| *record).collect();
        self.verification.close_all();
        records.iter().for_each(|record| world.disarm(*record));
        let links = match self.how.per_process {
            true => concerned.iter().flat_map(|(_, pid)| self.unprobe_again(world, *pid)).collect(),
            false => self.everywhere.remove(file.below.id),
        };
        world.release(links);
        world.forget_calls(&records);
        for (record, pid) in concerned {
            // Each may call other functions of the file; what is there already is left.
            match self.place_anew(world, pid) {
                Ok(()) => {
                    let now_ns = world.now_ns();
                    world.arm(record, now_ns);
                    world.builder_mut().add_gap(record, since_ns..now_ns);
                }
                Err(error @ TargetError::Refused { .. }) => self.let_go_of_refused(world, error),
                // It ended meanwhile.
                Err(_) if world.threads(pid).is_empty() => {}
                Err(error) => {
                    world.builder_mut().add_gap(record, since_ns..u64::MAX);
                    world.note(Note::NotProbedAgain { pid, reason: error.to_string() });
                }
            }
        }
        self.verification.open(world, |_| true);
        if !self.how.per_process {
            self.tell_of_children_of(world, &records, since_ns);
        }
    }

    /// Where probes are for all, children count from their beginning: those that began while they were not in place have
    /// a gap as `records` have, which are told of already.
    fn tell_of_children_of(&self, world: &mut impl World<L>, records: &[u32], since_ns: u64) {
        let now_ns = world.now_ns();
        world.read_processes();
        let running: Vec<u32> = world.builder().running().map(|(record, _)| record).collect();
        for record in running.into_iter().filter(|record| !records.contains(record)) {
            let started_ns = world.builder().record(record).map_or(0, |record| record.started_ns);
            if (since_ns..now_ns).contains(&started_ns) {
                world.builder_mut().add_gap(record, started_ns..now_ns);
            }
        }
    }

    /// Takes the probes of a process away, which will be placed again.
    fn unprobe_again(&mut self, world: &impl World<L>, pid: u32) -> Vec<L> {
        let is_leaderless = self.leaderless.contains(pid);
        let links = self.unprobe(pid);
        if is_leaderless {
            self.expect_leaderless(world, pid);
        }
        links
    }

    fn place_anew(&mut self, world: &mut impl World<L>, pid: u32) -> Result<(), TargetError> {
        let found = world.discover(pid).map_err(|source| TargetError::Discover { pid, source });
        found.and_then(|(_, plan)| self.place(world, pid, &plan.files))
    }
}

/// Of the processes that run.
fn frees<L>(world: &impl World<L>, count: impl Fn(&ProcessRecord) -> u64) -> u64 {
    let builder = world.builder();
    builder.running().filter_map(|(record, _)| builder.record(record)).map(count).sum()
}

/// The sites of one function, for itself.
fn probe_sites_of(probe: &Probe) -> impl Iterator<Item = ProbeSite> + '_ {
    probe.sites.iter().map(|site| ProbeSite {
        offset: site.offset,
        record: site.record,
        semaphore: site.semaphore,
    })
}
