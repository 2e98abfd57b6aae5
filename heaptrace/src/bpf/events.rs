//! The ring of rare events, from the kernel to us.

use aya::maps::{MapData, RingBuf};
use heaptrace_common::event::Event;
use std::os::fd::{AsRawFd, RawFd};

/// Readable (poll) when there are events.
pub struct EventRing(pub(super) RingBuf<MapData>);

impl EventRing {
    /// Takes all events that are there, in order.
    pub fn read(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(item) = self.0.next() {
            if let Some(bytes) = item.first_chunk::<{ size_of::<Event>() }>() {
                // SAFETY: `Event` is plain data of that size, for which any bytes are a value.
                events.push(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
        events
    }
}

impl AsRawFd for EventRing {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
