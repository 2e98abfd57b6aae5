//! How much of each table is used: `heaptrace_common::record::Cursors`, which both sides count.

use super::{array::SharedArray, free_numbers::Ends};
use aya::maps::MapData;
use heaptrace_common::record::Cursors;
use std::{
    io,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

/// See the module.
pub(super) struct CursorCell(SharedArray<Cursors>);

impl CursorCell {
    pub fn new(data: &MapData) -> io::Result<Self> {
        SharedArray::new(data, 1).map(Self)
    }

    /// As they are now.
    pub fn read(&self) -> Cursors {
        // SAFETY: as in `SharedArray::get`.
        unsafe { self.0.first().read_volatile() }
    }

    /// Adds to the field at `offset`; what it was.
    pub fn add(&self, offset: usize, count: u64) -> u64 {
        self.at(offset).fetch_add(count, Ordering::Relaxed)
    }

    /// Subtracts from the field at `offset`.
    pub fn subtract(&self, offset: usize, count: u64) {
        self.at(offset).fetch_sub(count, Ordering::Relaxed);
    }

    /// Of the ring of records.
    pub fn of_records(&self) -> Ends<'_> {
        let (given, taken) = (offset_of!(Cursors, records_given), offset_of!(Cursors, records_taken));
        Ends { given: self.at(given), taken: self.at(taken) }
    }

    /// Of the ring of sites.
    pub fn of_sites(&self) -> Ends<'_> {
        let (given, taken) = (offset_of!(Cursors, sites_given), offset_of!(Cursors, sites_taken));
        Ends { given: self.at(given), taken: self.at(taken) }
    }

    fn at(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + size_of::<u64>() <= size_of::<Cursors>());
        // SAFETY: a field of u64 of the only element, aligned. The BPF side changes them atomically only.
        unsafe { AtomicU64::from_ptr(self.0.first().byte_add(offset).cast()) }
    }
}
