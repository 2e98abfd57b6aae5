//! What the trap of a probe's hit costs here: functions of our own, probed in our own process by programs that do nothing.

use super::{empty::EmptyProbes, site::PlacedSite, thread_filter::own_code};
use std::{
    arch::naked_asm,
    hint::black_box,
    io,
    path::Path,
    process,
    time::{Duration, Instant},
};

type Call = extern "C" fn(usize);

/// Begins with an instruction that the kernel emulates, as most functions of allocators do.
#[unsafe(naked)]
extern "C" fn emulated(_: usize) {
    naked_asm!("push rbx", "pop rbx", "ret")
}

/// Begins with one that it single-steps, as glibc's `free`.
#[unsafe(naked)]
extern "C" fn single_stepped(_: usize) {
    naked_asm!("test rdi, rdi", "ret")
}

const FUNCTIONS: [Call; 2] = [emulated, single_stepped];

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub calls_per_round: u32,
    /// The least of so many rounds is what the call costs; the others were interrupted.
    pub rounds: u32,
    /// No further round after this.
    pub at_most: Duration,
}

/// By how many nanoseconds a call gets longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrapCost {
    pub rounds: u32,
    pub emulated_ns: f64,
    pub single_stepped_ns: f64,
}

/// Measures with probes as they would be placed: by multi links, or by perf events.
///
/// # Errors
/// If they cannot be placed.
pub fn measure(multi: bool, effort: Effort) -> io::Result<TrapCost> {
    measure_and_keep(multi, effort).map(|(cost, _)| cost)
}

/// The same; the probes stay until what it gives beside is dropped, which takes longer than all else.
///
/// # Errors
/// The same.
pub fn measure_and_keep(multi: bool, effort: Effort) -> io::Result<(TrapCost, EmptyProbes)> {
    let Effort { calls_per_round: calls, rounds: most, at_most } = effort;
    let bare = FUNCTIONS.map(|function| (0..most).map(|_| time(function, calls)).fold(f64::MAX, f64::min));
    let path = Path::new("/proc/self/exe");
    let site = |function: &Call| {
        own_code(*function as usize as u64)
            .map(|(_, offset)| PlacedSite { offset, ..PlacedSite::default() })
            .ok_or_else(|| io::Error::other("our own code is not in /proc/self/maps"))
    };
    let sites = FUNCTIONS.iter().map(site).collect::<io::Result<Vec<PlacedSite>>>()?;
    let probes = EmptyProbes::place(multi, path, &sites, process::id())?;
    if !FUNCTIONS.iter().all(|function| has_breakpoint(*function)) {
        return Err(io::Error::other("the kernel took the probes and placed no breakpoints"));
    }
    let mut least = [f64::MAX; 2];
    let started = Instant::now();
    let mut rounds = 0;
    while rounds < most && (rounds == 0 || started.elapsed() < at_most) {
        for (least, function) in least.iter_mut().zip(FUNCTIONS) {
            *least = least.min(time(function, calls));
        }
        rounds += 1;
    }
    let [emulated_ns, single_stepped_ns] = std::array::from_fn(|index| (least[index] - bare[index]).max(0.0));
    Ok((TrapCost { rounds, emulated_ns, single_stepped_ns }, probes))
}

/// Nanoseconds a call.
fn time(function: Call, calls: u32) -> f64 {
    let function = black_box(function);
    let started = Instant::now();
    for argument in 0..calls {
        function(argument as usize);
    }
    started.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn has_breakpoint(function: Call) -> bool {
    /// `int3`
    const BREAKPOINT: u8 = 0xcc;
    // SAFETY: a function's code is mapped, and readable in every program that a linker makes.
    unsafe { (function as *const u8).read_volatile() == BREAKPOINT }
}
