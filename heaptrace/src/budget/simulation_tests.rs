//! Loads as processes make them, over minutes: what tracing takes of them, and who is traced for how long.

use super::*;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// How often a session looks.
const TICK: u64 = SECOND / 10;
/// What a hit takes.
const HIT_NS: f64 = 800.0;

/// A process that would make so many calls in a second of processor time, each of which takes 800 ns more while it is traced.
struct Process {
    /// Processors that it keeps busy, at a time in seconds.
    busy: fn(f64) -> f64,
    calls_a_second: f64,
    /// When it lives, in ticks.
    from: u64,
    until: u64,
    hits: f64,
    cpu_ns: f64,
    on: bool,
    /// Ticks with probes.
    traced: u64,
    /// What tracing took in each tick.
    spent: Vec<f64>,
}

fn process(busy: fn(f64) -> f64, calls_a_second: f64) -> Process {
    Process {
        busy,
        calls_a_second,
        from: 0,
        until: u64::MAX,
        hits: 0.0,
        cpu_ns: 0.0,
        on: true,
        traced: 0,
        spent: Vec::new(),
    }
}

/// Allocates as fast as it can.
const LOOP: f64 = 100e6;

impl Process {
    fn run(&mut self, tick: u64) {
        let cpu = (self.busy)(tick as f64 / 10.0) * TICK as f64;
        // A call and its trap take a hit's time longer.
        let call_ns = 1e9 / self.calls_a_second;
        let hits = if self.on { cpu / (call_ns + HIT_NS) } else { 0.0 };
        self.hits += hits;
        self.cpu_ns += cpu;
        self.traced += u64::from(self.on);
        self.spent.push(hits * HIT_NS);
    }
}

struct Run {
    schedule: Schedule<usize>,
    processes: Vec<Process>,
    gone_hits: f64,
    most_back_at_once: usize,
}

impl Run {
    fn new(share: f64, processes: Vec<Process>) -> Self {
        let schedule = Schedule::new(Some(share), None);
        Self { schedule, processes, gone_hits: 0.0, most_back_at_once: 0 }
    }

    fn go(&mut self, seconds: u64) {
        for tick in 0..seconds * 10 {
            let lives = |process: &Process| (process.from..process.until).contains(&tick);
            let takes_new = self.schedule.takes_new();
            for process in &mut self.processes {
                if process.from == tick {
                    process.on = takes_new;
                }
                if process.until == tick {
                    self.gone_hits += process.hits;
                }
                if lives(process) {
                    process.run(tick);
                }
            }
            let reading = |(at, process): (usize, &Process)| Reading {
                process: at,
                hits: process.hits as u64,
                cpu_ns: process.cpu_ns as u64,
                bytes: None,
                is_on: process.on,
            };
            let there = self.processes.iter().enumerate().filter(|(_, process)| lives(process));
            let readings: Vec<Reading<usize>> = there.map(reading).collect();
            let hits =
                self.gone_hits + self.processes.iter().filter(|p| lives(p)).map(|p| p.hits).sum::<f64>();
            let changes = self.schedule.look(tick * TICK, HIT_NS, (hits as u64, 0), &readings);
            let back = changes.iter().filter(|change| matches!(change, Change::On(..))).count();
            self.most_back_at_once = self.most_back_at_once.max(back);
            for change in changes {
                match change {
                    Change::Off(at) => self.processes[at].on = false,
                    Change::On(at, _) => self.processes[at].on = true,
                }
            }
        }
    }

    /// The largest share of its time that tracing took of a process in any so many seconds, after its first window.
    fn worst(&self, at: usize, seconds: usize) -> f64 {
        let Process { spent, busy, .. } = &self.processes[at];
        let sums = spent.windows(seconds * 10).map(|window| window.iter().sum::<f64>());
        sums.fold(0.0, f64::max) / (busy(0.0) * (seconds as u64 * SECOND) as f64)
    }

    /// How much of the time it was traced.
    fn coverage(&self, at: usize) -> f64 {
        self.processes[at].traced as f64 / self.processes[at].spent.len() as f64
    }
}

#[test]
fn a_loop_at_full_speed_is_slowed_by_no_more_than_the_budget_in_any_ten_seconds() {
    for share in [0.01, 0.02, 0.05, 0.1, 0.3] {
        for busy in [(|_| 1.0) as fn(f64) -> f64, |_| 8.0, |_| 0.3] {
            let mut run = Run::new(share, vec![process(busy, LOOP)]);
            run.go(300);
            // What is decided ten times a second is late by as much.
            assert!(run.worst(0, 10) < share + 0.012, "{share}: {}", run.worst(0, 10));
            assert!(run.worst(0, 60) < share + 0.004, "{share}: {}", run.worst(0, 60));
            // And the budget is used.
            assert!(run.worst(0, 60) > 0.85 * share, "{share}: {}", run.worst(0, 60));
        }
    }
}

