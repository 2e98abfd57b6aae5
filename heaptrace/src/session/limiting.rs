//! Keeps to limits: how processes stand is read ten times a second, and what `budget` decides is done.

use super::{
    Session,
    budgeting::{Budgeting, Seen},
    monotonic_ns, nanoseconds,
};
use crate::{
    budget::{Change, Growing, Grown, Reading},
    model::{Note, ProcessId},
    process::procfs,
};
use std::collections::HashMap;

/// How many looks it takes until all is read of processes of which nothing seems to have changed.
const ROUND: u32 = 10;

/// Cases that are kept for a client that takes none.
const UNTOLD: usize = 100;

impl Session {
    /// Processes that began to be traced, as they grow, since this was asked last.
    pub fn take_grown(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.grew)
    }

    /// How many processes' probes are away on purpose.
    pub fn paused(&self) -> usize {
        self.attachments.paused()
    }

    /// See the module.
    pub(super) fn keep_to_limits(&mut self) {
        if self.counting.is_over() {
            return;
        }
        let Some(hit_ns) = self.overhead.hit_ns() else { return };
        let Some(mut budgeting) = self.budgeting.take() else { return };
        self.builder.read_processes(&mut self.tracer.maps);
        let running: Vec<(u32, u32)> = self.builder.running().collect();
        let mut pids = HashMap::new();
        let mut readings = Vec::new();
        for (record, pid) in running {
            let Some(process) = self.builder.process_of(record) else { continue };
            let has_probes = self.attachments.has_probes(pid);
            let is_known = has_probes || self.attachments.is_paused(pid);
            // One that runs in its parent's memory counts as that; of a new one, attachments may not have heard yet.
            if is_known && self.tracer.maps.index_of(pid) == Some(record) {
                readings.push(self.reading(&mut budgeting, process, record, pid));
            } else if let Some(seen) = budgeting.seen.get(&process) {
                // In the midst of an exec: its account stays.
                readings.push(seen.reading(process, has_probes));
            } else {
                continue;
            }
            pids.insert(process, pid);
        }
        budgeting.looks = budgeting.looks.wrapping_add(1);
        budgeting.seen.retain(|process, _| pids.contains_key(process));
        let changes = budgeting.schedule.look(
            monotonic_ns(),
            hit_ns,
            (self.builder.hits(), self.attachments.placed_ns()),
            &readings,
        );
        self.attachments.pause_new(budgeting.pauses_new());
        let pid_of = |process: &ProcessId| pids.get(process).copied();
        let off = changes.iter().filter_map(|change| match change {
            Change::Off(process) => pid_of(process),
            Change::On(..) => None,
        });
        let off: Vec<u32> = off.collect();
        if !off.is_empty() {
            let (attachments, mut world) = self.split();
            attachments.pause(&mut world, &off);
        }
        for change in changes {
            let Change::On(process, grown) = change else { continue };
            let Some(pid) = pid_of(&process) else { continue };
            let (attachments, mut world) = self.split();
            if !attachments.resume(&mut world, pid) {
                budgeting.schedule.failed(process);
            } else if let (Some(grown), Some(growing)) = (grown, budgeting.limits.growing) {
                self.tell_of_growth(pid, grown, growing);
            }
        }
        self.budgeting = Some(budgeting);
    }

    fn reading(
        &mut self,
        budgeting: &mut Budgeting,
        process: ProcessId,
        record: u32,
        pid: u32,
    ) -> Reading<ProcessId> {
        let hits = self.builder.record(record).map_or(0, |record| record.hits());
        let is_new = !budgeting.seen.contains_key(&process);
        let seen = budgeting.seen.entry(process).or_default();
        // Of most, nothing changes between two looks.
        if is_new || hits != seen.hits || pid % ROUND == budgeting.looks % ROUND {
            let bytes = budgeting.limits.growing.and_then(|_| procfs::read_statm(pid).ok());
            let bytes = bytes.map(|statm| statm.anonymous().saturating_mul(procfs::page_size()));
            *seen = Seen {
                hits,
                cpu_ns: self.read_cpu_time(record, pid).unwrap_or(seen.cpu_ns),
                bytes: bytes.or(seen.bytes),
            };
        }
        seen.reading(process, !self.attachments.is_paused(pid))
    }

    fn tell_of_growth(&mut self, pid: u32, Grown { bytes }: Grown, growing: Growing) {
        let (after_ns, within_ns) = (nanoseconds(self.counting.elapsed()), growing.within_ns());
        let comm = procfs::comm(pid).unwrap_or_default();
        let note = Note::Grew { pid, comm, after_ns, bytes, within_ns };
        if self.grew.len() < UNTOLD {
            self.grew.push(note.clone());
        }
        self.note(note);
    }
}
