//! Measures the traced processes' memory now and then, and keeps the last measurement of each.

use super::Session;
use crate::{
    allocators::Known,
    model::{Note, ProcessId, Residency, Traced},
    probes::discover::DiscoverError,
    process::{
        patience,
        procfs::{self, ProcError},
    },
    rss::{Limits, Measured, Rounds, measure},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// While tracing, blocks are looked at one by one where the live map has no more than these: some 30 ms.
const BRIEF_BLOCKS: u64 = 200_000;

/// What measuring takes at the end, but for its last process: then those with the fewest live bytes keep their last one.
/// It is time in which forks are not followed.
const AT_END: Duration = Duration::from_secs(2);

/// A record's measurement, before the blocks were looked at.
struct Half {
    measured: Measured,
    at: Duration,
    took: Duration,
}

impl Session {
    /// Measures processes whose turn it is, as far as that takes little time. For once a second, after
    /// [`Session::drain`].
    pub fn measure_some(&mut self) {
        let began = Instant::now();
        let run: Vec<(u32, u32)> = self.builder.running().collect();
        let pids: HashMap<u32, u32> = run.iter().copied().collect();
        let records: Vec<u32> = run.into_iter().map(|(record, _)| record).collect();
        let due = self.residencies.rounds.due(self.counting.elapsed(), &records);
        let mut halves = HashMap::new();
        let mut last = None;
        for record in due.into_iter().take_while(|_| Rounds::goes_on(began.elapsed())) {
            if let Some(pid) = pids.get(&record) {
                self.measure_one(record, *pid, Limits::BRIEF, &mut halves);
            }
            last = Some(record);
        }
        if last.is_some() {
            let look = self.builder.outstanding_blocks() <= BRIEF_BLOCKS;
            self.complete(halves, look);
            self.residencies.rounds.over(self.counting.elapsed(), began.elapsed(), last);
        }
    }

    /// Measures all processes, those with the most live bytes first. For the end, before [`Session::detach`].
    pub fn measure_all(&mut self) {
        let began = Instant::now();
        self.builder.read_processes(&mut self.tracer.maps);
        let mut run: Vec<(u32, u32)> = self.builder.running().collect();
        run.sort_by_key(|(record, _)| {
            std::cmp::Reverse(self.builder.record(*record).map_or(0, |record| record.live_bytes))
        });
        let mut halves = HashMap::new();
        for (record, pid) in run {
            if began.elapsed() > AT_END {
                break;
            }
            // The many small ones are to have their turn, too.
            let limits = if began.elapsed() < AT_END / 2 { Limits::WHOLE } else { Limits::BRIEF };
            self.measure_one(record, pid, limits, &mut halves);
        }
        self.complete(halves, true);
    }

    /// What was measured since the last call.
    pub fn take_residency(&mut self) -> Vec<(ProcessId, Residency)> {
        let mut new: Vec<_> = self.residencies.new.drain().collect();
        new.sort_unstable_by_key(|(process, _)| *process);
        new
    }

    fn measure_one(&mut self, record: u32, pid: u32, limits: Limits, halves: &mut HashMap<u32, Half>) {
        let (at, began) = (self.counting.elapsed(), Instant::now());
        let known = match self.allocator_of(record, pid) {
            Ok(Some(known)) => known,
            Ok(None) => return,
            Err(error) => return self.could_not_measure(pid, &error),
        };
        let known = known.clone();
        let looked = patience::look(pid, move || measure(pid, &known, limits));
        let stuck = |source| ProcError::new(pid, procfs::path(pid, "mem"), source);
        match looked.map_err(stuck).flatten() {
            Ok(measured) => _ = halves.insert(record, Half { measured, at, took: began.elapsed() }),
            Err(error) => self.could_not_measure(pid, &error),
        }
    }

    /// What was found out about a process's allocator; `None` where its files could not be read, which the notes on its probes say.
    pub(super) fn allocator_of(&mut self, record: u32, pid: u32) -> Result<Option<&Known>, ProcError> {
        if self.residencies.allocators.get(&record).is_none_or(Known::passes) {
            match self.residencies.recognizer.recognize(&mut self.discoverer, pid) {
                Ok(known) => _ = self.residencies.allocators.insert(record, known),
                Err(DiscoverError::Process(error)) => return Err(error),
                Err(DiscoverError::Object(_)) => return Ok(None),
            }
        }
        Ok(self.residencies.allocators.get(&record))
    }

    fn could_not_measure(&mut self, pid: u32, error: &ProcError) {
        if !error.is_gone() {
            self.note(Note::MemoryNotMeasured { pid, reason: error.to_string() });
        }
    }

    /// Adds what tracing knows, and keeps it.
    fn complete(&mut self, mut halves: HashMap<u32, Half>, look_at_blocks: bool) {
        self.builder.read_processes(&mut self.tracer.maps);
        let looked = look_at_blocks
            && self
                .tracer
                .maps
                .live()
                .for_each(|key, block| {
                    if let Some(half) = halves.get_mut(&key.process) {
                        half.measured.add_block(key.address, block.size);
                    }
                })
                .is_ok();
        let running: Vec<u32> = self.builder.running().map(|(record, _)| record).collect();
        self.residencies.allocators.retain(|record, _| running.binary_search(record).is_ok());
        for (record, half) in halves {
            let Some((process, of)) = self.builder.process_of(record).zip(self.builder.record(record)) else {
                continue;
            };
            // What was read may be of what came after its end: an exec, or another process.
            if running.binary_search(&record).is_err() {
                continue;
            }
            let Half { measured, at, took } = half;
            let traced = Traced {
                live_bytes: of.live_bytes,
                live_count: of.live_count(),
                unknown_frees: of.unknown_frees,
                inherited_count: of.inherited_count,
                filtered_count: of.filtered_count,
                lost_count: of.lost_count,
                blocks: looked.then(|| measured.blocks()),
            };
            let residency = Residency {
                at_ns: at.as_nanos() as u64,
                took_ns: took.as_nanos() as u64,
                mappings: measured.mappings,
                swap_bytes: measured.swap_bytes,
                hugetlb_bytes: measured.hugetlb_bytes,
                heap: measured.heap,
                traced,
            };
            self.residencies.new.insert(process, residency);
        }
    }
}
