//! The process table: BPF process records (one an image) become processes (one a PID and start).

use super::attendance::Attendance;
use crate::model::{Process, ProcessId, Totals};
use heaptrace_common::record::{NO_PROCESS, ProcessRecord, process_state};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

/// When calls counted at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Since the probes for all processes were in place; 0 where they are placed by process.
    pub from_ns: u64,
    /// Until now, or the end.
    pub until_ns: u64,
    /// Calls were to be seen: else nothing is missing without probes.
    pub probes: bool,
}

/// Maps record numbers to processes and keeps what userspace learned of each.
#[derive(Default)]
pub struct ProcessTable {
    /// By `ProcessId`. Totals and counters are filled in when a chunk is made.
    pub processes: Vec<Process>,
    /// By record.
    by_record: Vec<ProcessId>,
    /// By record: as last read.
    pub records: Vec<ProcessRecord>,
    /// By PID, in order.
    of_pid: HashMap<u32, Vec<u32>>,
    /// Records forked from each record.
    heirs: HashMap<u32, Vec<u32>>,
    /// See `ProfileBuilder::was_found`.
    pub found: HashSet<u32>,
    /// See `ProfileBuilder::add_gap`.
    pub gaps: HashMap<u32, Vec<Range<u64>>>,
}

impl ProcessTable {
    /// Takes record number `records.len()`; records come in order.
    pub fn push(&mut self, record: ProcessRecord) {
        let before = (record.after_exec != 0).then(|| self.id(record.parent)).flatten();
        let id = before.unwrap_or_else(|| {
            let id = ProcessId(self.processes.len() as u32);
            let parent = self.records.get(record.parent as usize).filter(|_| record.parent != NO_PROCESS);
            self.processes.push(Process {
                pid: record.tgid,
                parent_pid: parent.map(|parent| parent.tgid),
                ..Process::default()
            });
            id
        });
        if let Some(process) = self.processes.get_mut(id.index()) {
            process.comm = comm(&record.comm);
        }
        let index = self.records.len() as u32;
        self.of_pid.entry(record.tgid).or_default().push(index);
        if is_fork(&record) {
            self.heirs.entry(record.parent).or_default().push(index);
        }
        self.by_record.push(id);
        self.records.push(record);
    }

    /// Records forked from `record` at `time_ns` or later.
    pub fn heirs_since(&self, record: u32, time_ns: u64) -> Vec<u32> {
        let heirs = self.heirs.get(&record).into_iter().flatten().copied();
        heirs.filter(|heir| self.records[*heir as usize].started_ns >= time_ns).collect()
    }

    /// See `ProfileBuilder::family`.
    pub fn family(&self, record: u32) -> HashSet<u32> {
        let mut first = record;
        while let Some(of) = self.records.get(first as usize)
            && of.after_exec != 0
            && of.parent < first
        {
            first = of.parent;
        }
        let mut family = HashSet::from([first]);
        // A record is made after the one that it came from.
        for (index, of) in (0..).zip(&self.records).skip(first as usize + 1) {
            if family.contains(&of.parent) {
                family.insert(index);
            }
        }
        family
    }

    /// See `ProfileBuilder::record_at`.
    pub fn record_at(&self, pid: u32, time_ns: u64, exec_began: Option<u64>) -> Option<u32> {
        let records = self.of_pid.get(&pid)?;
        let started = |record: &u32| self.records[*record as usize].started_ns;
        let current = records.iter().rev().find(|record| started(record) <= time_ns).copied();
        match exec_began {
            Some(began) if current.is_none_or(|record| started(&record) < began) => {
                records.iter().find(|record| started(record) >= began).copied()
            }
            _ => current,
        }
    }

    /// The process of a record.
    pub fn id(&self, record: u32) -> Option<ProcessId> {
        self.by_record.get(record as usize).copied()
    }

    /// The process of a record, to be written to.
    pub fn get_mut(&mut self, record: u32) -> Option<&mut Process> {
        self.id(record).and_then(|id| self.processes.get_mut(id.index()))
    }

