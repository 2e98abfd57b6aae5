//! The process table: BPF process records (one an image) become processes (one a PID and start).
//!
//! A record that has ended, and of which nothing is expected any more, is retired: its number will be another's. What it
//! counted goes to its process's past. A process all of whose images are retired is over, and goes once that was told.

use super::{attendance::Attendance, pauses::Pauses};
use crate::model::{Amount, Process, ProcessId, Totals};
use heaptrace_common::record::{NO_PROCESS, ProcessRecord, armed, own_interval, process_state};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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

/// A record as last read, and what userspace learned of it.
struct Image {
    record: ProcessRecord,
    process: ProcessId,
    /// The record that it came from, by fork or exec; where that is retired, the one before.
    origin: Option<u32>,
    /// See `ProfileBuilder::was_found`.
    found: bool,
    /// See `ProfileBuilder::add_gap`.
    gaps: Vec<Range<u64>>,
}

/// What a process was before the images that it has.
#[derive(Default)]
struct Past {
    /// Counters only.
    sums: Process,
    totals: Totals,
    life: Life,
}

/// When a process lived, and when not all its probes counted.
#[derive(Clone, Default)]
struct Life {
    life: Option<Range<u64>>,
    gaps: Vec<Range<u64>>,
}

/// Maps record numbers to processes and keeps what userspace learned of each.
#[derive(Default)]
pub struct ProcessTable {
    /// Those that are not over, or not yet told to be, and whose names of generated code may be asked for. Totals and counters
    /// are filled in when a chunk is made.
    pub processes: BTreeMap<ProcessId, Process>,
    /// Processes so far.
    count: u32,
    images: BTreeMap<u32, Image>,
    running: BTreeSet<u32>,
    /// The images of each process, in order.
    of_process: BTreeMap<ProcessId, Vec<u32>>,
    /// By PID, in order.
    of_pid: HashMap<u32, Vec<u32>>,
    /// Records forked from each record.
    heirs: HashMap<u32, Vec<u32>>,
    past: HashMap<ProcessId, Past>,
    /// Of those that had any.
    pauses: HashMap<ProcessId, Pauses>,
    /// Records that were replaced, and by what is not known yet.
    replaced: BTreeSet<u32>,
    /// All their images are retired, and no chunk was made since.
    over: BTreeSet<ProcessId>,
    /// What retired images counted of unknown frees, and what was live when they exited.
    pub retired_unknown_frees: u64,
    pub retired_at_exit: Amount,
    /// The same of hits of probes.
    retired_hits: u64,
}

impl ProcessTable {
    /// Takes record number `index`, which is new. The one that it came from was taken before.
    pub fn push(&mut self, index: u32, record: ProcessRecord) {
        let origin = (record.parent != NO_PROCESS).then_some(record.parent);
        let before = origin.filter(|_| record.after_exec != 0).and_then(|before| self.id(before));
        let process = before.unwrap_or_else(|| {
            let id = ProcessId(self.count);
            self.count += 1;
            let parent_pid = origin.and_then(|parent| self.record(parent)).map(|parent| parent.tgid);
            self.processes.insert(id, Process { pid: record.tgid, parent_pid, ..Process::default() });
            id
        });
        if let Some(process) = self.processes.get_mut(&process) {
            process.comm = comm(&record.comm);
            if before.is_some() {
                self.replaced.remove(&record.parent);
                // Another program; which one, its first mapping tells.
                process.exe.clear();
            }
        }
        self.of_process.entry(process).or_default().push(index);
        self.of_pid.entry(record.tgid).or_default().push(index);
        if is_fork(&record) {
            self.heirs.entry(record.parent).or_default().push(index);
        }
        self.images.insert(index, Image { record, process, origin, found: false, gaps: Vec::new() });
        self.read_again(index, record);
    }

