//! The loop: what wakes the engine is dealt with, and told to its client.

use super::{Engine, wakes::Wake};
use crate::bpf::Told;
use std::{io, mem, time::Instant};

/// What happened.
#[derive(Debug)]
pub enum News {
    /// These came through the ring, in order. They were dealt with.
    Events(Vec<Told>),
    /// The maps were read; once a second, but for seconds in which a client has them read.
    Drained,
    /// It was looked for what cannot wait for that, ten times a second: told only where [`super::Looks`] has it.
    Looked,
    /// All targets have exited, and no new ones can come. Said again as long as that is so.
    Ended,
}

impl<F> Engine<F> {
    /// Keeps up with the targets until there are news. A client awaits it last among what it waits for, again and again;
    /// nothing is lost where it does not wait to the end.
    ///
    /// # Errors
    /// If the ring cannot be waited for.
    pub async fn next(&mut self) -> io::Result<News> {
        if let Some(before) = self.drained.take() {
            self.wakes.drained(before.elapsed());
        }
        loop {
            // At a drain, too: the exit events of all targets may have been lost.
            if mem::take(&mut self.may_have_ended) && !self.endless && self.session.has_ended() {
                return Ok(News::Ended);
            }
            match self.wakes.next().await? {
                Wake::Tables => self.session.take_tables(),
                Wake::Often => {
                    let before = Instant::now();
                    self.session.look_often();
                    self.wakes.looked(before.elapsed());
                    if self.looks.often {
                        return Ok(News::Looked);
                    }
                }
                Wake::Drain => {
                    self.drain();
                    return Ok(News::Drained);
                }
                Wake::Events(told) => {
                    self.handle(&told);
                    return Ok(News::Events(told));
                }
            }
        }
    }

    pub(super) fn handle(&mut self, told: &[Told]) {
        self.session.handle_events(told.iter().map(|told| *told.event()));
        self.session.take_told(told);
        self.may_have_ended = true;
    }
}