    /// Sums the records into their processes. `totals` are the sites' sums, by process.
    pub fn sum(&mut self, totals: &[Totals], counted: Counted) {
        let attendances = self.attendances(counted);
        for (index, process) in self.processes.iter_mut().enumerate() {
            *process = Process {
                pid: process.pid,
                parent_pid: process.parent_pid,
                comm: std::mem::take(&mut process.comm),
                exe: std::mem::take(&mut process.exe),
                allocators: std::mem::take(&mut process.allocators),
                rss_bytes: process.rss_bytes,
                attach_gap_ns: attendances[index].gap_ns,
                life_ns: attendances[index].life_ns,
                attached_ns: attendances[index].attached_ns,
                totals: totals.get(index).copied().unwrap_or_default(),
                ..Process::default()
            };
        }
        for (record, id) in self.records.iter().zip(&self.by_record) {
            let Some(process) = self.processes.get_mut(id.index()) else { continue };
            // A new field must be dealt with here.
            let ProcessRecord {
                state,
                tgid: _,
                parent: _,
                after_exec,
                inherits: _,
                complete: _,
                armed: _,
                share: _,
                _pad: _,
                started_ns: _,
                ended_ns: _,
                armed_ns: _,
                live_bytes: _,
                live_count: _,
                peak_bytes,
                failed_count,
                unknown_frees,
                inherited_bytes,
                inherited_count,
                inherited_free_count,
                missed_frees,
                lost_bytes,
                lost_count,
                filtered_bytes,
                filtered_count,
                break_at: _,
                brk_bytes,
                mmap_bytes,
                munmap_bytes,
                growth_entered: _,
                growth_left: _,
                calls_under_way: _,
                comm: _,
            } = *record;
            process.exited = state == process_state::EXITED;
            process.peak_live_bytes = process.peak_live_bytes.max(peak_bytes);
            process.failed_count += failed_count;
            process.unknown_frees += unknown_frees;
            if after_exec != 0 {
                // The image before had them.
                (process.inherited_bytes, process.inherited_count, process.inherited_free_count) = (0, 0, 0);
            }
            process.inherited_bytes += inherited_bytes;
            process.inherited_count += inherited_count;
            process.inherited_free_count += inherited_free_count;
            process.missed_frees += missed_frees;
            process.lost_bytes += lost_bytes;
            process.lost_count += lost_count;
            process.filtered_bytes = process.filtered_bytes.saturating_add(filtered_bytes);
            process.filtered_count += filtered_count;
            process.brk_bytes = process.brk_bytes.wrapping_add_unsigned(brk_bytes);
            process.mmap_bytes += mmap_bytes;
            process.munmap_bytes += munmap_bytes;
        }
    }
}

impl ProcessTable {
    /// By process.
    fn attendances(&self, counted: Counted) -> Vec<Attendance> {
        let Counted { from_ns, until_ns, probes } = counted;
        let mut lives: Vec<Option<Range<u64>>> = vec![None; self.processes.len()];
        let mut gaps: Vec<Vec<Range<u64>>> = vec![Vec::new(); self.processes.len()];
        for (index, (record, id)) in (0_u32..).zip(self.records.iter().zip(&self.by_record)) {
            let id = id.index();
            let end = if record.ended_ns == 0 { until_ns } else { record.ended_ns.min(until_ns) };
            let counts_from = if record.armed_ns == 0 { end } else { record.armed_ns };
            // One that was found is a target since its calls count, whatever its image is by then.
            let from = match (&lives[id], self.found.contains(&index)) {
                (_, true) if record.armed_ns == 0 => record.started_ns,
                (_, true) => record.armed_ns,
                (Some(life), _) => life.start,
                (None, _) => record.started_ns,
            };
            // An exec takes no time of which nothing is known.
            let since = lives[id].as_ref().map_or(record.started_ns, |life| life.end.min(record.started_ns));
            // What ran before the probes for all were in place was found, too; what ended before was not traced at all.
            let is_counted = end > from_ns || from_ns <= from;
            lives[id] = Some(if is_counted { from.max(from_ns)..end } else { from..end });
            if probes {
                if !is_counted {
                    gaps[id].push(from..end);
                }
                if record.armed_ns != record.started_ns {
                    gaps[id].push(since..counts_from);
                }
                gaps[id].extend(self.gaps.get(&index).into_iter().flatten().cloned());
            }
        }
        let all = lives.into_iter().zip(gaps);
        all.map(|(life, gaps)| Attendance::of(life.unwrap_or_default(), gaps)).collect()
    }
}

/// Whether a record came of a fork that was seen.
pub fn is_fork(record: &ProcessRecord) -> bool {
    record.parent != NO_PROCESS && record.after_exec == 0
}

fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Counted = Counted { from_ns: 0, until_ns: 1_000, probes: true };

    fn record(tgid: u32, parent: u32, after_exec: u32) -> ProcessRecord {
        ProcessRecord { tgid, parent, after_exec, state: process_state::RUNNING, ..ProcessRecord::default() }
    }

    #[test]
    fn the_images_of_a_process_are_one_process_and_a_reused_pid_is_another() {
        let mut table = ProcessTable::default();
        table.push(record(10, NO_PROCESS, 0));
        table.push(record(11, 0, 0));
        table.push(record(11, 1, 1));
        table.push(record(11, NO_PROCESS, 0));
        let ids: Vec<_> = (0..4).map(|index| table.id(index).map(|id| id.0)).collect();
        assert_eq!(ids, [Some(0), Some(1), Some(1), Some(2)]);
        assert_eq!(table.processes[1].parent_pid, Some(10));
    }

    #[test]
    fn a_code_change_during_an_exec_belongs_to_the_image_that_comes_of_it() {
        let mut table = ProcessTable::default();
        let at = |started_ns, record| ProcessRecord { started_ns, ..record };
        table.push(at(100, record(7, NO_PROCESS, 0)));
        assert_eq!(table.record_at(7, 150, None), Some(0));
        assert_eq!(table.record_at(7, 90, None), None);
        // The exec began at 200; its mappings come at 210, its record at 220.
        assert_eq!(table.record_at(7, 210, Some(200)), None);
        table.push(at(220, record(7, 0, 1)));
        assert_eq!(table.record_at(7, 210, Some(200)), Some(1));
        assert_eq!(table.record_at(7, 230, Some(200)), Some(1));
        assert_eq!(table.record_at(7, 150, None), Some(0));
        // Another process of this PID, which has not execed.
        table.push(at(300, record(7, NO_PROCESS, 0)));
        assert_eq!(table.record_at(7, 310, Some(200)), Some(2));
    }

    #[test]
    fn a_fork_has_what_was_mapped_before_it_and_an_exec_has_not() {
        let mut table = ProcessTable::default();
        let at = |started_ns, record| ProcessRecord { started_ns, ..record };
        table.push(at(100, record(7, NO_PROCESS, 0)));
        table.push(at(200, record(8, 0, 0)));
        table.push(at(300, record(7, 0, 1)));
        assert_eq!(table.heirs_since(0, 150), [1]);
        assert!(table.heirs_since(0, 250).is_empty());
    }

    #[test]
    fn a_family_has_all_images_and_all_that_came_of_them() {
        let mut table = ProcessTable::default();
        table.push(record(5, NO_PROCESS, 0));
        table.push(record(7, NO_PROCESS, 0));
        // A child, its exec, and its own child.
        table.push(record(8, 1, 0));
        table.push(record(8, 2, 1));
        table.push(record(9, 3, 0));
        // The process's own exec, and a child of that.
        table.push(record(7, 1, 1));
        table.push(record(10, 5, 0));
        table.push(record(6, 0, 0));
        assert_eq!(table.family(5), HashSet::from([1, 2, 3, 4, 5, 6]));
        assert_eq!(table.family(2), HashSet::from([2, 3, 4]));
        assert_eq!(table.family(7), HashSet::from([7]));
    }

    #[test]
    fn counters_of_all_images_add_up_but_the_peak_is_the_largest() {
        let mut table = ProcessTable::default();
        table.push(ProcessRecord { failed_count: 2, peak_bytes: 70, ..record(11, NO_PROCESS, 0) });
        table.push(ProcessRecord { failed_count: 3, peak_bytes: 50, ..record(11, 0, 1) });
        for _ in 0..2 {
            table.sum(&[Totals { alloc_bytes: 5, ..Totals::default() }], COUNTED);
        }
        let process = &table.processes[0];
        assert_eq!((process.failed_count, process.peak_live_bytes, process.totals.alloc_bytes), (5, 70, 5));
    }

    /// (life, attended, gap) of each process.
    fn attended(table: &mut ProcessTable, counted: Counted) -> Vec<(u64, u64, Option<u64>)> {
        let totals = vec![Totals::default(); table.processes.len()];
        table.sum(&totals, counted);
        table.processes.iter().map(|of| (of.life_ns, of.attached_ns, of.attach_gap_ns)).collect()
    }

    #[test]
    fn a_childs_gap_ends_when_the_probes_count_in_the_image_that_it_has_then() {
        let mut table = ProcessTable::default();
        let at = |started_ns, ended_ns, armed_ns, record| ProcessRecord {
            started_ns,
            ended_ns,
            armed_ns,
            ..record
        };
        table.push(at(100, 0, 150, record(7, NO_PROCESS, 0)));
        table.found.insert(0);
        // Forked, and away by exec before its probes came.
        table.push(at(300, 310, 0, record(8, 0, 0)));
        table.push(at(312, 900, 360, record(8, 1, 1)));
        // Ended before anybody came.
        table.push(at(400, 450, 0, record(9, 0, 0)));
        let expected = [(850, 850, None), (600, 540, Some(60)), (50, 0, Some(50))];
        assert_eq!(attended(&mut table, COUNTED), expected);
        let all = [(850, 850, None), (600, 600, None), (50, 50, None)];
        assert_eq!(attended(&mut table, Counted { probes: false, ..COUNTED }), all);
    }

    #[test]
    fn a_file_that_is_probed_late_is_missing_meanwhile() {
        let mut table = ProcessTable::default();
        table.push(ProcessRecord { started_ns: 200, armed_ns: 200, ..record(7, NO_PROCESS, 0) });
        table.gaps.insert(0, vec![500..600, 550..560]);
        assert_eq!(attended(&mut table, COUNTED), [(800, 700, None)]);
        // Probes for all came after it had begun: what was before is not its beginning.
        assert_eq!(attended(&mut table, Counted { from_ns: 400, ..COUNTED }), [(600, 500, None)]);
    }

    #[test]
    fn an_exec_lets_go_of_what_was_inherited() {
        let mut table = ProcessTable::default();
        table.push(record(7, NO_PROCESS, 0));
        let forked = ProcessRecord {
            inherited_bytes: 70,
            inherited_count: 2,
            inherited_free_count: 1,
            ..record(8, 0, 0)
        };
        table.push(forked);
        attended(&mut table, COUNTED);
        assert_eq!(table.processes[1].inherited_count, 2);
        table.push(record(8, 1, 1));
        attended(&mut table, COUNTED);
        let process = &table.processes[1];
        assert_eq!(
            (process.inherited_bytes, process.inherited_count, process.inherited_free_count),
            (0, 0, 0)
        );
    }
}
