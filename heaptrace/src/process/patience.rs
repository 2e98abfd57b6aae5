//! Looks at a process's memory, which may never come back. What is mapped may be a file of a file system that the process's
//! user runs and that does not answer (FUSE), or wait for that user otherwise (userfaultfd(2)): who reads it waits with it, and
//! who asks for mappings waits for the lock that is held meanwhile. No signal but one that kills ends that.
//!
//! So other threads take such looks. Where nothing comes back they are left behind.

use super::{privileges::is_trusted, status, system};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{self, Read},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

/// How long nothing may come, so often in a row, while the thread that looks waits for something. A slow disk takes some tenths
/// of that. Once would not do: a machine that stood still itself is no reason.
const PATIENCE: Duration = Duration::from_millis(500);
const TIMES: u32 = 3;

/// And so often in all, whatever comes between: who answers one page at a time, and slowly, could keep us for a day.
const TIMES_IN_ALL: u32 = 20;

/// With so many of a user's processes that nothing came from, no other one of theirs is looked at: each took that time, and
/// has a thread.
const MOST_STUCK: usize = 3;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that wait for work.
static IDLE: LazyLock<Mutex<Vec<Sender<Job>>>> = LazyLock::new(Mutex::default);

/// Processes that nothing came from, by user.
static STUCK: LazyLock<Mutex<HashMap<u32, HashSet<u32>>>> = LazyLock::new(Mutex::default);

/// Of a thread that takes a look.
#[derive(Default)]
struct Pulse {
    /// Counts what has come.
    beats: AtomicU64,
    /// Its number; 0 until it begins.
    thread: AtomicI32,
}

impl Pulse {
    /// Whether the thread waits for something, or else for a processor.
    fn waits(&self) -> bool {
        let thread = self.thread.load(Ordering::Relaxed);
        let stat = system::read(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
        // proc_pid_stat(5): the state comes behind the name, which may hold anything.
        let state = stat.iter().rposition(|byte| *byte == b')').and_then(|at| stat.get(at + 2));
        thread != 0 && state.is_some_and(|state| *state != b'R')
    }
}

thread_local! {
    static PULSE: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `look` gives, which looks at process `pid`. Whatever it waits for is to be followed by a [`beat`], or read through
/// [`Beating`]. Within a look, another is a part of it.
///
/// # Errors
/// `TimedOut` if nothing came for some time, and from then on.
pub fn look<T: Send + 'static>(pid: u32, look: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    if is_looking() {
        let found = look();
        beat();
        return Ok(found);
    }
    if is_stuck(pid) {
        return Err(stuck());
    }
    let (send, found) = channel();
    let pulse = Arc::new(Pulse::default());
    let theirs = Arc::clone(&pulse);
    let job = Box::new(move || {
        theirs.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        PULSE.set(Some(theirs));
        let found = look();
        PULSE.set(None);
        if send.send(found).is_err() {
            // Nobody waited any more, and it has come back all the same.
            forget(pid);
        }
    });
    let idle = lock(&IDLE).pop();
    let worker = match idle {
        Some(worker) => worker,
        None => start()?,
    };
    if worker.send(job).is_err() {
        return Err(io::Error::other("the thread that was to look is gone"));
    }
    let (mut beats, mut silent, mut waited) = (0, 0, 0);
    loop {
        match found.recv_timeout(PATIENCE) {
            Ok(found) => {
                lock(&IDLE).push(worker);
                return Ok(found);
            }
            // It panicked.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread that looked is gone"));
            }
            Err(RecvTimeoutError::Timeout) => {
                let now = pulse.beats.load(Ordering::Relaxed);
                let waits = pulse.waits();
                silent = if now == beats && waits { silent + 1 } else { 0 };
                waited += u32::from(waits);
                if silent == TIMES || waited == TIMES_IN_ALL {
                    remember(pid);
                    return Err(stuck());
                }
                beats = now;
            }
        }
    }
}

/// Whether this thread takes a look.
pub fn is_looking() -> bool {
    PULSE.with_borrow(Option::is_some)
}

/// Something has come.
pub fn beat() {
    PULSE.with_borrow(|pulse| {
        if let Some(pulse) = pulse {
            pulse.beats.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Each read from it is a [`beat`].
pub struct Beating<R>(pub R);

impl<R: Read> Read for Beating<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into);
        beat();
        read
    }
}

fn start() -> io::Result<Sender<Job>> {
    let (send, jobs) = channel::<Job>();
    thread::Builder::new().name("heaptrace-look".to_owned()).spawn(move || {
        while let Ok(job) = jobs.recv() {
            job();
        }
    })?;
    Ok(send)
}

fn stuck() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "it keeps readers of its memory, or of another's of its user, waiting",
    )
}

/// Whose process it is. What says that takes no lock of its memory's.
fn user_of(pid: u32) -> Option<u32> {
    let status = system::read(format!("/proc/{pid}/status")).ok()?;
    Some(status::parse(&status).effective_uid)
}

fn remember(pid: u32) {
    if let Some(user) = user_of(pid) {
        lock(&STUCK).entry(user).or_default().insert(pid);
    }
}

fn forget(pid: u32) {
    lock(&STUCK).values_mut().for_each(|stuck| _ = stuck.remove(&pid));
}

fn is_stuck(pid: u32) -> bool {
    if lock(&STUCK).is_empty() {
        return false;
    }
    let Some(user) = user_of(pid) else { return false };
    lock(&STUCK)
        .get(&user)
        .is_some_and(|stuck| stuck.contains(&pid) || stuck.len() >= MOST_STUCK && !is_trusted(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{process::Command, time::Instant};

    #[test]
    fn who_keeps_us_waiting_is_not_waited_for_again() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = child.id();
        assert_eq!(look(pid, || 7).expect("an answer"), 7);
        let (hold, held) = channel::<()>();
        let error = look(pid, move || held.recv()).expect_err("it waits");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let began = Instant::now();
        assert!(look(pid, || 7).is_err() && began.elapsed() < PATIENCE);
        // Others are, and by another thread.
        assert_eq!(look(std::process::id(), || 7).expect("an answer"), 7);
        drop(hold);
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    #[test]
    fn a_look_may_take_long_as_long_as_something_comes() {
        let slow = || {
            for _ in 0..4 {
                thread::sleep(PATIENCE * 2 / 3);
                beat();
            }
            // A part of it.
            look(std::process::id(), || 7)
        };
        assert_eq!(look(std::process::id(), slow).expect("an answer").expect("its part"), 7);
    }
}
