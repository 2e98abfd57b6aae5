//! What takes longer than a screen can wait: symbols, flame graphs, and what a probe costs. Each kind has a thread of its
//! own; results come back through one channel.

use super::{
    flame,
    job::{Done, Job},
    prospect::Prospects,
};
use crate::{commands::names, model::Names};
use std::{sync::mpsc, thread};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// See the module. The threads end with it.
pub struct Background {
    names: mpsc::Sender<Job>,
    prospects: mpsc::Sender<Job>,
    done: UnboundedReceiver<Done>,
}

impl Background {
    pub fn start() -> Self {
        let (send, done) = unbounded_channel();
        let (names, jobs) = mpsc::channel();
        work(jobs, send.clone(), do_names);
        let (prospects, jobs) = mpsc::channel();
        let mut known = Prospects::default();
        work(jobs, send, move |job| known.answer(job));
        Self { names, prospects, done }
    }

    /// Has `job` done.
    pub fn ask(&self, job: Job) {
        let to = match job {
            Job::Names { .. } | Job::Flame { .. } => &self.names,
            Job::Examine { .. } | Job::Cost { .. } => &self.prospects,
        };
        // A thread that is not there any more panicked: then names stay addresses.
        let _ = to.send(job);
    }

    /// The next result; never, where none comes any more.
    pub async fn done(&mut self) -> Done {
        match self.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }
}

fn work(
    jobs: mpsc::Receiver<Job>,
    done: UnboundedSender<Done>,
    mut job: impl FnMut(Job) -> Option<Done> + Send + 'static,
) {
    thread::spawn(move || {
        while let Ok(next) = jobs.recv() {
            if let Some(result) = job(next)
                && done.send(result).is_err()
            {
                break;
            }
        }
    });
}

fn do_names(job: Job) -> Option<Done> {
    match job {
        Job::Names { feed, ids, job } => {
            // That some are missing is seen on the screen.
            let Names { symbols, notes: _ } = names::of_places(ids, job.run());
            Some(Done::Names { feed, names: Names { symbols, ..Names::default() } })
        }
        Job::Flame { profile, process, ids, job, growth, pid } => {
            let names = names::of_places(ids, job.run());
            Some(Done::Flame(match flame::write(&profile, process, names, growth, pid) {
                Ok(path) => format!("wrote {path}"),
                Err(error) => format!("no flame graph: {error:#}"),
            }))
        }
        Job::Examine { .. } | Job::Cost { .. } => None,
    }
}