    /// Takes what a record says now.
    pub fn read_again(&mut self, index: u32, record: ProcessRecord) {
        if let Some(image) = self.images.get_mut(&index) {
            image.record = record;
            // A child that was forked so: of others it was said before.
            if record.armed == armed::PAUSED {
                self.pauses.entry(image.process).or_default().begin(record.started_ns);
            }
            if record.state == process_state::REPLACED {
                // What comes of it is taken later.
                self.replaced.insert(index);
            }
            if record.state == process_state::RUNNING {
                self.running.insert(index);
            } else {
                self.running.remove(&index);
            }
        }
    }

    /// Processes so far, those that are over among them.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// A record as last read; `None` once it is retired.
    pub fn record(&self, index: u32) -> Option<&ProcessRecord> {
        self.images.get(&index).map(|image| &image.record)
    }

    /// All records, with their processes.
    pub fn records(&self) -> impl Iterator<Item = (u32, ProcessId, &ProcessRecord)> {
        self.images.iter().map(|(index, image)| (*index, image.process, &image.record))
    }

    /// Records that run.
    pub fn running(&self) -> impl Iterator<Item = u32> + '_ {
        self.running.iter().copied()
    }

    /// See `ProfileBuilder::is_within_exec`.
    pub fn is_within_exec(&self, now_ns: u64) -> bool {
        /// It is made by the same program; without room there is none.
        const AT_MOST_NS: u64 = 1_000_000_000;
        let ended =
            self.replaced.iter().filter_map(|index| self.record(*index)).map(|record| record.ended_ns);
        ended.max().is_some_and(|ended_ns| now_ns.saturating_sub(ended_ns) < AT_MOST_NS)
    }

    /// Whether a process was there before it became a target, as far as its first image is not retired.
    pub fn is_found(&self, process: ProcessId) -> bool {
        let images = self.of_process.get(&process).into_iter().flatten();
        images.filter_map(|index| self.images.get(index)).any(|image| image.found)
    }

    /// See `ProfileBuilder::was_found`.
    pub fn was_found(&mut self, index: u32) {
        if let Some(image) = self.images.get_mut(&index) {
            image.found = true;
        }
    }

    /// See `ProfileBuilder::add_gap`.
    pub fn add_gap(&mut self, index: u32, gap: Range<u64>) {
        if let Some(image) = self.images.get_mut(&index) {
            image.gaps.push(gap);
        }
    }

    /// See `ProfileBuilder::pause`.
    pub fn pause(&mut self, index: u32, now_ns: u64) {
        if let Some(process) = self.id(index) {
            self.pauses.entry(process).or_default().begin(now_ns);
        }
    }

    /// See `ProfileBuilder::resumed`.
    pub fn resumed(&mut self, index: u32, now_ns: u64) {
        if let Some(pauses) = self.id(index).and_then(|process| self.pauses.get_mut(&process)) {
            pauses.end(now_ns);
        }
    }

    /// Hits of all processes' probes so far.
    pub fn hits(&self) -> u64 {
        self.images.values().map(|image| image.record.hits()).sum::<u64>() + self.retired_hits
    }

    /// Records forked from `record` at `time_ns` or later.
    pub fn heirs_since(&self, record: u32, time_ns: u64) -> Vec<u32> {
        let heirs = self.heirs.get(&record).into_iter().flatten().copied();
        heirs.filter(|heir| self.record(*heir).is_some_and(|heir| heir.started_ns >= time_ns)).collect()
    }

    /// See `ProfileBuilder::family`.
    pub fn family(&self, record: u32) -> HashSet<u32> {
        let Some(process) = self.id(record) else { return HashSet::new() };
        let mut family: HashSet<u32> = self.of_process[&process].iter().copied().collect();
        loop {
            let came_from = |image: &Image| image.origin.is_some_and(|origin| family.contains(&origin));
            let new: Vec<u32> = self
                .images
                .iter()
                .filter(|(index, image)| !family.contains(index) && came_from(image))
                .map(|(index, _)| *index)
                .collect();
            if new.is_empty() {
                return family;
            }
            family.extend(new);
        }
    }

    /// See `ProfileBuilder::record_at`.
    pub fn record_at(&self, pid: u32, time_ns: u64, exec_began: Option<u64>) -> Option<u32> {
        let records = self.of_pid.get(&pid)?;
        let started = |record: &u32| self.images[record].record.started_ns;
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
        self.images.get(&record).map(|image| image.process)
    }

    /// Whether a process has no later image than a record's.
    pub fn is_last_image(&self, record: u32) -> bool {
        let images = self.id(record).and_then(|id| self.of_process.get(&id));
        images.is_some_and(|images| images.last() == Some(&record))
    }

    /// The process of a record, to be written to.
    pub fn get_mut(&mut self, record: u32) -> Option<&mut Process> {
        self.id(record).and_then(|id| self.processes.get_mut(&id))
    }

    /// Sums the records into their processes, those that are over since the last call among them. `totals` are the sums of the
    /// sites that are known still.
    pub fn sum(&mut self, totals: &HashMap<ProcessId, Totals>, counted: Counted) {
        let none = Past::default();
        let over: Vec<(ProcessId, Vec<u32>)> = self.over.iter().map(|id| (*id, Vec::new())).collect();
        for (id, images) in self.of_process.iter().chain(over.iter().map(|(id, images)| (id, images))) {
            let past = self.past.get(id).unwrap_or(&none);
            let mut life = past.life.clone();
            let Some(process) = self.processes.get_mut(id) else { continue };
            *process = Process {
                pid: process.pid,
                parent_pid: process.parent_pid,
                comm: std::mem::take(&mut process.comm),
                exe: std::mem::take(&mut process.exe),
                allocators: std::mem::take(&mut process.allocators),
                rss_bytes: process.rss_bytes,
                cpu_ns: process.cpu_ns,
                totals: past.totals,
                over: !images.iter().any(|index| self.running.contains(index)),
                ..past.sums.clone()
            };
            if let Some(totals) = totals.get(id) {
                process.totals.add(totals);
            }
            let pauses = self.pauses.get(id);
            for image in images.iter().filter_map(|index| self.images.get(index)) {
                add_counters(process, &image.record);
                life.add(image, counted);
            }
            let Attendance { life_ns, attached_ns, gap_ns, paused_ns } = life.attendance(pauses);
            (process.life_ns, process.attached_ns, process.attach_gap_ns) = (life_ns, attached_ns, gap_ns);
            (process.paused_ns, process.paused) = (paused_ns, pauses.is_some_and(Pauses::goes_on));
        }
    }

    /// The processes that may have changed since the last call, after [`Self::sum`]: those that have images, and those that are
    /// over, which are told for the last time.
    pub fn take_changing(&mut self) -> (Vec<ProcessId>, BTreeSet<ProcessId>) {
        let over = std::mem::take(&mut self.over);
        let mut all: Vec<ProcessId> = self.of_process.keys().chain(&over).copied().collect();
        all.sort_unstable();
        (all, over)
    }

    /// Totals of sites that are told for the last time.
    pub fn keep_totals(&mut self, process: ProcessId, totals: &Totals) {
        if self.of_process.contains_key(&process) {
            self.past.entry(process).or_default().totals.add(totals);
        }
    }

    /// Forgets a process that is over and was told, but for its names if they are `asked_for`.
    pub fn forget(&mut self, process: ProcessId, asked_for: bool) {
        if !asked_for {
            self.processes.remove(&process);
        }
        self.past.remove(&process);
        self.pauses.remove(&process);
    }
}

