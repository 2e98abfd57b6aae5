//! Functions under verification, as the BPF side has them. What is compared: `heaptrace_common::check`.

use super::array::SharedArray;
use heaptrace_common::check::{CHECKS, Check};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// All checks.
pub struct Checks(Arc<Shared>);

struct Shared {
    seen: SharedArray<Check>,
    free: Mutex<Vec<u32>>,
    /// Openings so far, of all checks.
    openings: AtomicU64,
}

/// One function's, until this is dropped.
pub struct FunctionCheck {
    number: u32,
    shared: Arc<Shared>,
}

impl Checks {
    pub(super) fn new(seen: SharedArray<Check>) -> Self {
        let free = (0..seen.entries.min(CHECKS)).rev().collect();
        Self(Arc::new(Shared { seen, free: Mutex::new(free), openings: AtomicU64::new(0) }))
    }

    /// One that nothing was seen by yet; `None` if all are taken.
    pub fn take(&self, glibc: bool) -> Option<FunctionCheck> {
        let number = self.0.free().pop()?;
        self.0.seen.set(number, Check { glibc: glibc.into(), ..Check::default() });
        Some(FunctionCheck { number, shared: Arc::clone(&self.0) })
    }
}

#[cfg(test)]
impl Checks {
    /// Without a map.
    pub fn in_memory() -> Self {
        Self::new(SharedArray::in_memory(CHECKS))
    }

    /// As if this was seen by each that is taken.
    pub fn have_seen(&self, seen: Check) {
        (0..CHECKS).for_each(|number| _ = self.0.seen.set(number, seen));
    }
}

impl Shared {
    /// A panic elsewhere leaves a list of numbers all the same.
    fn free(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FunctionCheck {
    /// In the cookies of its probes.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// What was seen so far.
    pub fn seen(&self) -> Check {
        self.shared.seen.get(self.number).unwrap_or_default()
    }

    /// From here on hits count, or do not.
    pub fn open(&self, open: bool) {
        let opening = if open { self.shared.openings.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        if let Some(check) = self.shared.seen.pointer(self.number) {
            // SAFETY: within the mapping; the BPF side only reads this field.
            unsafe { (&raw mut (*check).open).write_volatile(opening) };
        }
    }
}

impl Drop for FunctionCheck {
    fn drop(&mut self) {
        self.open(false);
        self.shared.free().push(self.number);
    }
}
