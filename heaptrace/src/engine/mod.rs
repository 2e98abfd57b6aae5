//! The engine: one session and the one event loop that keeps it up. Commands are its clients. They tell it what to trace,
//! await its [`News`] beside what else they wait for (signals, keys, their own prints), and take what was found.

mod chunks;
mod clock;
mod pace;
mod rest;
mod snapshots;
mod targets;
mod turn;
mod wakes;

pub use chunks::Chunks;
pub use pace::Pace;
pub use rest::Rest;
pub use snapshots::Snapshots;
pub use turn::News;

use crate::{
    bpf::MapSizes,
    error::CannotTrace,
    model::{Cohorts, Host, Mode, Note, OldBlocks, SiteId, StackId, Start},
    process::system,
    session::{Limits, Session, SessionOptions},
};
use clock::Clock;
use heaptrace_common::growth::GrowthEvent;
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};
use wakes::Wakes;

/// How an engine hands out what was found: as [`Snapshots`], as [`Chunks`], or not at all. One engine does one of these:
/// what went into a chunk would be missing in snapshots.
pub trait Form {
    fn new(start: Start) -> Self;
}

/// Only news are of interest.
impl Form for () {
    fn new(_: Start) -> Self {}
}

/// What is looked into whenever the maps were read, a little each time; and whether clients look between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// What the memory of the processes is made of.
    pub memory: bool,
    /// Blocks whose memory was unmapped.
    pub unmapped: bool,
    /// [`News::Looked`] is told.
    pub often: bool,
}

/// See the module.
pub struct Engine<F> {
    session: Session,
    form: F,
    wakes: Wakes,
    clock: Clock,
    mode: Mode,
    sizes: MapSizes,
    limits: Limits,
    looks: Looks,
    /// New targets can come when all have exited.
    endless: bool,
    /// Something was seen that may have been the end of the last target.
    may_have_ended: bool,
    /// When the maps began to be read, until the next turn: what a client makes of them is part of it.
    drained: Option<Instant>,
}

impl<F: Form> Engine<F> {
    /// Loads the kernel side; nothing is traced yet. Must be called within a runtime.
    ///
    /// # Errors
    /// [`CannotTrace`] if it cannot be loaded.
    pub fn new(options: &SessionOptions) -> anyhow::Result<Self> {
        let (mut session, events) = Session::new(options).map_err(|error| CannotTrace(error.to_string()))?;
        let tables = session.tables_ready().unwrap_or_default();
        let wakes = Wakes::new(events, session.take_log(), tables, options.calls.are_told())?;
        let clock = Clock::default();
        let mode = options.mode;
        Ok(Self {
            session,
            form: F::new(start(clock.started_ns(), mode, options.sizes)),
            wakes,
            clock,
            mode,
            sizes: options.sizes,
            limits: options.limits,
            looks: Looks::default(),
            endless: options.all || options.members.is_some(),
            may_have_ended: false,
            drained: None,
        })
    }
}

impl<F> Engine<F> {
    /// What is known, to be read only.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What a recording begins with, once its first targets are there.
    pub fn start(&self) -> Start {
        start(self.clock.started_ns(), self.mode, self.sizes)
    }

    /// How is traced, where that is not every block: for the first line.
    pub fn how(&self) -> String {
        let Limits { share, growing } = self.limits;
        let mode = if self.mode == Mode::Exact { None } else { Some(self.mode.name().to_owned()) };
        let share = share.map(|share| format!("within {}%", (share * 1e4).round() / 100.0));
        let growing = growing.map(|_| "when growing".to_owned());
        let parts: Vec<String> = mode.into_iter().chain(share).chain(growing).collect();
        if parts.is_empty() { String::new() } else { format!("{}; ", parts.join(", ")) }
    }

    /// What a hit of a probe takes at least in nanoseconds, if that was measured by now.
    pub fn trap_ns(&mut self) -> Option<f64> {
        self.session.trap_ns()
    }

    /// The targets may run from now on: [`Self::followed`] begins. Profiles of an engine to which that is not said tell how
    /// long calls counted.
    pub fn begin(&mut self) {
        self.clock.begin();
    }

    /// How long the targets were followed: without what it takes to place probes and to take them away.
    pub fn followed(&self) -> Duration {
        self.clock.followed().unwrap_or_default()
    }

    /// What is to be looked into from now on.
    pub fn look_into(&mut self, looks: Looks) {
        self.looks = looks;
    }

    /// Reads the maps now. [`Self::next`] does once a second; who prints wants it to be just before.
    pub fn drain(&mut self) {
        self.drained = Some(Instant::now());
        self.read_maps();
        if self.looks.memory {
            self.session.measure_some();
        }
        if self.looks.unmapped {
            self.session.look_for_unmapped_some();
        }
    }

    /// The same without what else is looked into then, and beside what is done once a second: for a moment that is over soon.
    pub fn read_maps(&mut self) {
        self.may_have_ended = true;
        self.session.drain();
    }

    /// Reads the maps once more after [`Self::detach`]: nothing waits for later any more.
    pub fn drain_last(&mut self) {
        self.session.drain_last();
    }

    /// What is outstanding and older than `older_than`, as of when the maps were last read.
    ///
    /// # Errors
    /// If the blocks cannot be read.
    pub fn old_blocks(&mut self, older_than: Duration) -> io::Result<OldBlocks> {
        self.session.old_blocks(older_than)
    }

    /// How blocks of sites came and stayed, as of when the maps were last read. Reads all live blocks.
    ///
    /// # Errors
    /// If the blocks cannot be read.
    pub fn cohorts(&self) -> io::Result<BTreeMap<SiteId, Cohorts>> {
        self.session.cohorts()
    }

    /// The stack of a call, if it has one; to be asked at once, as its addresses are told apart by what is mapped now.
    pub fn stack_of(&mut self, told: &GrowthEvent) -> Option<StackId> {
        self.session.stack_of(told)
    }

    /// Processes that began to be traced, as they grow, since this was asked last.
    pub fn take_grown(&mut self) -> Vec<Note> {
        self.session.take_grown()
    }

    /// Looks for all blocks whose memory was unmapped. For the end, before [`Self::detach`].
    pub fn look_for_unmapped(&mut self) {
        self.session.look_for_unmapped();
    }

    /// Looks for all blocks that are over although no free was seen, and has them counted so: for snapshots to come.
    pub fn end_blocks(&mut self) {
        self.session.end_blocks();
    }

    /// What blocks are traced, if any, and how.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes all probes away; gives the seconds that took. From the first moment of that on nothing changes any more.
    pub fn detach(&mut self) -> f64 {
        self.session.detach()
    }
}

fn start(started_ns: i64, mode: Mode, sizes: MapSizes) -> Start {
    Start {
        heaptrace: env!("CARGO_PKG_VERSION").to_owned(),
        host: Host { kernel: system::kernel_release(), arch: std::env::consts::ARCH.to_owned() },
        started_ns,
        mode,
        by_thread: sizes.by_thread,
        has_lifetimes: sizes.lifetimes,
    }
}
