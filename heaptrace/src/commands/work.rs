//! What a command does while its session is followed, and why that ended.

use crate::{bpf::Told, session::Session};
use std::{fmt, ops::ControlFlow, time::Duration};

/// What a command does while its session runs.
pub(super) trait Work {
    /// How often to look into the ring unbidden; `None` if the kernel side wakes us for all it tells.
    const LOOK_EVERY: Option<Duration> = None;

    /// After the session has dealt with what came through the ring. Breaks if nobody reads any more.
    fn told(&mut self, _: &mut Session, _: &[Told]) -> anyhow::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Once a second, after the maps were read.
    fn tick(&mut self, session: &mut Session, elapsed: Duration) -> anyhow::Result<()>;

    /// At every interval, where there is one, after the maps were read. Breaks if nobody reads any more.
    fn print(&mut self, _: &mut Session, _elapsed: Duration) -> anyhow::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }
}

/// Why tracing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Asked,
    TimeUp,
    TargetsExited,
    /// Nobody reads what is printed any more.
    NoReader,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "stopped",
            Self::TimeUp => "time is up",
            Self::TargetsExited => "all targets have exited",
            Self::NoReader => "nobody reads the output any more",
        })
    }
}
