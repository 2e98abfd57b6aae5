//! Functions under verification, as the BPF side has them. What is compared: `heaptrace_common::check`.

use super::{
    attach::{Links, PlacedSite, ProbeSite},
    load::Tracer,
    maps::SharedArray,
};
use heaptrace_common::{
    check::{CHECKS, Check},
    probe::Cookie,
};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// The checks that are free, and what each has seen.
pub(super) struct Checks {
    seen: Arc<SharedArray<Check>>,
    free: Arc<Mutex<Vec<u32>>>,
}

/// One function's, until this is dropped.
pub struct FunctionCheck {
    number: u32,
    seen: Arc<SharedArray<Check>>,
    free: Arc<Mutex<Vec<u32>>>,
}

impl Checks {
    pub fn new(seen: SharedArray<Check>) -> Self {
        let free = (0..seen.entries.min(CHECKS)).rev().collect();
        Self { seen: Arc::new(seen), free: Arc::new(Mutex::new(free)) }
    }

    fn take(&self, glibc: bool) -> Option<FunctionCheck> {
        // A panic elsewhere leaves a list of numbers all the same.
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        self.seen.set(number, Check { glibc: glibc.into(), ..Check::default() });
        Some(FunctionCheck { number, seen: Arc::clone(&self.seen), free: Arc::clone(&self.free) })
    }
}

impl FunctionCheck {
    /// What was seen so far.
    pub fn seen(&self) -> Check {
        self.seen.get(self.number).unwrap_or_default()
    }

    /// From here on hits count, or do not.
    pub fn open(&self, open: bool) {
        if let Some(check) = self.seen.pointer(self.number) {
            // SAFETY: within the mapping; the BPF side only reads this field.
            unsafe { (&raw mut (*check).open).write_volatile(open.into()) };
        }
    }
}

impl Drop for FunctionCheck {
    fn drop(&mut self) {
        self.open(false);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

impl Tracer {
    /// A check that nothing was seen by yet, of a function whose results are blocks of glibc's if `glibc`. `None` where the kernel has no multi links, or
    /// too many functions are under verification.
    pub fn new_check(&self, glibc: bool) -> Option<FunctionCheck> {
        self.checker.as_ref().and_then(|_| self.maps.checks.take(glibc))
    }

    /// Has a function's entry and sites watched in one process, or wherever the file at `path` is mapped.
    pub fn watch_for(
        &mut self,
        check: &FunctionCheck,
        path: &Path,
        sites: &[ProbeSite],
        pid: Option<u32>,
    ) -> io::Result<Links> {
        let Some(checker) = &self.checker else { return Err(io::ErrorKind::Unsupported.into()) };
        let rows = sites.iter().map(|site| {
            let row = self.maps.probe_row(&site.record)?;
            Some(PlacedSite { offset: site.offset, cookie: Cookie { row, gate: check.number } })
        });
        let placed: Option<Vec<PlacedSite>> = rows.collect();
        let placed = placed.ok_or_else(|| io::Error::other("the table of probes is full"))?;
        Ok(Links::of_multi(checker.attach(path, &placed, pid)?))
    }
}
