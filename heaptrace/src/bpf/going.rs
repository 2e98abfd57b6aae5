//! What goes in the background, on many threads: the kernel waits for a grace period at each link, and those overlap.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

/// Threads that take what is left away once it is waited for.
const AT_ONCE: usize = 64;

type Queue = Mutex<VecDeque<Box<dyn Send>>>;

/// One after the other, the first ones first, in a thread for each time that there were new ones.
#[derive(Default)]
pub struct Going {
    left: Arc<Queue>,
    threads: Vec<JoinHandle<Instant>>,
}

impl Going {
    pub fn add<T: Send + 'static>(&mut self, links: Vec<T>) {
        if !links.is_empty() {
            lock(&self.left).extend(links.into_iter().map(|link| Box::new(link) as Box<dyn Send>));
            self.threads.retain(|thread| !thread.is_finished());
            self.start();
        }
    }

    fn start(&mut self) {
        let left = Arc::clone(&self.left);
        // Where there may be no more, the rest goes in those that run, or once it is waited for.
        self.threads.extend(thread::Builder::new().spawn(move || drop_all(&left)));
    }

    /// As many at once as there may be: they are about to be waited for.
    pub fn hurry(&mut self) {
        let running = self.threads.iter().filter(|thread| !thread.is_finished()).count();
        let more = lock(&self.left).len().min(AT_ONCE.saturating_sub(running));
        (0..more).for_each(|_| self.start());
    }

    /// Waits until all are gone; gives when the last one was, of those whose threads ran when this was last added to.
    pub fn wait(&mut self) -> Option<Instant> {
        self.hurry();
        // A panic there has left nothing that anything depends on.
        let last = self.threads.drain(..).filter_map(|thread| thread.join().ok()).max();
        if lock(&self.left).is_empty() { last } else { Some(drop_all(&self.left)) }
    }
}

/// Gives when there was none left.
fn drop_all(left: &Queue) -> Instant {
    let next = || lock(left).pop_front();
    while let Some(link) = next() {
        drop(link);
    }
    Instant::now()
}

fn lock(queue: &Queue) -> MutexGuard<'_, VecDeque<Box<dyn Send>>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
