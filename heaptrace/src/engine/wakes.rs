//! What wakes an engine: events, lines that are logged, unwind tables, and time that has passed.

use super::Pace;
use crate::bpf::{EventRing, LogRing, Told};
use crate::printable::say;
use std::{io, sync::Arc, time::Duration};
use tokio::{io::unix::AsyncFd, sync::Notify, task::yield_now};

/// How often the maps are read.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// Where reading them takes long, the events have the same time.
const DRAIN_SHARE: u32 = 2;

/// How often it is looked for what cannot wait for a drain.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often events are looked for of which nobody is woken: lines are as good as at once for who reads them.
const UNBIDDEN_EVERY: Duration = Duration::from_millis(50);

/// See the module.
pub(super) struct Wakes {
    ring: AsyncFd<EventRing>,
    log: Option<AsyncFd<LogRing>>,
    tables: Arc<Notify>,
    drains: Pace,
    often: Pace,
    /// `None` if the kernel side wakes us for all it tells.
    unbidden: Option<Unbidden>,
}

/// Looks into the ring of which nobody is woken.
struct Unbidden {
    pace: Pace,
    /// The last look did not take all.
    more: bool,
}

/// Why it woke.
pub(super) enum Wake {
    /// Unwind tables have been built.
    Tables,
    /// It is time to look for what cannot wait for a drain.
    Often,
    /// It is time to read the maps.
    Drain,
    /// These came through the ring.
    Events(Vec<Told>),
}

impl Wakes {
    /// `unbidden`: there are events of which nobody is woken. Must be called within a runtime.
    pub fn new(
        events: EventRing,
        log: Option<LogRing>,
        tables: Arc<Notify>,
        unbidden: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            // SAFETY: the ring owns its descriptor and keeps it until it is dropped, after the registration.
            ring: unsafe { AsyncFd::register(events) }?,
            log: match log {
                // SAFETY: as above.
                Some(log) => Some(unsafe { AsyncFd::register(log) }?),
                None => None,
            },
            tables,
            drains: Pace::now(DRAIN_EVERY, DRAIN_SHARE),
            often: Pace::now(LOOK_EVERY, DRAIN_SHARE),
            unbidden: unbidden.then(|| Unbidden { pace: Pace::now(UNBIDDEN_EVERY, 0), more: false }),
        })
    }

    /// Waits for the next. Nothing is lost where it is not waited for to the end: what was read is given at once.
    pub async fn next(&mut self) -> io::Result<Wake> {
        loop {
            // Where there are always events, who asks to end would not be seen else.
            yield_now().await;
            let events = tokio::select! {
                biased;
                () = self.tables.notified() => return Ok(Wake::Tables),
                () = self.often.due() => return Ok(Wake::Often),
                () = self.drains.due() => return Ok(Wake::Drain),
                () = lines(&mut self.log) => continue,
                // Last, as targets can see to it that there are always some.
                guard = self.ring.readable_mut() => {
                    let mut guard = guard?;
                    let events = guard.get_inner_mut().read();
                    if events.len() < EventRing::AT_ONCE {
                        guard.clear_ready();
                    }
                    events
                }
                () = look(&mut self.unbidden) => {
                    let events = self.read();
                    if let Some(unbidden) = &mut self.unbidden {
                        unbidden.more = events.len() == EventRing::AT_ONCE;
                    }
                    events
                }
            };
            if !events.is_empty() {
                return Ok(Wake::Events(events));
            }
        }
    }

    /// Takes events that are there; none if there are none.
    pub fn read(&mut self) -> Vec<Told> {
        self.ring.get_mut().read()
    }

    /// The maps were read, with what was made of them, in this time.
    pub fn drained(&mut self, took: Duration) {
        self.drains.rest(took);
    }

    /// It was looked for what cannot wait, and that took so long.
    pub fn looked(&mut self, took: Duration) {
        self.often.rest(took);
    }

    /// Says what else was logged.
    pub fn say_last(&mut self) {
        let Some(log) = &mut self.log else { return };
        log.get_mut().say_all();
        let left_out = log.get_ref().left_out();
        if left_out > 0 {
            say(format_args!("bpf: {left_out} more lines were not logged (too many a second)"));
        }
    }
}

/// Says the next lines of the BPF programs, if they log any.
async fn lines(log: &mut Option<AsyncFd<LogRing>>) {
    let Some(log) = log else { return std::future::pending().await };
    if let Ok(mut guard) = log.readable_mut().await {
        guard.get_inner_mut().say_all();
        guard.clear_ready();
    }
}

/// Until it is time to look into the ring unbidden: at once, if there was more the last time.
async fn look(unbidden: &mut Option<Unbidden>) {
    match unbidden {
        Some(Unbidden { more: true, .. }) => {}
        Some(Unbidden { pace, .. }) => pace.due().await,
        None => std::future::pending().await,
    }
}
