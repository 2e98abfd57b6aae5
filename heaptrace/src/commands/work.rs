//! What a command does while its engine is followed, and why that ended.

use crate::{
    bpf::Told,
    engine::{Engine, Form},
    model::Names,
};
use std::{fmt, future::Future, ops::ControlFlow};

/// What a command does while its engine runs.
pub(super) trait Work {
    /// How the engine hands out what it finds.
    type Form: Form;

    /// After the engine has dealt with what came through the ring. Breaks if nobody reads any more.
    fn told(&mut self, _: &mut Engine<Self::Form>, _: &[Told]) -> anyhow::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Once a second, after the maps were read; not in seconds in which [`Self::print`] was called.
    fn tick(&mut self, engine: &mut Engine<Self::Form>) -> anyhow::Result<()>;

    /// Ten times a second, where the engine was told to look often. The maps were not read.
    fn looked(&mut self, _: &mut Engine<Self::Form>) -> anyhow::Result<()> {
        Ok(())
    }

    /// At every interval, where there is one, after the maps were read; later, where a print before [`Self::waits`] then.
    /// Breaks if nobody reads any more.
    fn print(&mut self, _: &mut Engine<Self::Form>) -> anyhow::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Whether a print waits for symbols, which are being looked for.
    fn waits(&self) -> bool {
        false
    }

    /// Those symbols, once they were found. Nothing is lost where it is not waited for to the end.
    fn found(&mut self) -> impl Future<Output = Names> {
        std::future::pending()
    }

    /// Takes them, and prints what waited for them. Breaks if nobody reads any more.
    fn take(&mut self, _: &mut Engine<Self::Form>, _: Names) -> anyhow::Result<ControlFlow<()>> {
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
