//! What is still in the ring when tracing stops.

use super::Engine;
use crate::bpf::Told;
use std::time::{Duration, Instant};

/// The most rounds in which events are read in the end: targets that run on can see to it that there are always some.
const ROUNDS: u32 = 1 << 10;

/// What was not read when tracing ended is looked at for so long; the rest is counted.
const REST_WITHIN: Duration = Duration::from_millis(1500);

/// Events that were there when tracing stopped: they are dealt with as they are taken from here.
pub struct Rest {
    rounds: u32,
    /// Later, they are counted only. `None` if all targets have exited: no more come.
    until: Option<Instant>,
}

impl<F> Engine<F> {
    /// Stops following: nothing is waited for any more, and probes begin to go. What happened until now and was not read is in the
    /// [`Rest`]: the records of processes that have ended are ahead of it.
    pub fn stop(&mut self) -> Rest {
        let all_are_gone = !self.endless && self.session.has_ended();
        self.session.stop();
        self.clock.end();
        self.wakes.say_last();
        Rest { rounds: ROUNDS, until: (!all_are_gone).then(|| Instant::now() + REST_WITHIN) }
    }
}

impl Rest {
    /// The next of them, in order, until there are none.
    pub fn next<F>(&mut self, engine: &mut Engine<F>) -> Option<Vec<Told>> {
        while self.rounds > 0 {
            self.rounds -= 1;
            let told = engine.wakes.read();
            if told.is_empty() {
                break;
            }
            if self.until.is_none_or(|until| Instant::now() <= until) {
                engine.handle(&told);
                return Some(told);
            }
            engine.session.left_unread(told.len());
        }
        // What is told without probes goes on.
        if !engine.session.has_stopped() {
            engine.clock.end();
        }
        None
    }
}
