//! Looks that may never come back: at a process's memory, and at files. What is mapped may be a file of a file system that the
//! process's user runs and that does not answer (FUSE), or wait for that user otherwise (userfaultfd(2)): who reads it waits with
//! it, and who asks for mappings waits for the lock that is held meanwhile. A file of a server that is gone (FUSE, NFS) keeps
//! waiting whoever opens or reads it. No signal but one that kills ends that, if any does.
//!
//! So other threads take such looks. Where nothing comes back they are left behind.

use super::{device::Device, privileges::is_trusted, status, system};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{self, Read, Seek, SeekFrom},
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

/// Devices of file systems that nothing came from.
static DEAF: LazyLock<Mutex<HashSet<Device>>> = LazyLock::new(Mutex::default);

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
    if !is_looking() && is_stuck(pid) {
        return Err(stuck());
    }
    apart(look, || remember(pid), move || forget(pid)).unwrap_or_else(|| Err(stuck()))
}

/// The same of `look` that looks at files of the file system on a device, if it is known which that is.
///
/// # Errors
/// `TimedOut` if nothing came for some time; and from then on, unless what may be slow at times is a disk.
pub fn look_at_files<T: Send + 'static>(
    device: Option<Device>,
    look: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if !is_looking() && device.is_some_and(is_deaf) {
        return Err(deaf());
    }
    let back = move || _ = device.map(|device| lock(&DEAF).remove(&device));
    apart(look, || give_up(device), back).unwrap_or_else(|| Err(deaf()))
}

/// Whether nothing came from the file system on a device.
pub fn is_deaf(device: Device) -> bool {
    lock(&DEAF).contains(&device)
}

/// Nothing came from the file system on a device: it is not waited for again.
pub fn give_up(device: Option<Device>) {
    lock(&DEAF).extend(device.filter(Device::may_be_deaf));
}

/// What `look` gives, in a thread that is left behind where nothing comes: `None`. Then `give_up` is called; and `back`, later, if
/// it comes back all the same. The error is of the thread.
fn apart<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
    give_up: impl FnOnce(),
    back: impl FnOnce() + Send + 'static,
) -> Option<io::Result<T>> {
    if is_looking() {
        let found = look();
        beat();
        return Some(Ok(found));
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
            back();
        }
    });
    let idle = lock(&IDLE).pop();
    let worker = match idle.map_or_else(start, Ok) {
        Ok(worker) => worker,
        Err(error) => return Some(Err(error)),
    };
    let gone = || Some(Err(io::Error::other("the thread that was to look is gone")));
    if worker.send(job).is_err() {
        return gone();
    }
    let (mut beats, mut silent, mut waited) = (0, 0, 0);
    loop {
        match found.recv_timeout(PATIENCE) {
            Ok(found) => {
                lock(&IDLE).push(worker);
                return Some(Ok(found));
            }
            // It panicked.
            Err(RecvTimeoutError::Disconnected) => return gone(),
            Err(RecvTimeoutError::Timeout) => {
                let now = pulse.beats.load(Ordering::Relaxed);
                let waits = pulse.waits();
                silent = if now == beats && waits { silent + 1 } else { 0 };
                waited += u32::from(waits);
                if silent == TIMES || waited == TIMES_IN_ALL {
                    // While whoever comes back still finds somebody.
                    give_up();
                    return None;
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

impl<R: Seek> Seek for Beating<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
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

fn deaf() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its file system does not answer")
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
    fn a_file_system_without_a_disk_that_keeps_us_waiting_is_not_asked_again_until_it_answers() {
        let (fuse, disk) = (Device { major: 0, minor: u32::MAX }, Device { major: 8, minor: u32::MAX });
        for device in [fuse, disk] {
            let (hold, held) = channel::<()>();
            let error = look_at_files(Some(device), move || held.recv()).expect_err("it waits");
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::TimedOut, deaf().to_string()));
            let again = look_at_files(Some(device), || 7);
            assert_eq!(again.ok(), (device == disk).then_some(7));
            assert_eq!(look_at_files(Some(Device { minor: 3, ..device }), || 7).expect("another"), 7);
            drop(hold);
            let began = Instant::now();
            while look_at_files(Some(device), || 7).is_err() {
                assert!(began.elapsed() < PATIENCE * 20, "it has answered");
                thread::yield_now();
            }
        }
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
