//! Simulated services: blocks with an allocation time and a lifetime, looked at after a while. What the thresholds of the rule were
//! tried on, and how often it errs.

use super::{Verdict, judge};
use crate::model::{COHORTS, Cohort, Cohorts};

/// Numbers that are alike each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }
}

/// A block: from when until when it lives, in seconds, and its size.
#[derive(Clone, Copy)]
struct Block {
    from: f64,
    until: f64,
    bytes: u64,
}

const FOREVER: f64 = f64::MAX;

/// What is seen of `blocks` after `seconds`.
fn seen(blocks: &[Block], seconds: f64) -> Cohorts {
    let part = |time: f64| ((time / seconds * COHORTS as f64) as usize).min(COHORTS - 1);
    let mut parts = vec![Cohort::default(); COHORTS];
    let mut held = vec![0_i64; COHORTS];
    for Block { from, until, bytes } in blocks.iter().filter(|block| block.from < seconds) {
        parts[part(*from)].allocated += 1;
        held[part(*from)] += bytes.cast_signed();
        if *until <= seconds {
            parts[part(*until)].freed += 1;
            held[part(*until)] -= bytes.cast_signed();
        } else {
            parts[part(*from)].live += 1;
            parts[part(*from)].live_bytes += bytes;
        }
    }
    let mut sum = 0;
    for (part, held) in parts.iter_mut().zip(held) {
        sum += held;
        part.held_bytes = sum.unsigned_abs();
    }
    Cohorts { span_ns: (seconds * 1e9) as u64, parts }
}

/// Blocks that come by chance, so many a second, each for as long as `lives` says.
fn arrivals(random: &mut Random, rate: f64, mut lives: impl FnMut(&mut Random, f64) -> f64) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut at = random.exponential(1.0 / rate);
    while at < 130.0 {
        let until = at + lives(random, at);
        let bytes = 64 + (random.next() * 1_000.0) as u64;
        blocks.push(Block { from: at, until, bytes });
        at += random.exponential(1.0 / rate);
    }
    blocks
}

/// A cache of so many entries, of which by chance or in turn one goes for each that comes.
fn cache_by_count(random: &mut Random, rate: f64, entries: usize, in_turn: bool) -> Vec<Block> {
    let mut blocks = arrivals(random, rate, |_, _| FOREVER);
    let mut inside: Vec<usize> = Vec::new();
    for index in 0..blocks.len() {
        if inside.len() == entries {
            let place = if in_turn { 0 } else { (random.next() * entries as f64) as usize };
            let out = inside.remove(place);
            blocks[out].until = blocks[index].from;
        }
        inside.push(index);
    }
    blocks
}

/// What fills by chance: of `entries` keys one is asked for at a time, and is missing the less often the more are there.
fn warm_up(random: &mut Random, entries: f64, time_constant: f64) -> Vec<Block> {
    let all = arrivals(random, entries / time_constant, |_, _| FOREVER);
    all.into_iter().filter(|block| random.next() < (-block.from / time_constant).exp()).collect()
}

/// A buffer that is made larger by `step` each `every` seconds, or twice as large when it is full.
fn buffer(every: f64, step: u64, doubles: bool) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut capacity, mut length, mut at) = (0, 0, 0.1);
    while at < 130.0 {
        length += step;
        if length > capacity {
            capacity = if doubles { (capacity * 2).max(step) } else { length };
            if let Some(last) = blocks.last_mut() {
                last.until = at;
            }
            blocks.push(Block { from: at, until: FOREVER, bytes: capacity });
        }
        at += every;
    }
    blocks
}

