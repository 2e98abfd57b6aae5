//! The command that heaptrace started, from when it runs: how it ended, or that it goes on, or is to end with tracing.

use super::work::Ended;
use crate::{
    printable::say,
    target::{CommandEnd, reap},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fmt, io, thread,
    time::{Duration, Instant},
};

/// How often is looked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// See the module. A child of ours that nobody has waited for, so that its PID is no other's.
pub(super) struct Started {
    pid: u32,
    /// It ends with tracing.
    kill: bool,
    /// What came of telling it so.
    told: Option<io::Result<()>>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Fate {
    Ended(CommandEnd),
    Runs {
        pid: u32,
        /// It was to end, and why it has not.
        unheeded: Option<String>,
    },
}

impl Started {
    pub fn new(pid: u32, kill: bool) -> Self {
        Self { pid, kill, told: None }
    }

    /// Tracing was ended, by whoever runs heaptrace: the command is to end, too, if that was asked for.
    pub fn untraced(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid.cast_signed()).filter(|_| self.kill && self.told.is_none())
        {
            self.told = Some(kill_process(pid, Signal::TERM).map_err(io::Error::from));
        }
    }

    /// What became of it when tracing ended, which `why` is the reason of; waits for its end where it is to end, or does. The
    /// kernel tells of an exit before it gives the memory back, and much memory takes a while.
    pub fn fate(self, why: Ended) -> Fate {
        const AT_MOST: Duration = Duration::from_secs(10);
        const SILENT: Duration = Duration::from_secs(1);
        let Self { pid, told, .. } = self;
        let before = Instant::now();
        let mut said = false;
        loop {
            if let Some(end) = reap(pid) {
                return Fate::Ended(end);
            }
            let is_ending = matches!(told, Some(Ok(()))) || why == Ended::TargetsExited;
            if !is_ending || before.elapsed() > AT_MOST {
                let unheeded = told.map(|told| match told {
                    Ok(()) => format!("it did not end on SIGTERM within {} s", AT_MOST.as_secs()),
                    Err(error) => format!("it could not be sent SIGTERM: {error}"),
                });
                return Fate::Runs { pid, unheeded };
            }
            if !said && told.is_some() && before.elapsed() > SILENT {
                said = true;
                say(format_args!("waiting for the command (process {pid}) to end on SIGTERM"));
            }
            thread::sleep(POLL);
        }
    }
}

impl Fate {
    /// How it ended, if it has.
    pub fn end(&self) -> Option<CommandEnd> {
        match self {
            Self::Ended(end) => Some(*end),
            Self::Runs { .. } => None,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(end) => end.fmt(f),
            Self::Runs { pid, unheeded: None } => {
                write!(f, "the command still runs as process {pid}, untraced; with --kill it ends, too")
            }
            Self::Runs { pid, unheeded: Some(why) } => {
                write!(f, "the command still runs as process {pid}, untraced: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn start() -> (std::process::Child, u32) {
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let pid = child.id();
        (child, pid)
    }

    #[test]
    fn it_goes_on_unless_it_is_to_end() {
        let (mut child, pid) = start();
        let mut started = Started::new(pid, false);
        started.untraced();
        let fate = started.fate(Ended::TimeUp);
        assert!(matches!(&fate, Fate::Runs { pid: of, unheeded: None } if *of == pid));
        assert!(fate.to_string().contains(&format!("process {pid}")) && fate.end().is_none());
        // It heeds its input still.
        drop(child.stdin.take());
        let fate = Started::new(pid, false).fate(Ended::TargetsExited);
        assert_eq!(fate.end(), Some(CommandEnd::Exited(0)));
    }

    #[test]
    fn it_is_asked_to_end_and_waited_for() {
        let (_child, pid) = start();
        let mut started = Started::new(pid, true);
        started.untraced();
        let killed = CommandEnd::Killed(libc::SIGTERM as u8);
        assert_eq!(started.fate(Ended::TimeUp).end(), Some(killed));
    }
}