/// How many generations of parents the kernel side asks for a block that a child inherited: `account.rs`.
const GENERATIONS: usize = 4;

impl ProcessTable {
    /// Records that have ended, as far as `is_told` says that all news of them have come, and that neither the kernel side nor we
    /// ask for any more.
    pub fn retirable(&self, is_told: impl Fn(u32, &ProcessRecord) -> bool) -> Vec<u32> {
        let is_over =
            |record: &ProcessRecord| ![process_state::EMPTY, process_state::RUNNING].contains(&record.state);
        let mut retirable: BTreeSet<u32> = self
            .images
            .iter()
            .filter(|(index, image)| is_over(&image.record) && is_told(**index, &image.record))
            .map(|(index, _)| *index)
            .collect();
        let others = self.images.keys().filter(|index| !retirable.contains(index));
        let mut kept: Vec<u32> = others.copied().collect();
        let running = self.running.iter().filter_map(|index| self.record(*index));
        for record in running.filter(|record| is_fork(record)) {
            // One that runs in its parent's memory counts for it; others may free what theirs allocated.
            if record.inherits == 0 {
                kept.extend(retirable.take(&record.parent));
            } else if record.complete == 0 {
                let mut of = record;
                for _ in 0..GENERATIONS {
                    if of.inherits == 0 || of.after_exec != 0 {
                        break;
                    }
                    kept.extend(retirable.take(&of.parent));
                    let Some(parent) = self.record(of.parent) else { break };
                    of = parent;
                }
            }
        }
        while let Some(index) = kept.pop() {
            let Some(image) = self.images.get(&index) else { continue };
            // A process's past is told in order.
            let images = self.of_process.get(&image.process).into_iter().flatten();
            let later = images.skip_while(|of| **of != index);
            kept.extend(later.filter_map(|of| retirable.take(of)));
        }
        retirable.into_iter().collect()
    }

