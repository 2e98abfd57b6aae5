//! The ring of rare events, from the kernel to us.

use super::shares::Shares;
use aya::maps::{MapData, RingBuf};
use heaptrace_common::{
    event::{Event, kind},
    growth::GrowthEvent,
};
use std::os::fd::{AsRawFd, RawFd};

/// Readable (poll) when there are events.
pub struct EventRing {
    pub(super) ring: RingBuf<MapData>,
    pub(super) shares: Shares,
}

/// What came through the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Event(Event),
    Growth(GrowthEvent),
}

impl Told {
    /// What all have.
    pub fn event(&self) -> &Event {
        match self {
            Self::Event(event) => event,
            Self::Growth(growth) => &growth.event,
        }
    }
}

impl EventRing {
    /// As many are read at once: looking after each may take milliseconds, and who asks to end is not to wait for all.
    pub const AT_ONCE: usize = 128;

    /// The same of page faults, which take well under a microsecond.
    const FAULTS_AT_ONCE: usize = 1 << 14;

    /// Takes events that are there, in order; if there are [`Self::AT_ONCE`], there may be more.
    pub fn read(&mut self) -> Vec<Told> {
        let mut events = Vec::new();
        let mut faults = 0;
        while events.len() - faults < Self::AT_ONCE
            && faults < Self::FAULTS_AT_ONCE
            && let Some(item) = self.ring.next()
        {
            if let Some(bytes) = item.first_chunk::<{ size_of::<GrowthEvent>() }>() {
                // SAFETY: `GrowthEvent` is plain data of that size, for which any bytes are a value.
                events.push(Told::Growth(unsafe { bytes.as_ptr().cast::<GrowthEvent>().read_unaligned() }));
            } else if let Some(bytes) = item.first_chunk::<{ size_of::<Event>() }>() {
                // SAFETY: as above.
                let event = unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() };
                faults += usize::from(event.kind == kind::FAULT);
                events.push(Told::Event(event));
            }
        }
        for event in &events {
            self.shares.event_was_read(event.event().share);
        }
        events
    }
}

impl AsRawFd for EventRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
