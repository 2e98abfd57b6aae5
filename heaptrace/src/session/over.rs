//! What is known to be over and waits to be retired.

use crate::bpf::wait_for_programs;
use heaptrace_common::event::{Event, kind};
use std::{
    collections::HashSet,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Where the kernel cannot say that its programs are done, so much time is taken for it.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub(super) struct Over {
    /// Records of which the last event has come.
    pub told: HashSet<u32>,
    /// When the newest event was sent.
    pub newest_ns: u64,
    pub waiting: Option<Waiting>,
}

/// What waits until no program runs that began before it was found.
pub(super) struct Waiting {
    pub programs: JoinHandle<()>,
    pub what: What,
}

pub(super) enum What {
    Records(Vec<u32>),
    /// They are out of sight.
    Nodes,
}

impl Waiting {
    /// `None` where there is no thread to be had: it is tried again.
    pub fn begin(what: What) -> Option<Self> {
        let wait = || {
            if wait_for_programs().is_err() {
                thread::sleep(LONG_ENOUGH);
            }
        };
        let programs = thread::Builder::new().name("heaptrace-wait".to_owned()).spawn(wait).ok()?;
        Some(Self { programs, what })
    }
}

impl Over {
    /// Takes an event that was dealt with.
    pub fn take(&mut self, event: &Event) {
        self.newest_ns = self.newest_ns.max(event.time_ns);
        match event.kind {
            kind::EXIT => _ = self.told.insert(event.process),
            kind::EXEC => _ = self.told.insert(event.other),
            _ => {}
        }
    }
}
