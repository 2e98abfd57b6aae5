//! Names of what processes generated that have ended are found while tracing goes on, so that their maps need not be held: one
//! job at a time, in a thread of its own.

use super::symbol_job::SymbolJob;
use crate::{model::ProcessId, symbolize::Found};
use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

/// How many times as long as a job took is the least time to the next.
const REST: u32 = 4;

/// See the module.
pub(super) struct EarlyNames {
    jobs: Sender<SymbolJob>,
    done: Receiver<(Found, Duration)>,
    /// Whose job is under way.
    under_way: BTreeSet<ProcessId>,
    /// Before which no other begins.
    next: Instant,
}

impl EarlyNames {
    /// Before its caller asks for the processor at once, which threads have from who starts them.
    pub fn start() -> Self {
        let (jobs, asked) = channel::<SymbolJob>();
        let (send, done) = channel();
        thread::spawn(move || {
            while let Ok(job) = asked.recv() {
                let began = Instant::now();
                if send.send((job.run(), began.elapsed())).is_err() {
                    break;
                }
            }
        });
        Self { jobs, done, under_way: BTreeSet::new(), next: Instant::now() }
    }

    /// Whose names were found since this was asked last, and what is to be said of those that were not.
    pub fn take(&mut self) -> (BTreeSet<ProcessId>, Vec<String>) {
        if self.under_way.is_empty() {
            return Default::default();
        }
        let notes = match self.done.try_recv() {
            Err(TryRecvError::Empty) => return Default::default(),
            Ok((found, took)) => {
                self.next = Instant::now() + took * REST;
                found.notes
            }
            // It panicked.
            Err(TryRecvError::Disconnected) => {
                vec!["generated code of processes that have ended: no names".to_owned()]
            }
        };
        (std::mem::take(&mut self.under_way), notes)
    }

    /// Whether a job may begin.
    pub fn is_free(&self) -> bool {
        self.under_way.is_empty() && Instant::now() >= self.next
    }

    pub fn begin(&mut self, of: BTreeSet<ProcessId>, job: SymbolJob) {
        // Where this fails, what it would find does, too.
        let _ = self.jobs.send(job);
        self.under_way = of;
    }
}
