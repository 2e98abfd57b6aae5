//! How a command that was started ended.

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
    let mut status = 0;
    // SAFETY: a valid pointer to a local.
    let reaped = unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WNOHANG) };
    (reaped > 0).then(|| {
        if libc::WIFSIGNALED(status) {
            CommandEnd::Killed(libc::WTERMSIG(status) as u8)
        } else {
            CommandEnd::Exited(libc::WEXITSTATUS(status) as u8)
        }
    })
}
