//! Probes that go in the background: taking one away waits for the kernel.

use std::thread::{self, JoinHandle};

/// Those that are on their way.
#[derive(Default)]
pub(super) struct Detaching {
    of_running: Vec<JoinHandle<()>>,
    of_ended: Vec<JoinHandle<()>>,
}

impl Detaching {
    /// Lets go of probes in processes that run.
    pub fn of_running<T: Send + 'static>(&mut self, links: Vec<T>) {
        drop_aside(&mut self.of_running, links);
    }

    /// Lets go of probes whose processes have ended.
    pub fn of_ended<T: Send + 'static>(&mut self, links: Vec<T>) {
        drop_aside(&mut self.of_ended, links);
    }

    /// Waits until no process that runs has any of them.
    pub fn wait_for_running(&mut self) {
        join(&mut self.of_running);
    }

    pub fn wait(&mut self) {
        join(&mut self.of_running);
        join(&mut self.of_ended);
    }
}

fn drop_aside<T: Send + 'static>(detaching: &mut Vec<JoinHandle<()>>, links: Vec<T>) {
    if !links.is_empty() {
        detaching.retain(|thread| !thread.is_finished());
        detaching.push(thread::spawn(move || drop(links)));
    }
}

fn join(detaching: &mut Vec<JoinHandle<()>>) {
    for thread in detaching.drain(..) {
        // A panic there has left nothing that the report depends on.
        let _ = thread.join();
    }
}