    /// Records are retired: their numbers will be others'.
    pub fn retire(&mut self, records: &[u32], counted: Counted) {
        let gone = records.iter().filter_map(|index| Some((*index, self.images.remove(index)?)));
        let gone: HashMap<u32, Image> = gone.collect();
        for image in self.images.values_mut() {
            while let Some(origin) = image.origin.and_then(|origin| gone.get(&origin)) {
                image.origin = origin.origin;
            }
        }
        let mut in_order: Vec<(&u32, &Image)> = gone.iter().collect();
        in_order.sort_unstable_by_key(|(index, image)| (image.record.started_ns, **index));
        for (index, image) in in_order {
            let Image { record, process, .. } = image;
            self.running.remove(index);
            self.replaced.remove(index);
            self.heirs.remove(index);
            if is_fork(record) {
                remove(&mut self.heirs, record.parent, *index);
            }
            remove(&mut self.of_pid, record.tgid, *index);
            let past = self.past.entry(*process).or_default();
            add_counters(&mut past.sums, record);
            past.life.add(image, counted);
            self.retired_unknown_frees += record.unknown_frees;
            self.retired_hits += record.hits();
            if record.state != process_state::REPLACED {
                self.retired_at_exit.add(Amount { bytes: record.live_bytes, count: record.live_count() });
            }
            if let Some(images) = self.of_process.get_mut(process) {
                images.retain(|of| of != index);
                if images.is_empty() {
                    self.of_process.remove(process);
                    self.over.insert(*process);
                }
            }
        }
    }
}

/// Takes `index` out of the list of `key`.
fn remove(lists: &mut HashMap<u32, Vec<u32>>, key: u32, index: u32) {
    if let Some(list) = lists.get_mut(&key) {
        list.retain(|of| *of != index);
        if list.is_empty() {
            lists.remove(&key);
        }
    }
}

/// Adds what an image counted to its process; images come in order.
fn add_counters(process: &mut Process, record: &ProcessRecord) {
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
        asked_for_numbers: _,
        started_ns: _,
        ended_ns: _,
        armed_ns: _,
        live_bytes: _,
        entered_count: _,
        closed_count: _,
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
        seen_bytes,
        seen_count,
        other_hits: _,
        own_samples,
        heaps_ended,
        unseen_calls,
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
    process.seen_bytes = process.seen_bytes.saturating_add(seen_bytes);
    process.seen_count += seen_count;
    process.hits += record.hits();
    process.heaps_ended += heaps_ended;
    process.unseen_calls += unseen_calls;
    // Of all images' the fewest, as of one.
    if own_samples != 0 {
        let others = match process.own_sample_bytes {
            0 => u64::MAX,
            bytes => bytes,
        };
        process.own_sample_bytes = own_interval(own_samples).min(others);
    }
    process.brk_bytes = process.brk_bytes.wrapping_add_unsigned(brk_bytes);
    process.mmap_bytes += mmap_bytes;
    process.munmap_bytes += munmap_bytes;
}

