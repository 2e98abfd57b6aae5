//! Probes that go in the background: taking one away waits for the kernel.

use std::thread::{self, JoinHandle};

/// So many lots of probes whose processes have ended go at one time. The kernel takes them away one after the other, and whoever
/// forks without rest could have us place more than it takes away: then the end would wait for all that are left. Who has
/// to wait for these places none meanwhile.
const MOST_OF_ENDED: usize = 4;

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
        self.of_ended.retain(|thread| !thread.is_finished());
        if self.of_ended.len() >= MOST_OF_ENDED && !links.is_empty() {
            let oldest = self.of_ended.remove(0);
            // A panic there has left nothing that the report depends on.
            let _ = oldest.join();
        }
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
