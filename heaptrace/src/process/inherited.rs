//! Descriptors that a child of ours must not be the last to close.
//!
//! A child has copies of all descriptors until its exec closes them, which is after a vfork(2) has returned
//! (`begin_new_exec`, fs/exec.c). A probe that was let go of meanwhile would stay until then, and for good if the child
//! is killed just then: the kernel does not write to a process's memory for a task that is about to die
//! (`__get_user_pages`, mm/gup.c), and gives up ("failed to unregister, leaking uprobe").

use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

static CHILDREN: RwLock<()> = RwLock::new(());

/// While this is held nothing [`Unshared`] is closed: from before a child is started until it has closed its copies.
pub fn child_starts() -> RwLockWriteGuard<'static, ()> {
    CHILDREN.write().unwrap_or_else(PoisonError::into_inner)
}

/// What is closed when this is dropped, and by us: not while a child may have a copy.
#[derive(Debug)]
pub struct Unshared<T>(Option<T>);

impl<T> Unshared<T> {
    pub fn new(held: T) -> Self {
        Self(Some(held))
    }
}

impl<T> Drop for Unshared<T> {
    fn drop(&mut self) {
        let _no_child = CHILDREN.read().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read as _, sync::mpsc, thread};

    #[test]
    fn nothing_is_closed_while_a_child_starts() {
        let (mut end, held) = std::io::pipe().expect("pipe");
        let (begin, begun) = mpsc::channel();
        let starting = child_starts();
        let copy = held.try_clone().expect("a child's copy");
        let closing = thread::spawn(move || {
            let held = Unshared::new(held);
            begin.send(()).expect("someone waits");
            drop(held);
        });
        begun.recv().expect("it closes");
        // The child's copy goes first, whenever that is.
        thread::sleep(std::time::Duration::from_millis(20));
        assert!(!closing.is_finished());
        drop(copy);
        drop(starting);
        closing.join().expect("closed");
        assert_eq!(end.read(&mut [0]).expect("the end"), 0);
    }
}