impl Life {
    /// Adds the next image.
    fn add(&mut self, image: &Image, counted: Counted) {
        let Counted { from_ns, until_ns, probes } = counted;
        let Image { record, found, gaps, .. } = image;
        let end = if record.ended_ns == 0 { until_ns } else { record.ended_ns.min(until_ns) };
        let counts_from = if record.armed_ns == 0 { end } else { record.armed_ns };
        // One that was found is a target since its calls count, whatever its image is by then.
        let from = match (&self.life, found) {
            (_, true) if record.armed_ns == 0 => record.started_ns,
            (_, true) => record.armed_ns,
            (Some(life), _) => life.start,
            (None, _) => record.started_ns,
        };
        // An exec takes no time of which nothing is known.
        let since = self.life.as_ref().map_or(record.started_ns, |life| life.end.min(record.started_ns));
        // What ran before the probes for all were in place was found, too; what ended before was not traced at all.
        let is_counted = end > from_ns || from_ns <= from;
        self.life = Some(if is_counted { from.max(from_ns)..end } else { from..end });
        if probes {
            if !is_counted {
                self.gaps.push(from..end);
            }
            if record.armed_ns != record.started_ns {
                self.gaps.push(since..counts_from);
            }
            self.gaps.extend(gaps.iter().cloned());
        }
    }

    fn attendance(self, pauses: Option<&Pauses>) -> Attendance {
        Attendance::of(self.life.unwrap_or_default(), self.gaps, pauses)
    }
}

/// Whether a record came of a fork that was seen.
pub fn is_fork(record: &ProcessRecord) -> bool {
    record.parent != NO_PROCESS && record.after_exec == 0
}

