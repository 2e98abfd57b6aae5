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
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

/// Some milliseconds where a hit takes less than 1 us, as on most machines.
const EFFORT: Effort = Effort { calls_per_round: 300, rounds: 5, at_most: Duration::from_millis(100) };

/// How long the programs are measured, and how often; longer at first, where few run.
const MEASURED: Duration = Duration::from_millis(100);
const MEASURED_FIRST: Duration = Duration::from_secs(10);
const FEW_RUNS: u64 = 1000;
const MEASURED_EVERY: Duration = Duration::from_secs(5);

/// What was seen before counts half, from so many runs on.
const ENOUGH_RUNS: u64 = 100_000;

/// How long the end waits for a measurement that has not come.
const PATIENCE: Duration = Duration::from_millis(200);

/// A hit's trap where it could not be measured: as on most machines.
const TRAP_NS: f64 = 1000.0;

/// See the module.
pub struct Overhead {
    /// Until the trap is measured.
    measuring: Option<Receiver<io::Result<f64>>>,
    trap_ns: Option<f64>,
    /// While programs are measured: their time before, and since when.
    on: Option<(Statistics, RunTime, Instant)>,
    next: Instant,
    runs: RunTime,
    failure: Option<String>,
}

impl Overhead {
    /// Begins to measure, if there will be probes.
    pub fn measure(tracer: &Tracer, probes: bool) -> Self {
        let measuring = probes.then(|| {
            let (tell, told) = mpsc::channel();
            let multi = tracer.has_multi_links();
            thread::spawn(move || {
                let (cost, probes) = match trap_cost::measure_and_keep(multi, EFFORT) {
                    Ok((cost, probes)) => (Ok(cost.emulated_ns), Some(probes)),
                    Err(error) => (Err(error), None),
                };
                // Nobody waits where the session has ended. What is kept goes last, as that takes long.
                let _ = tell.send(cost);
                drop(probes);
            });
            told
        });
        Self {
            measuring,
            trap_ns: None,
            on: None,
            next: Instant::now(),
            runs: RunTime::default(),
            failure: None,
        }
    }

    /// Ten times a second.
    pub fn look(&mut self, tracer: &Tracer) {
        if let Some(told) = self.measuring.as_ref().and_then(|measuring| measuring.try_recv().ok()) {
            self.take_trap(told);
        }
        match &self.on {
            Some((_, before, since)) => {
                let passed = since.elapsed();
                let is_first = self.runs.count == 0 && passed < MEASURED_FIRST;
                let has_few = || tracer.run_time().is_some_and(|now| now.since(*before).count < FEW_RUNS);
                if passed >= MEASURED && !(is_first && has_few()) {
                    self.take_runs(tracer);
                }
            }
            None if Instant::now() >= self.next && self.failure.is_none() => self.begin(tracer),
            None => {}
        }
    }

    fn begin(&mut self, tracer: &Tracer) {
        match (Statistics::on(), tracer.run_time()) {
            (Ok(on), Some(before)) => self.on = Some((on, before, Instant::now())),
            (Err(error), _) => self.failure = Some(format!("the kernel measures no BPF programs: {error}")),
            (_, None) => self.failure = Some("the kernel does not say how long BPF programs run".to_owned()),
        }
    }

    fn take_runs(&mut self, tracer: &Tracer) {
        let Some((_, before, _)) = self.on.take() else { return };
        self.next = Instant::now() + MEASURED_EVERY;
        let new = tracer.run_time().map_or(RunTime::default(), |now| now.since(before));
        if self.runs.count >= ENOUGH_RUNS {
            self.runs = RunTime { ns: self.runs.ns / 2, count: self.runs.count / 2 };
        }
        self.runs = RunTime { ns: self.runs.ns + new.ns, count: self.runs.count + new.count };
    }

    fn take_trap(&mut self, told: io::Result<f64>) {
        self.measuring = None;
        match told {
            Ok(ns) => self.trap_ns = Some(ns),
            Err(error) => self.failure = Some(format!("a probe of our own: {error}")),
        }
    }

    /// Nothing counts any more.
    pub fn end(&mut self, tracer: &Tracer) {
        self.take_runs(tracer);
        if let Some(measuring) = self.measuring.take()
            && let Ok(told) = measuring.recv_timeout(PATIENCE)
        {
            self.take_trap(told);
        }
    }

    fn program_ns(&self) -> f64 {
        if self.runs.count == 0 { 0.0 } else { self.runs.ns as f64 / self.runs.count as f64 }
    }

    /// What a hit costs, once that is known.
    pub fn price(&self) -> Option<HitPrice> {
        let trap_ns = self.trap_ns? as u64;
        Some(HitPrice { trap_ns, program_ns: self.program_ns() as u64 })
    }

    /// The same in nanoseconds, assumed where it cannot be measured; `None` while it is being measured.
    pub fn hit_ns(&self) -> Option<f64> {
        let trap_ns = self.trap_ns.or_else(|| self.measuring.is_none().then_some(TRAP_NS))?;
        Some(trap_ns + self.program_ns())
    }

    pub fn notes(&self) -> impl Iterator<Item = Note> {
        self.failure.iter().map(|reason| Note::PriceUnknown { reason: reason.clone() })
    }
}
