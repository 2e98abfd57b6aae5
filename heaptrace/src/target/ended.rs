//! How a command that was started ended.

use rustix::process::{Pid, WaitOptions, waitpid};
use std::fmt;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    Exited(u8),
    Killed(u8),
}

impl CommandEnd {
    /// As a shell's `$?`.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for CommandEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "the command exited with code {code}"),
            Self::Killed(signal) => write!(f, "the command was killed by signal {signal}"),
        }
    }
}

/// How the command `pid` ended, if it has.
pub fn reap(pid: u32) -> Option<CommandEnd> {
    let (_, status) = waitpid(Pid::from_raw(pid as i32), WaitOptions::NOHANG).ok()??;
    let killed = status.terminating_signal().map(|signal| CommandEnd::Killed(signal as u8));
    killed.or_else(|| Some(CommandEnd::Exited(status.exit_status()? as u8)))
}
