//! What each mode costs here: measured on a child of ours, which allocates and frees when it is told to.

use super::trace_args::SAMPLE_BYTES;
use crate::{
    bpf::{Calls, MapSizes, StackMode},
    doctor::ModePrice,
    model::{Mode, Sampling},
    session::{Limits, Session, SessionOptions},
};
use anyhow::Context as _;
use std::{
    hint::black_box,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    thread,
    time::{Duration, Instant},
};

/// Pairs of a round; and of one that is not traced, where each takes nanoseconds.
const PAIRS: u32 = 20_000;
const PAIRS_ALONE: u32 = 1_000_000;

/// The median of so many rounds.
const ROUNDS: usize = 5;

/// Pairs after which functions are no more verified, which costs a trap more, and within what that ends then.
const VERIFIED: u32 = 25_000;
const LET_GO: Duration = Duration::from_millis(500);

/// Measures all modes, the cheapest first, each with a line on standard error if that is a terminal.
///
/// # Errors
/// If a mode cannot trace the child.
pub fn measure(tell: impl Fn(&str)) -> anyhow::Result<Vec<ModePrice>> {
    let sampled = |frees| Mode::Sampled(Sampling { mean: SAMPLE_BYTES, frees });
    let modes = [Mode::Growth, Mode::Faults, sampled(false), sampled(true), Mode::Allocs, Mode::Exact];
    let mut child = Allocating::start().context("failed to start a child to measure")?;
    let alone_ns = child.median(PAIRS_ALONE)?;
    modes
        .into_iter()
        .map(|mode| {
            tell(mode.name());
            let options = SessionOptions {
                all: false,
                follow: false,
                exact_children: false,
                stacks: StackMode::Auto,
                sizes: MapSizes {
                    live: 1 << 16,
                    sites: 1 << 14,
                    estimates: mode.sample_bytes() != 0,
                    ..MapSizes::default()
                },
                growth: true,
                faults: false,
                calls: Calls::Summed,
                mode,
                members: None,
                size_filter: None,
                keep_old: None,
                limits: Limits::default(),
                own_samples: false,
                served: false,
                log: false,
            };
            let (mut session, _events) = Session::new(&options)?;
            session.add_pid(child.pid)?;
            let pairs = if mode.has_blocks() { PAIRS } else { PAIRS_ALONE };
            if mode.has_blocks() {
                child.pairs(VERIFIED)?;
                session.drain();
                thread::sleep(LET_GO);
                session.look_often();
            }
            let traced_ns = child.median(pairs);
            session.detach();
            let pair_ns = traced_ns?;
            let frees = matches!(mode, Mode::Sampled(Sampling { frees: true, .. }));
            Ok(ModePrice { mode: mode.name(), frees, alone_ns, pair_ns })
        })
        .collect()
}

/// A process that does nothing but what it is told. Dropped, it ends.
struct Allocating {
    pid: u32,
    to: Option<PipeWriter>,
    from: PipeReader,
}

impl Allocating {
    fn start() -> io::Result<Self> {
        let (orders, to) = io::pipe()?;
        let (from, answers) = io::pipe()?;
        // SAFETY: no other thread of ours holds a lock now; the child ends in `work`.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop((to, from));
                // SAFETY: no pointers. It is not to stay if we are killed.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                work(orders, answers);
                // SAFETY: nothing of ours is to be run.
                unsafe { libc::_exit(0) }
            }
            pid => Ok(Self { pid: pid.cast_unsigned(), to: Some(to), from }),
        }
    }

    /// Nanoseconds of a malloc and free, over `pairs` of them.
    fn pairs(&mut self, pairs: u32) -> io::Result<f64> {
        let to = self.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        to.write_all(&pairs.to_ne_bytes())?;
        let mut answer = [0; 8];
        self.from.read_exact(&mut answer)?;
        Ok(u64::from_ne_bytes(answer) as f64 / f64::from(pairs))
    }

    fn median(&mut self, pairs: u32) -> io::Result<f64> {
        let mut rounds = (0..ROUNDS).map(|_| self.pairs(pairs)).collect::<io::Result<Vec<f64>>>()?;
        rounds.sort_by(f64::total_cmp);
        Ok(rounds[ROUNDS / 2])
    }
}

impl Drop for Allocating {
    fn drop(&mut self) {
        self.to = None;
        // SAFETY: no pointers but null.
        unsafe { libc::waitpid(self.pid.cast_signed(), std::ptr::null_mut(), 0) };
    }
}

/// Until nobody tells it anything any more.
fn work(mut orders: PipeReader, mut answers: PipeWriter) {
    let mut order = [0; 4];
    while orders.read_exact(&mut order).is_ok() {
        let started = Instant::now();
        for n in 0..u32::from_ne_bytes(order) {
            // SAFETY: freed once, and only if there is any.
            unsafe { libc::free(black_box(libc::malloc(64 + n as usize % 256))) };
        }
        let took = started.elapsed().as_nanos() as u64;
        if answers.write_all(&took.to_ne_bytes()).is_err() {
            return;
        }
    }
}
