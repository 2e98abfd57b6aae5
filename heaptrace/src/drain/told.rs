//! What chunks have said so far of processes and growth, so that the next says what changed. Sites have a mark of their own.

use crate::model::{GrowthId, Process, ProcessId, Site};

/// As who folded all chunks has it.
#[derive(Default)]
pub(super) struct Told {
    processes: Vec<Process>,
    growth: Vec<Site>,
    /// When, by the clock of processes' lives.
    at_ns: u64,
}

impl Told {
    /// Lets time pass until `now_ns`: nothing is to be said of processes that only lived on. Gives the time.
    pub fn pass(&mut self, now_ns: u64) -> u64 {
        let passed_ns = now_ns.saturating_sub(self.at_ns);
        self.at_ns = now_ns;
        self.processes.iter_mut().for_each(|process| process.live_on(passed_ns));
        passed_ns
    }

    /// The processes that are not as was said.
    pub fn processes(&mut self, now: &[Process]) -> Vec<(ProcessId, Process)> {
        changed(&mut self.processes, now, ProcessId)
    }

    /// The places of growth that are not as was said.
    pub fn growth(&mut self, now: &[Site]) -> Vec<(GrowthId, Site)> {
        changed(&mut self.growth, now, GrowthId)
    }
}

fn changed<Id, T: Clone + PartialEq>(told: &mut Vec<T>, now: &[T], id: fn(u32) -> Id) -> Vec<(Id, T)> {
    let mut changed = Vec::new();
    for (index, now) in now.iter().enumerate() {
        match told.get_mut(index) {
            Some(told) if told == now => continue,
            Some(told) => told.clone_from(now),
            None => told.push(now.clone()),
        }
        changed.push((id(index as u32), now.clone()));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::super::{ProfileBuilder, processes::Counted};
    use crate::{
        fixtures::profiles::start,
        model::{Chunk, Coverage, Profile},
    };
    use heaptrace_common::record::{NO_PROCESS, ProcessRecord, process_state};

    const PROCESSES: u32 = 10_000;

    /// Every third has ended, every fifth of the others is not probed yet.
    fn builder() -> ProfileBuilder {
        let mut builder = ProfileBuilder::default();
        for tgid in 0..PROCESSES {
            let ended = tgid % 3 == 0;
            builder.table.push(ProcessRecord {
                tgid,
                parent: NO_PROCESS,
                state: if ended { process_state::EXITED } else { process_state::RUNNING },
                started_ns: u64::from(tgid),
                armed_ns: if tgid % 5 == 0 { 0 } else { u64::from(tgid) + 7 },
                ended_ns: if ended { 50_000 } else { 0 },
                ..ProcessRecord::default()
            });
        }
        builder
    }

    fn chunk(builder: &mut ProfileBuilder, at_ns: u64) -> Chunk {
        let counted = Counted { from_ns: 0, until_ns: at_ns, probes: true };
        builder.chunk(at_ns, counted, Coverage::default())
    }

    #[test]
    fn chunks_hold_what_changed_and_running_processes_live_on_without() {
        let mut builder = builder();
        let mut profile = Profile::new(start());
        let first = chunk(&mut builder, 100_000);
        assert_eq!(first.processes.len(), PROCESSES as usize);
        profile.fold(first).expect("the first");

        let still = chunk(&mut builder, 300_000);
        let expected = Chunk { duration_ns: 300_000, passed_ns: 200_000, ..Chunk::default() };
        assert!(still == expected, "{} processes are said to have changed", still.processes.len());
        profile.fold(still).expect("nothing new");
        assert!(profile.processes == builder.processes());
        assert_eq!(profile.processes[1].life_ns, 300_000 - 1);
        assert_eq!(profile.processes[1].attached_ns, 300_000 - 1 - 7);
        assert_eq!(profile.processes[3].life_ns, 50_000 - 3);
        assert_eq!(
            (profile.processes[5].attached_ns, profile.processes[5].attach_gap_ns),
            (0, Some(300_000 - 5))
        );

        // One's probes are there, and one ends.
        builder.table.records[5].armed_ns = 350_000;
        builder.table.records[7].state = process_state::EXITED;
        builder.table.records[7].ended_ns = 360_000;
        let two = chunk(&mut builder, 400_000);
        assert_eq!(two.processes.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [5, 7]);
        profile.fold(two).expect("two");
        assert!(profile.processes == builder.processes());
        profile.fold(chunk(&mut builder, 400_001)).expect("nothing");
        assert!(profile.processes == builder.processes());
    }
}