type Service = (&'static str, fn(&mut Random) -> Vec<Block>);

const LEAKS: [Service; 9] = [
    ("every fourth session", |random| {
        arrivals(
            random,
            40.0,
            |random, _| if random.next() < 0.25 { FOREVER } else { random.exponential(0.3) },
        )
    }),
    ("1% of many", |random| {
        arrivals(
            random,
            1_000.0,
            |random, _| if random.next() < 0.01 { FOREVER } else { random.exponential(0.05) },
        )
    }),
    ("1% of few", |random| {
        arrivals(
            random,
            60.0,
            |random, _| if random.next() < 0.01 { FOREVER } else { random.exponential(0.05) },
        )
    }),
    ("5% beside a cache by time", |random| {
        arrivals(random, 100.0, |random, _| if random.next() < 0.05 { FOREVER } else { 8.0 })
    }),
    ("all of many small", |random| arrivals(random, 500.0, |_, _| FOREVER)),
    ("all of few large", |random| arrivals(random, 0.5, |_, _| FOREVER)),
    ("in one of 8 threads", |random| {
        arrivals(
            random,
            80.0,
            |random, _| if random.next() < 0.125 { FOREVER } else { random.exponential(0.1) },
        )
    }),
    ("a buffer, step by step", |_| buffer(0.5, 4_096, false)),
    ("half of large requests", |random| {
        arrivals(random, 1.0, |random, _| if random.next() < 0.5 { FOREVER } else { 2.0 })
    }),
];

const OTHERS: [Service; 14] = [
    ("a cache by time, 5 s", |random| arrivals(random, 100.0, |_, _| 5.0)),
    ("a cache by time, 20 s", |random| arrivals(random, 100.0, |_, _| 20.0)),
    ("a cache by time, 30 s", |random| arrivals(random, 20.0, |_, _| 30.0)),
    ("a cache by count, in turn", |random| cache_by_count(random, 200.0, 4_000, true)),
    ("a cache by count, by chance", |random| cache_by_count(random, 200.0, 2_000, false)),
    ("a small cache by chance", |random| cache_by_count(random, 10.0, 100, false)),
    ("a pool beside requests", |random| arrivals(random, 60.0, |_, at| if at < 6.0 { FOREVER } else { 0.0 })),
    ("a pool that stopped", |random| {
        arrivals(random, 60.0, |_, _| FOREVER).into_iter().filter(|block| block.from < 12.0).collect()
    }),
    ("warm-up of 5 s", |random| warm_up(random, 3_000.0, 1.7)),
    ("warm-up of 60 s", |random| warm_up(random, 3_000.0, 20.0)),
    ("warm-up of 120 s", |random| warm_up(random, 3_000.0, 40.0)),
    ("batches", |random| {
        arrivals(random, 300.0, |_, at| (at / 10.0).floor() * 10.0 + 9.0 - at)
            .into_iter()
            .filter(|block| block.until > block.from)
            .collect()
    }),
    ("requests", |random| arrivals(random, 1_000.0, |random, _| random.exponential(0.02))),
    ("long requests", |random| arrivals(random, 5.0, |random, _| random.exponential(4.0))),
];

/// How often services are looked at after a while, and are said to be what.
fn said(services: &[Service], seconds: f64, times: u64) -> Vec<(&'static str, Vec<(Verdict, u64)>)> {
    let verdicts =
        [Verdict::LeakLike, Verdict::WarmingUp, Verdict::CacheLike, Verdict::PoolLike, Verdict::Steady];
    services
        .iter()
        .map(|(name, make)| {
            let mut found = verdicts.map(|verdict| (verdict, 0));
            for seed in 1..=times {
                let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                (0..10).for_each(|_| _ = random.next());
                let blocks = make(&mut random);
                if let Some(judged) = judge(&seen(&blocks, seconds), true) {
                    found
                        .iter_mut()
                        .filter(|(of, _)| *of == judged.verdict)
                        .for_each(|(_, count)| *count += 1);
                }
            }
            (*name, found.into_iter().filter(|(_, count)| *count > 0).collect())
        })
        .collect()
}

/// For the tables of `docs/verdicts.md`: `cargo test -p heaptrace --lib verdicts::simulated -- --ignored --nocapture`.
#[test]
#[ignore = "prints how often the rule errs"]
fn error_rates() {
    for seconds in [15.0, 30.0, 45.0, 58.0, 120.0] {
        println!("after {seconds} s");
        for (name, found) in said(&LEAKS, seconds, 200).into_iter().chain(said(&OTHERS, seconds, 200)) {
            println!("    {name:30} {found:?}");
        }
    }
}

fn leaks(found: &[(Verdict, u64)]) -> u64 {
    found.iter().filter(|(verdict, _)| *verdict == Verdict::LeakLike).map(|(_, count)| count).sum()
}

#[test]
fn leaks_are_found_within_a_minute() {
    for (name, found) in said(&LEAKS, 58.0, 40) {
        assert!(leaks(&found) >= 38, "{name}: {found:?}");
    }
}

#[test]
fn what_is_no_leak_is_none_at_any_time() {
    for seconds in [12.0, 22.0, 41.0, 58.0, 100.0] {
        for (name, found) in said(&OTHERS, seconds, 40) {
            assert!(leaks(&found) == 0, "{name} after {seconds} s: {found:?}");
        }
    }
}

#[test]
fn where_frees_are_not_traced_old_blocks_tell() {
    let judged = |service: &Service| {
        let mut cohorts = seen(&service.1(&mut Random(7)), 58.0);
        cohorts.parts.iter_mut().for_each(|part| part.freed = 0);
        judge(&cohorts, false).map(|judged| judged.verdict)
    };
    assert_eq!(judged(&LEAKS[0]), Some(Verdict::LeakLike));
    assert_eq!(judged(&OTHERS[1]), Some(Verdict::CacheLike));
    assert_eq!(judged(&OTHERS[7]), Some(Verdict::PoolLike));
}
