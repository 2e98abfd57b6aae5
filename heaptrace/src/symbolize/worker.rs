//! The parent's side of the symbolizing child: it is started, asked, given time, and killed.

use super::wire::{Answer, Limits, Question, hear, tell, wait};
use crate::process::{inherited, procfs};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::{
    fmt, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The hidden subcommand that is the child.
pub const SUBCOMMAND: &str = "symbolizer";

/// A busy machine may take seconds to start a process.
const START: Duration = Duration::from_secs(30);

/// How often it is looked whether the child gets on, and how often in a row it must not have, neither by a page nor by a tick of
/// the clock: for 5 s. A slow disk takes some tenths of a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOKS: u32 = 10;

/// Why a question has no answer. The child is gone then, but for `Refused`.
#[derive(Debug)]
pub enum Failure {
    /// It did not answer in time.
    TooLong,
    /// It waits for a file, and nothing comes.
    Deaf,
    /// It died over it.
    Died(ExitStatus),
    /// What it said makes no sense, or could not be heard.
    Broken(String),
    /// It answered that it cannot.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "no answer in time"),
            Self::Deaf => write!(f, "a file system does not answer"),
            Self::Died(status) => write!(f, "it ended with {status}"),
            Self::Broken(why) | Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

impl Failure {
    /// The signal that ended the child.
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Died(status) => status.signal(),
            _ => None,
        }
    }
}

/// A running child. Dropping it kills it.
pub struct Worker {
    child: Option<Child>,
    socket: OwnedFd,
}

impl Worker {
    /// Starts a child that has given up everything.
    ///
    /// # Errors
    /// If it cannot be started, or cannot give something up.
    pub fn start(limits: Limits) -> Result<Self, Failure> {
        let broken = |error: io::Error| Failure::Broken(error.to_string());
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|error| broken(error.into()))?;
        let mut command = program();
        // Until it has closed what it has of ours, which is the first that it does.
        let _starts = inherited::child_starts();
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // What is typed to end us is for us to heed: we may still need what it finds.
        let child = command.process_group(0).spawn();
        // Our copy of the other end is the command's: the child's death must close the last one.
        drop(command);
        let mut worker = Self { child: Some(child.map_err(broken)?), socket };
        match worker.ask(&Question::Begin(limits), &[], Instant::now() + START)? {
            Answer::Ready => Ok(worker),
            _ => Err(Failure::Broken("an answer to another question".to_owned())),
        }
    }

    /// Asks about `files` and waits for the answer until `deadline`. After an error other than `Refused`, ask no more.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn ask(
        &mut self,
        question: &Question,
        files: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let socket = self.socket.as_fd();
        if let Err(error) = tell(socket, question, files) {
            return Err(self.failure(error));
        }
        if self.is_kept_waiting(deadline) {
            return Err(Failure::Deaf);
        }
        let answer = hear(self.socket.as_fd(), Some(deadline));
        match answer {
            Ok((Answer::Refused(why), _)) => Err(Failure::Refused(why)),
            Ok((answer, _)) => Ok(answer),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Until there is an answer, or it is too late for one: `false`. Or until the child, whatever else it does, waits for
    /// something that does not come: pages of a file.
    fn is_kept_waiting(&self, deadline: Instant) -> bool {
        let (mut before, mut silent) = (None, 0);
        while silent < LOOKS {
            let next = deadline.min(Instant::now() + LOOK_EVERY);
            match wait(self.socket.as_fd(), next) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && next < deadline => {}
                _ => return false,
            }
            let Ok(now) = procfs::read_stat(self.id()) else { return false };
            let done = Some((now.faults, now.cpu_ticks));
            let waits = matches!(now.state, 'S' | 'D');
            silent = if waits && before == done { silent + 1 } else { 0 };
            before = done;
        }
        true
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn failure(&mut self, error: io::Error) -> Failure {
        let gone = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        );
        match error.kind() {
            io::ErrorKind::TimedOut => Failure::TooLong,
            _ if gone => match self.child.take().map(ended) {
                Some(Ok(status)) => Failure::Died(status),
                _ => Failure::Broken(error.to_string()),
            },
            _ => Failure::Broken(error.to_string()),
        }
    }
}

/// How a child ended that has closed its end of the socket: if it did that and lives on, it does not any more.
fn ended(mut child: Child) -> io::Result<ExitStatus> {
    child.kill()?;
    child.wait()
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it is dead already.
            let _ = child.kill();
            // It may take a while to die, where it waits for a disk.
            if !matches!(child.try_wait(), Ok(Some(_))) {
                thread::spawn(move || child.wait());
            }
        }
    }
}

/// Spawned with CLONE_VFORK, by which tracing knows it as ours (heaptrace-ebpf, `forked`).
fn program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    if cfg!(test) {
        let test = "symbolize::child::tests::serves";
        command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    } else {
        // Nothing of what programs are told in the environment is meant for it: which libraries to load, say.
        command.arg(SUBCOMMAND).env_clear();
    }
    command
}
