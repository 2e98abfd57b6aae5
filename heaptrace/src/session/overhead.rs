//! What tracing costs: hits of probes, times what a hit costs here. The trap is measured once, on ourselves, while the targets
//! are looked at; the program as it runs in them, now and then, since that costs, too.

use crate::{
    bpf::{
        RunTime, Statistics, Tracer,
        trap_cost::{self, Effort},
    },
    model::{HitPrice, Note},
};
use std::{
    io,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

/// Some milliseconds where a hit takes less than 1 us, as on most machines.
const EFFORT: Effort = Effort { calls_per_round: 300, rounds: 5, at_most: Duration::from_millis(100) };

/// How long the programs are measured, and how often; longer at first, where few run.
const MEASURED: Duration = Duration::from_millis(100);
const MEASURED_FIRST: Duration = Duration::from_secs(10);
const FEW_HITS: u64 = 1000;
const MEASURED_EVERY: Duration = Duration::from_secs(5);

/// What was seen before counts half, from so many hits on.
const ENOUGH_HITS: u64 = 100_000;

/// How long the end waits for a measurement that has not come.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is assumed where it cannot be measured: as on most machines.
const TRAP_NS: f64 = 1000.0;
const PROGRAM_NS: f64 = 500.0;

/// See the module.
pub struct Overhead {
    trap: Trap,
    /// While programs are measured.
    on: Option<On>,
    next: Instant,
    runs: Runs,
    /// Why programs cannot be measured.
    failure: Option<String>,
}

enum Trap {
    Measuring(Receiver<io::Result<f64>>),
    Takes(f64),
    Unknown(String),
}

struct On {
    _statistics: Statistics,
    /// How long programs had run, and hits of the traced processes' probes.
    before: (RunTime, u64),
    since: Instant,
}

/// Time of programs, and the traced processes' hits in which they took it: programs run for others, too, where probes are for
/// all.
#[derive(Clone, Copy, Default)]
struct Runs {
    ns: u64,
    hits: u64,
}

impl Overhead {
    /// Begins to measure, if there will be probes.
    pub fn measure(tracer: &Tracer, probes: bool) -> Self {
        let trap = if probes { measure_trap(tracer.has_multi_links()) } else { Trap::Unknown(String::new()) };
        Self { trap, on: None, next: Instant::now(), runs: Runs::default(), failure: None }
    }

    /// Whether there is anything to do, where so many hits came in the last second.
    pub fn is_due(&self, hits: u64) -> bool {
        let begins = || Instant::now() >= self.next && (self.runs.hits == 0 || hits > 0);
        matches!(self.trap, Trap::Measuring(_)) || self.on.is_some() || self.failure.is_none() && begins()
    }

    /// What the trap of a hit takes at least, if that was measured by now.
    pub fn trap_ns(&mut self) -> Option<f64> {
        self.hear_of_trap();
        match self.trap {
            Trap::Takes(ns) => Some(ns),
            Trap::Measuring(_) | Trap::Unknown(_) => None,
        }
    }

    fn hear_of_trap(&mut self) {
        if let Trap::Measuring(told) = &self.trap {
            match told.try_recv() {
                Ok(told) => self.trap = Trap::of(told),
                Err(TryRecvError::Disconnected) => self.trap = Trap::Unknown("it ended early".to_owned()),
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// `hits` of the traced processes' probes so far.
    pub fn look(&mut self, tracer: &Tracer, hits: u64) {
        self.hear_of_trap();
        match &self.on {
            Some(On { before, since, .. }) => {
                let passed = since.elapsed();
                let has_few = hits.saturating_sub(before.1) < FEW_HITS;
                let waits = self.runs.hits == 0 && has_few && passed < MEASURED_FIRST;
                if passed >= MEASURED && !waits {
                    self.take_runs(tracer, hits);
                }
            }
            None if Instant::now() >= self.next && self.failure.is_none() => self.begin(tracer, hits),
            None => {}
        }
    }

    fn begin(&mut self, tracer: &Tracer, hits: u64) {
        match (Statistics::on(), tracer.run_time()) {
            (Ok(statistics), Some(before)) => {
                self.on = Some(On { _statistics: statistics, before: (before, hits), since: Instant::now() });
            }
            (Err(error), _) => self.failure = Some(format!("the kernel measures no BPF programs: {error}")),
            (_, None) => self.failure = Some("the kernel does not say how long BPF programs run".to_owned()),
        }
    }

    fn take_runs(&mut self, tracer: &Tracer, hits: u64) {
        let Some(On { before: (before, hits_before), .. }) = self.on.take() else { return };
        self.next = Instant::now() + MEASURED_EVERY;
        let new = tracer.run_time().map_or(0, |now| now.since(before).ns);
        if self.runs.hits >= ENOUGH_HITS {
            self.runs = Runs { ns: self.runs.ns / 2, hits: self.runs.hits / 2 };
        }
        self.runs = Runs { ns: self.runs.ns + new, hits: self.runs.hits + hits.saturating_sub(hits_before) };
    }

    /// Nothing counts any more.
    pub fn end(&mut self, tracer: &Tracer, hits: u64) {
        self.take_runs(tracer, hits);
        if let Trap::Measuring(told) = &self.trap {
            let told = told.recv_timeout(PATIENCE);
            self.trap = told.map_or_else(|_| Trap::Unknown("there was no time".to_owned()), Trap::of);
        }
    }

    /// What a hit of the program costs, if that was measured; nothing where there was none.
    fn program_ns(&self) -> Option<f64> {
        let ns = || if self.runs.hits == 0 { 0.0 } else { self.runs.ns as f64 / self.runs.hits as f64 };
        self.failure.is_none().then(ns)
    }

    /// What a hit costs, if that is known.
    pub fn price(&self) -> Option<HitPrice> {
        let Trap::Takes(trap_ns) = self.trap else { return None };
        Some(HitPrice { trap_ns: trap_ns as u64, program_ns: self.program_ns()? as u64 })
    }

    /// The same in nanoseconds, assumed where it cannot be measured; `None` while it is being measured.
    pub fn hit_ns(&self) -> Option<f64> {
        let trap_ns = match &self.trap {
            Trap::Measuring(_) => return None,
            Trap::Takes(ns) => *ns,
            Trap::Unknown(_) => TRAP_NS,
        };
        Some(trap_ns + self.program_ns().unwrap_or(PROGRAM_NS))
    }

    /// Why it is not known.
    pub fn notes(&self) -> impl Iterator<Item = Note> {
        let trap = match &self.trap {
            Trap::Unknown(reason) if !reason.is_empty() => {
                Some(format!("a trap could not be measured: {reason}"))
            }
            _ => None,
        };
        trap.into_iter().chain(self.failure.clone()).map(|reason| Note::PriceUnknown { reason })
    }
}

impl Trap {
    fn of(told: io::Result<f64>) -> Self {
        told.map_or_else(|error| Self::Unknown(error.to_string()), Self::Takes)
    }
}

fn measure_trap(multi: bool) -> Trap {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (cost, probes) = match trap_cost::measure_and_keep(multi, EFFORT) {
            Ok((cost, probes)) => (Ok(cost.emulated_ns), Some(probes)),
            Err(error) => (Err(error), None),
        };
        // Nobody waits where the session has ended. What is kept goes last, as that takes long.
        let _ = tell.send(cost);
        drop(probes);
    });
    Trap::Measuring(told)
}