#[test]
fn a_light_process_beside_a_heavy_one_is_traced_all_the_time() {
    // 40,000 calls a second take 3.2 %.
    let mut run =
        Run::new(0.05, vec![process(|_| 1.0, LOOP), process(|_| 1.0, 40e3), process(|_| 0.01, LOOP / 1e4)]);
    run.go(300);
    assert!(run.coverage(0) < 0.07);
    assert_eq!((run.coverage(1), run.coverage(2)), (1.0, 1.0));
}

#[test]
fn heavy_processes_have_equal_turns() {
    let mut run = Run::new(0.05, (0..100).map(|_| process(|_| 0.1, LOOP)).collect());
    run.go(600);
    let coverages: Vec<f64> = (0..100).map(|at| run.coverage(at)).collect();
    let least = coverages.iter().copied().fold(1.0, f64::min);
    let most = coverages.iter().copied().fold(0.0, f64::max);
    assert!(least > 0.7 * most && most < 0.07, "{least} to {most}");
    assert!(run.most_back_at_once <= 4);
}

#[test]
fn who_wakes_up_after_hours_has_no_hours_saved() {
    let mut run = Run::new(0.05, vec![process(|at| if at < 400.0 { 0.0 } else { 1.0 }, LOOP)]);
    run.go(500);
    let spent: f64 = run.processes[0].spent[4000..4100].iter().sum();
    assert!(spent < 0.07 * (10 * SECOND) as f64, "{spent}");
}

#[test]
fn a_storm_of_short_processes_keeps_to_the_budget_together() {
    // A compiler's: each lives 0.8 s, four at a time, and allocates much.
    let mut processes = Vec::new();
    for n in 0..600_u64 {
        let from = n * 2;
        processes.push(Process { from, until: from + 8, on: false, ..process(|_| 0.5, 2e6) });
    }
    let mut run = Run::new(0.05, processes);
    run.go(120);
    let spent: f64 = run.processes.iter().flat_map(|process| &process.spent).sum();
    let cpu: f64 = run.processes.iter().map(|process| process.cpu_ns).sum();
    let traced = run.processes.iter().filter(|process| process.traced > 0).count();
    assert!(spent / cpu < 0.06, "{}", spent / cpu);
    assert!(traced > 25, "{traced}");
}

#[test]
fn only_what_grows_is_traced_and_only_as_long() {
    let growing = Growing { bytes: 10 << 20, within: Duration::from_secs(60) };
    let mut schedule = Schedule::new(None, Some(growing));
    assert!(!schedule.takes_new());
    let mut on = [false; 2];
    let (mut began, mut ended) = (Vec::new(), Vec::new());
    for second in 0..600_u64 {
        // From 100 to 300 s by 1 MiB a second.
        let bytes = [50 << 20, (second.clamp(100, 300) - 100) << 20];
        let readings = [0, 1].map(|at| Reading {
            process: at,
            hits: 0,
            cpu_ns: 0,
            bytes: Some(bytes[at]),
            is_on: on[at],
        });
        for change in schedule.look(second * SECOND, HIT_NS, (0, 0), &readings) {
            match change {
                Change::On(at, grown) => {
                    began.push((at, second, grown));
                    on[at] = true;
                }
                Change::Off(at) => {
                    ended.push((at, second));
                    on[at] = false;
                }
            }
        }
    }
    assert_eq!(began, [(1, 110, Some(Grown { bytes: 10 << 20 }))]);
    assert!(matches!(ended[..], [(1, 405..=415)]), "{ended:?}");
}

#[test]
fn where_probes_cannot_be_placed_it_is_not_tried_all_the_time() {
    let mut schedule = Schedule::new(Some(0.05), None);
    let mut tries = 0;
    for tick in 0..600 {
        let reading = Reading { process: 7, hits: 0, cpu_ns: tick * TICK, bytes: None, is_on: false };
        for _ in schedule.look(tick * TICK, HIT_NS, (0, 0), &[reading]) {
            tries += 1;
            schedule.failed(7);
        }
    }
    assert!((10..=13).contains(&tries), "{tries}");
}

#[test]
fn where_placing_probes_takes_too_much_new_processes_wait() {
    let mut schedule = Schedule::new(Some(0.05), None);
    let (mut placed_ns, mut taken) = (0, 0);
    for tick in 0..600_u64 {
        // A shell that forks a hundred times a second, each of which takes 2 ms to place.
        if schedule.takes_new() {
            taken += 10;
            placed_ns += 20_000_000;
        }
        let reading = Reading { process: 1, hits: 0, cpu_ns: tick * TICK, bytes: None, is_on: true };
        assert!(schedule.look(tick * TICK, HIT_NS, (0, placed_ns), &[reading]).is_empty());
    }
    assert!(placed_ns < 60 * SECOND / 20 && taken > 500, "{placed_ns} {taken}");
}
