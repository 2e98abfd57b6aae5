//! Programs to measure, over an allocator that tells of its samples: each line of input is a number of seconds and what
//! to do for so long, `pairs` (allocate 64 bytes and free them) or `words` (count the words of a text); the answer is
//! how many of them were done in a second of processor time, as others may want the processor too.

use libdd_profiling_heap_allocator::SampledAllocator;
use std::{
    alloc::System,
    collections::BTreeMap,
    hint::black_box,
    ffi::{c_int, c_long},
    io::{self, BufRead as _, Write as _},
};

#[global_allocator]
static ALLOCATOR: SampledAllocator<System> = SampledAllocator::<System>::DEFAULT;

#[repr(C)]
struct Time {
    seconds: c_long,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Time) -> c_int;
}

/// Of the processor, taken by this process so far.
fn seconds() -> f64 {
    const PROCESS_CPUTIME: c_int = 2;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: as time.h has it.
    unsafe { clock_gettime(PROCESS_CPUTIME, &raw mut time) };
    time.seconds as f64 + time.nanoseconds as f64 / 1e9
}

/// Between two looks at the clock.
const PAIRS: u64 = 100_000;
const LINES: u64 = 1_000;

fn pairs() -> u64 {
    for _ in 0..PAIRS {
        drop(black_box(Box::new([0_u8; 64])));
    }
    PAIRS
}

/// A text of 1,000 lines of ten words each, as it is read; each word is a string of its own, counted and put in order.
fn words() -> u64 {
    let mut state = 1_u64;
    let mut counts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut done = 0;
    for line in 0..LINES {
        let mut text = String::new();
        for _ in 0..10 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += &format!("word{:04} ", state >> 53);
        }
        for word in text.split_whitespace() {
            counts.entry(word.to_uppercase()).or_default().push(line as usize);
            done += 1;
        }
    }
    black_box(counts);
    done
}

fn main() {
    for line in io::stdin().lock().lines() {
        let line = line.expect("a line");
        let (enough, what) = line.split_once(' ').expect("seconds, and what to do");
        let enough: f64 = enough.parse().expect("a number of seconds");
        let work = if what == "pairs" { pairs } else { words };
        let began = seconds();
        let mut done = 0;
        while seconds() - began < enough {
            done += work();
        }
        println!("{}", done as f64 / (seconds() - began));
        io::stdout().flush().expect("standard output");
    }
}
