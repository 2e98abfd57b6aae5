//! Gates: probes that come while their process's calls count already are placed one after the other, and begin to count
//! by one write.

use super::array::SharedArray;
use std::sync::{Arc, Mutex, PoisonError};

/// Gates, as the BPF side has them. 0 is always open.
pub(super) const GATES: u32 = 1 << 12;

/// The gates that are free.
pub(super) struct Gates {
    states: Arc<SharedArray<u64>>,
    /// Given back by whoever drops the last probe behind one, on whatever thread.
    free: Arc<Mutex<Vec<u32>>>,
}

/// One that is taken, until this is dropped.
pub(super) struct Gate {
    index: u32,
    states: Arc<SharedArray<u64>>,
    free: Arc<Mutex<Vec<u32>>>,
}

impl Gates {
    pub(super) fn new(states: SharedArray<u64>) -> Self {
        let free = (1..states.entries).rev().collect();
        Self { states: Arc::new(states), free: Arc::new(Mutex::new(free)) }
    }

    /// A closed one; `None` if all are taken.
    pub(super) fn take(&self) -> Option<Gate> {
        // A panic elsewhere leaves a list of numbers all the same.
        let index = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        self.states.set(index, 0);
        Some(Gate { index, states: Arc::clone(&self.states), free: Arc::clone(&self.free) })
    }
}

impl Gate {
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// From here on what is behind it counts.
    pub(super) fn open(&self) {
        self.states.set(self.index, 1);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.states.set(self.index, 0);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
    }
}
