//! What a probe hit costs on this machine: functions of our own, probed in our own process by programs that do
//! nothing.

use super::diagnosis::{Attach, Cost};
use crate::bpf::{EmptyProbes, own_code};
use std::{
    arch::naked_asm,
    hint::black_box,
    io,
    path::Path,
    process,
    time::{Duration, Instant},
};

/// Few enough for all rounds to take a quarter of a second where a hit takes 10 us, as in virtual machines.
const CALLS: u32 = 1000;

/// The least of so many rounds is what the call costs; the others were interrupted.
const ROUNDS: u32 = 8;

/// No further round after this.
const AT_MOST: Duration = Duration::from_millis(700);

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

/// Measures with probes as they would be placed, if they can be.
pub fn measure(attach: Option<Attach>) -> Cost {
    let nothing = Cost {
        measured_in: "heaptrace's own process",
        attach,
        calls_per_round: CALLS,
        rounds: 0,
        emulated_ns: None,
        single_stepped_ns: None,
        error: None,
    };
    let Some(attach) = attach else {
        return Cost { error: Some("probes cannot be placed here".to_owned()), ..nothing };
    };
    match rounds(attach != Attach::PerfEvent) {
        Ok((rounds, [emulated, single_stepped])) => {
            Cost { rounds, emulated_ns: Some(emulated), single_stepped_ns: Some(single_stepped), ..nothing }
        }
        Err(error) => Cost { error: Some(error.to_string()), ..nothing },
    }
}

/// How many rounds there were, and by how many nanoseconds a call of each function gets longer.
fn rounds(multi: bool) -> io::Result<(u32, [f64; 2])> {
    let bare = FUNCTIONS.map(|function| (0..ROUNDS).map(|_| time(function)).fold(f64::MAX, f64::min));
    let path = Path::new("/proc/self/exe");
    let offset = |function: &Call| {
        own_code(*function as usize as u64)
            .map(|(_, offset)| offset)
            .ok_or_else(|| io::Error::other("our own code is not in /proc/self/maps"))
    };
    let offsets = FUNCTIONS.iter().map(offset).collect::<io::Result<Vec<u64>>>()?;
    let probes = EmptyProbes::place(multi, path, &offsets, process::id())?;
    if !FUNCTIONS.iter().all(|function| has_breakpoint(*function)) {
        return Err(io::Error::other("the kernel took the probes and placed no breakpoints"));
    }
    let mut least = [f64::MAX; 2];
    let started = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS && (rounds == 0 || started.elapsed() < AT_MOST) {
        for (least, function) in least.iter_mut().zip(FUNCTIONS) {
            *least = least.min(time(function));
        }
        rounds += 1;
    }
    drop(probes);
    Ok((rounds, std::array::from_fn(|index| (least[index] - bare[index]).max(0.0))))
}

/// Nanoseconds a call.
fn time(function: Call) -> f64 {
    let function = black_box(function);
    let started = Instant::now();
    for argument in 0..CALLS {
        function(argument as usize);
    }
    started.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn has_breakpoint(function: Call) -> bool {
    /// `int3`
    const BREAKPOINT: u8 = 0xcc;
    // SAFETY: a function's code is mapped, and readable in every program that a linker makes.
    unsafe { (function as *const u8).read_volatile() == BREAKPOINT }
}
