//! What chunks have said so far of processes, so that the next says what changed. Sites have a mark of their own.

use crate::model::{Process, ProcessId};
use std::collections::HashMap;

/// As who folded all chunks has it.
#[derive(Default)]
pub(super) struct Told {
    processes: HashMap<ProcessId, Process>,
    /// When, by the clock of processes' lives.
    at_ns: u64,
}

impl Told {
    /// Lets time pass until `now_ns`: nothing is to be said of processes that only lived on. Gives the time.
    pub fn pass(&mut self, now_ns: u64) -> u64 {
        let passed_ns = now_ns.saturating_sub(self.at_ns);
        self.at_ns = now_ns;
        self.processes.values_mut().for_each(|process| process.live_on(passed_ns));
        passed_ns
    }

    /// Those of `now`, in order, that are not as was said.
    pub fn processes<'p>(
        &mut self,
        now: impl Iterator<Item = (ProcessId, &'p Process)>,
    ) -> Vec<(ProcessId, Process)> {
        let mut changed = Vec::new();
        for (id, now) in now {
            if self.processes.get(&id) != Some(now) {
                self.processes.insert(id, now.clone());
                changed.push((id, now.clone()));
            }
        }
        changed
    }

    /// Nothing more will be said of a process.
    pub fn forget(&mut self, process: ProcessId) {
        self.processes.remove(&process);
    }
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
            let record = ProcessRecord {
                tgid,
                parent: NO_PROCESS,
                state: if ended { process_state::EXITED } else { process_state::RUNNING },
                started_ns: u64::from(tgid),
                armed_ns: if tgid % 5 == 0 { 0 } else { u64::from(tgid) + 7 },
                ended_ns: if ended { 50_000 } else { 0 },
                ..ProcessRecord::default()
            };
            builder.table.push(tgid, record);
        }
        builder
    }

    fn chunk(builder: &mut ProfileBuilder, at_ns: u64) -> Chunk {
        let counted = Counted { from_ns: 0, until_ns: at_ns, probes: true };
        builder.chunk(at_ns, counted, Coverage::default())
    }

    fn is_as_told(profile: &Profile, builder: &ProfileBuilder) -> bool {
        profile.processes.iter().eq(builder.table.processes.values())
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
        assert!(is_as_told(&profile, &builder));
        assert_eq!(profile.processes[1].life_ns, 300_000 - 1);
        assert_eq!(profile.processes[1].attached_ns, 300_000 - 1 - 7);
        assert_eq!(profile.processes[3].life_ns, 50_000 - 3);
        assert_eq!(
            (profile.processes[5].attached_ns, profile.processes[5].attach_gap_ns),
            (0, Some(300_000 - 5))
        );

        // One's probes are there, and one ends.
        let changed = |builder: &ProfileBuilder, of| *builder.record(of).expect("is there");
        let armed = ProcessRecord { armed_ns: 350_000, ..changed(&builder, 5) };
        builder.table.read_again(5, armed);
        let ended = ProcessRecord { state: process_state::EXITED, ended_ns: 360_000, ..changed(&builder, 7) };
        builder.table.read_again(7, ended);
        let two = chunk(&mut builder, 400_000);
        assert_eq!(two.processes.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [5, 7]);
        profile.fold(two).expect("two");
        assert!(is_as_told(&profile, &builder));
        profile.fold(chunk(&mut builder, 400_001)).expect("nothing");
        assert!(is_as_told(&profile, &builder));
    }
}
