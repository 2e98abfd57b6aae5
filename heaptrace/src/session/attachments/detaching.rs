//! Probes that go in the background: taking one away waits for the kernel.

use crate::bpf::Going;

/// Those that are on their way.
#[derive(Default)]
pub(super) struct Detaching {
    of_running: Going,
    of_ended: Going,
}

impl Detaching {
    /// Lets go of probes in processes that run.
    pub fn of_running<T: Send + 'static>(&mut self, links: Vec<T>) {
        self.of_running.add(links);
    }

    /// Lets go of probes whose processes have ended.
    pub fn of_ended<T: Send + 'static>(&mut self, links: Vec<T>) {
        self.of_ended.add(links);
    }

    /// Waits until no process that runs has any of them.
    pub fn wait_for_running(&mut self) {
        self.of_running.wait();
    }

    /// Has what is left go as soon as may be: it is about to be waited for.
    pub fn hurry(&mut self) {
        self.of_running.hurry();
        self.of_ended.hurry();
    }

    pub fn wait(&mut self) {
        self.hurry();
        self.of_running.wait();
        self.of_ended.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier, mpsc};

    /// Waits until so many go at one time.
    struct Link(Arc<Barrier>);

    impl Drop for Link {
        fn drop(&mut self) {
            self.0.wait();
        }
    }

    #[test]
    fn what_is_waited_for_goes_all_at_once() {
        let mut detaching = Detaching::default();
        let together = Arc::new(Barrier::new(8));
        detaching.of_ended((0..5).map(|_| Link(Arc::clone(&together))).collect());
        detaching.of_running((0..3).map(|_| Link(Arc::clone(&together))).collect());
        detaching.wait();
    }

    #[test]
    fn what_is_not_waited_for_goes_all_the_same() {
        struct Told(mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(()).expect("somebody listens");
            }
        }
        let (tell, told) = mpsc::channel();
        let mut detaching = Detaching::default();
        detaching.of_ended(vec![Told(tell.clone()), Told(tell.clone())]);
        (0..2).for_each(|_| told.recv().expect("gone"));
        detaching.wait_for_running();
    }
}