/// A name as the kernel has it.
pub(super) fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(table: &mut ProcessTable, record: ProcessRecord) {
        table.push(table.images.len() as u32, record);
    }

    const COUNTED: Counted = Counted { from_ns: 0, until_ns: 1_000, probes: true };

    fn record(tgid: u32, parent: u32, after_exec: u32) -> ProcessRecord {
        ProcessRecord { tgid, parent, after_exec, state: process_state::RUNNING, ..ProcessRecord::default() }
    }

    #[test]
    fn the_images_of_a_process_are_one_process_and_a_reused_pid_is_another() {
        let mut table = ProcessTable::default();
        push(&mut table, record(10, NO_PROCESS, 0));
        push(&mut table, record(11, 0, 0));
        push(&mut table, record(11, 1, 1));
        push(&mut table, record(11, NO_PROCESS, 0));
        let ids: Vec<_> = (0..4).map(|index| table.id(index).map(|id| id.0)).collect();
        assert_eq!(ids, [Some(0), Some(1), Some(1), Some(2)]);
        assert_eq!(table.processes[&ProcessId(1)].parent_pid, Some(10));
    }

    #[test]
    fn a_code_change_during_an_exec_belongs_to_the_image_that_comes_of_it() {
        let mut table = ProcessTable::default();
        let at = |started_ns, record| ProcessRecord { started_ns, ..record };
        push(&mut table, at(100, record(7, NO_PROCESS, 0)));
        assert_eq!(table.record_at(7, 150, None), Some(0));
        assert_eq!(table.record_at(7, 90, None), None);
        // The exec began at 200; its mappings come at 210, its record at 220.
        assert_eq!(table.record_at(7, 210, Some(200)), None);
        push(&mut table, at(220, record(7, 0, 1)));
        assert_eq!(table.record_at(7, 210, Some(200)), Some(1));
        assert_eq!(table.record_at(7, 230, Some(200)), Some(1));
        assert_eq!(table.record_at(7, 150, None), Some(0));
        // Another process of this PID, which has not execed.
        push(&mut table, at(300, record(7, NO_PROCESS, 0)));
        assert_eq!(table.record_at(7, 310, Some(200)), Some(2));
    }

    #[test]
    fn a_fork_has_what_was_mapped_before_it_and_an_exec_has_not() {
        let mut table = ProcessTable::default();
        let at = |started_ns, record| ProcessRecord { started_ns, ..record };
        push(&mut table, at(100, record(7, NO_PROCESS, 0)));
        push(&mut table, at(200, record(8, 0, 0)));
        push(&mut table, at(300, record(7, 0, 1)));
        assert_eq!(table.heirs_since(0, 150), [1]);
        assert!(table.heirs_since(0, 250).is_empty());
    }

    #[test]
    fn a_family_has_all_images_and_all_that_came_of_them() {
        let mut table = ProcessTable::default();
        push(&mut table, record(5, NO_PROCESS, 0));
        push(&mut table, record(7, NO_PROCESS, 0));
        // A child, its exec, and its own child.
        push(&mut table, record(8, 1, 0));
        push(&mut table, record(8, 2, 1));
        push(&mut table, record(9, 3, 0));
        // The process's own exec, and a child of that.
        push(&mut table, record(7, 1, 1));
        push(&mut table, record(10, 5, 0));
        push(&mut table, record(6, 0, 0));
        assert_eq!(table.family(5), HashSet::from([1, 2, 3, 4, 5, 6]));
        assert_eq!(table.family(2), HashSet::from([2, 3, 4]));
        assert_eq!(table.family(7), HashSet::from([7]));
    }

    #[test]
    fn counters_of_all_images_add_up_but_the_peak_is_the_largest() {
        let mut table = ProcessTable::default();
        push(&mut table, ProcessRecord { failed_count: 2, peak_bytes: 70, ..record(11, NO_PROCESS, 0) });
        push(&mut table, ProcessRecord { failed_count: 3, peak_bytes: 50, ..record(11, 0, 1) });
        for _ in 0..2 {
            let totals = Totals { alloc_bytes: 5, ..Totals::default() };
            table.sum(&[(ProcessId(0), totals)].into(), COUNTED);
        }
        let process = &table.processes[&ProcessId(0)];
        assert_eq!((process.failed_count, process.peak_live_bytes, process.totals.alloc_bytes), (5, 70, 5));
    }

    /// (life, attended, gap) of each process.
    fn attended(table: &mut ProcessTable, counted: Counted) -> Vec<(u64, u64, Option<u64>)> {
        table.sum(&HashMap::new(), counted);
        table.processes.values().map(|of| (of.life_ns, of.attached_ns, of.attach_gap_ns)).collect()
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
        push(&mut table, at(100, 0, 150, record(7, NO_PROCESS, 0)));
        table.was_found(0);
        // Forked, and away by exec before its probes came.
        push(&mut table, at(300, 310, 0, record(8, 0, 0)));
        push(&mut table, at(312, 900, 360, record(8, 1, 1)));
        // Ended before anybody came.
        push(&mut table, at(400, 450, 0, record(9, 0, 0)));
        let expected = [(850, 850, None), (600, 540, Some(60)), (50, 0, Some(50))];
        assert_eq!(attended(&mut table, COUNTED), expected);
        let all = [(850, 850, None), (600, 600, None), (50, 50, None)];
        assert_eq!(attended(&mut table, Counted { probes: false, ..COUNTED }), all);
    }

    #[test]
    fn a_file_that_is_probed_late_is_missing_meanwhile() {
        let mut table = ProcessTable::default();
        push(&mut table, ProcessRecord { started_ns: 200, armed_ns: 200, ..record(7, NO_PROCESS, 0) });
        table.add_gap(0, 500..600);
        table.add_gap(0, 550..560);
        assert_eq!(attended(&mut table, COUNTED), [(800, 700, None)]);
        // Probes for all came after it had begun: what was before is not its beginning.
        assert_eq!(attended(&mut table, Counted { from_ns: 400, ..COUNTED }), [(600, 500, None)]);
    }

    #[test]
    fn a_child_that_was_forked_paused_and_ended_so_was_never_traced_on_purpose() {
        let mut table = ProcessTable::default();
        let paused = ProcessRecord {
            armed: armed::PAUSED,
            started_ns: 200,
            armed_ns: 200,
            ..record(7, NO_PROCESS, 0)
        };
        push(&mut table, ProcessRecord { ended_ns: 300, state: process_state::EXITED, ..paused });
        assert_eq!(attended(&mut table, COUNTED), [(100, 0, None)]);
        assert_eq!(table.processes[&ProcessId(0)].paused_ns, 100);
    }

    #[test]
    fn an_exec_lets_go_of_what_was_inherited() {
        let mut table = ProcessTable::default();
        push(&mut table, record(7, NO_PROCESS, 0));
        let forked = ProcessRecord {
            inherited_bytes: 70,
            inherited_count: 2,
            inherited_free_count: 1,
            ..record(8, 0, 0)
        };
        push(&mut table, forked);
        attended(&mut table, COUNTED);
        assert_eq!(table.processes[&ProcessId(1)].inherited_count, 2);
        push(&mut table, record(8, 1, 1));
        attended(&mut table, COUNTED);
        let process = &table.processes[&ProcessId(1)];
        assert_eq!(
            (process.inherited_bytes, process.inherited_count, process.inherited_free_count),
            (0, 0, 0)
        );
    }

    fn at(started_ns: u64, ended_ns: u64, state: u64, record: ProcessRecord) -> ProcessRecord {
        ProcessRecord { started_ns, ended_ns, state, armed_ns: started_ns, share: 1_000_000, ..record }
    }

    const EXITED: u64 = process_state::EXITED;
    const REPLACED: u64 = process_state::REPLACED;
    const RUNNING: u64 = process_state::RUNNING;

    fn retirable(table: &ProcessTable) -> Vec<u32> {
        table.retirable(|_, _| true)
    }

    #[test]
    fn what_has_ended_and_was_told_of_is_retired() {
        let mut table = ProcessTable::default();
        push(&mut table, at(100, 0, RUNNING, record(7, NO_PROCESS, 0)));
        push(&mut table, at(200, 210, REPLACED, record(8, 0, 0)));
        push(&mut table, at(211, 300, EXITED, record(8, 1, 1)));
        push(&mut table, at(220, 230, process_state::LEFT_OUT, record(9, 0, 0)));
        assert_eq!(retirable(&table), [1, 2, 3]);
        // A process's past is told in order.
        assert_eq!(table.retirable(|index, _| index != 1), [3]);
        assert_eq!(table.retirable(|index, _| index != 2), [1, 3]);
    }

    #[test]
    fn what_runs_in_a_parents_memory_or_may_free_its_blocks_keeps_it() {
        let mut table = ProcessTable::default();
        push(&mut table, at(100, 150, EXITED, record(7, NO_PROCESS, 0)));
        // vfork's.
        push(&mut table, at(110, 0, RUNNING, record(8, 0, 0)));
        assert_eq!(retirable(&table), [0; 0]);
        table.read_again(1, at(110, 120, REPLACED, record(8, 0, 0)));
        push(&mut table, at(121, 0, RUNNING, record(8, 1, 1)));
        assert_eq!(retirable(&table), [0, 1]);
        // fork's, five generations of which one lives: four are asked for.
        let mut table = ProcessTable::default();
        push(&mut table, at(100, 150, EXITED, record(7, NO_PROCESS, 0)));
        for parent in 0..5 {
            let state = if parent == 4 { RUNNING } else { EXITED };
            let forked = ProcessRecord { inherits: 1, ..record(8 + parent, parent, 0) };
            push(&mut table, at(200 + u64::from(parent), 300, state, forked));
        }
        assert_eq!(retirable(&table), [0]);
        // Whose own calls were all seen asks nobody.
        table.read_again(5, ProcessRecord { complete: 1, ..*table.record(5).expect("is there") });
        assert_eq!(retirable(&table), [0, 1, 2, 3, 4]);
    }

    /// All that is said of processes, however much of them is retired meanwhile.
    #[test]
    fn what_is_retired_is_summed_as_if_it_were_not() {
        let build = |retire: bool| {
            let mut table = ProcessTable::default();
            let counted = Counted { from_ns: 120, until_ns: 5_000, probes: true };
            push(&mut table, at(100, 0, RUNNING, record(7, NO_PROCESS, 0)));
            for n in 0..40_u32 {
                let start = 200 + u64::from(n) * 100;
                let forked = ProcessRecord {
                    inherited_bytes: 70,
                    inherited_count: 1,
                    failed_count: 1,
                    peak_bytes: u64::from(n * 7 % 5),
                    ..record(8 + n, 0, 0)
                };
                let (fork, exec) = (1 + 2 * n, 2 + 2 * n);
                let armed_ns = if n % 3 == 0 { 0 } else { start };
                table.push(fork, ProcessRecord { armed_ns, ..at(start, start + 10, REPLACED, forked) });
                let image =
                    ProcessRecord { unknown_frees: 2, failed_count: n.into(), ..record(8 + n, fork, 1) };
                let armed_ns = start + 12 + u64::from(n % 4);
                table.push(exec, ProcessRecord { armed_ns, ..at(start + 12, start + 90, EXITED, image) });
                if n % 5 == 0 {
                    table.add_gap(exec, start + 30..start + 40);
                }
                if retire && n % 7 == 0 {
                    // Half of a process, too.
                    let records = table.retirable(|index, _| index != exec);
                    table.retire(&records, counted);
                }
            }
            table.sum(&HashMap::new(), counted);
            let unknown: u64 = table.records().map(|(_, _, record)| record.unknown_frees).sum();
            assert_eq!(table.records().count() < 40, retire);
            (table.processes.clone(), unknown + table.retired_unknown_frees)
        };
        assert!(build(true) == build(false));
    }

    #[test]
    fn a_family_holds_together_where_one_in_between_is_retired() {
        let mut table = ProcessTable::default();
        push(&mut table, at(100, 0, RUNNING, record(7, NO_PROCESS, 0)));
        push(&mut table, at(200, 250, EXITED, record(8, 0, 0)));
        push(&mut table, at(210, 0, RUNNING, ProcessRecord { inherits: 1, complete: 1, ..record(9, 1, 0) }));
        table.retire(&[1], COUNTED);
        assert_eq!(table.family(0), HashSet::from([0, 2]));
        // Its number is another's now.
        table.push(1, at(300, 0, RUNNING, record(10, NO_PROCESS, 0)));
        assert_eq!(table.family(1), HashSet::from([1]));
        assert_eq!((table.record_at(8, 400, None), table.record_at(10, 400, None)), (None, Some(1)));
    }

    #[test]
    fn an_exec_runs_another_program() {
        let mut table = ProcessTable::default();
        push(&mut table, record(7, NO_PROCESS, 0));
        table.get_mut(0).expect("is there").exe = "/bin/make".into();
        push(&mut table, record(7, 0, 1));
        assert_eq!(table.processes[&ProcessId(0)].exe, "");
    }

    #[test]
    fn between_two_images_a_process_has_not_ended() {
        let mut table = ProcessTable::default();
        push(&mut table, at(100, 0, RUNNING, record(7, NO_PROCESS, 0)));
        assert!(!table.is_within_exec(150));
        table.read_again(0, at(100, 200, REPLACED, record(7, NO_PROCESS, 0)));
        assert!(table.is_within_exec(210) && !table.is_within_exec(1_000_000_200));
        push(&mut table, at(205, 250, REPLACED, record(7, 0, 1)));
        assert!(table.is_within_exec(260));
        push(&mut table, at(255, 0, RUNNING, record(7, 1, 1)));
        assert!(!table.is_within_exec(260));
    }
}
