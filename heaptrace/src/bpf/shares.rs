//! What each process or user has of the tables: the kernel keeps count; we say of whom processes are that we register, and
//! which events have been read. See `heaptrace_common::share`.

use super::array::SharedArray;
use crate::process::privileges;
use aya::maps::MapData;
use heaptrace_common::share::{self, ShareRecord, USER_SHARES};
use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    mem::offset_of,
    sync::atomic::{AtomicU32, Ordering},
};

/// What hashes begin with, for one session.
pub(super) fn new_secret() -> u64 {
    // Keys that the system's random numbers make.
    RandomState::new().build_hasher().finish()
}

/// The map `SHARES`.
pub(super) struct Shares {
    records: SharedArray<ShareRecord>,
    processes: u32,
    secret: u64,
}

impl Shares {
    /// For tables of so many `processes`.
    pub fn entries(processes: u32) -> u32 {
        processes.saturating_add(USER_SHARES)
    }

    pub fn new(data: &MapData, processes: u32, secret: u64) -> io::Result<Self> {
        Ok(Self { records: SharedArray::new(data, Self::entries(processes))?, processes, secret })
    }

    /// The share of a process of user `uid` with record `index`.
    pub fn of(&self, uid: u32, index: u32) -> u32 {
        if privileges::is_trusted(uid) { index } else { share::of_user(uid, self.secret, self.processes) }
    }

    /// A live block of a process with the share is removed, by us, from the map beside the table if it was `spilled`.
    pub fn removed(&self, share: u32, spilled: bool) {
        if share >= self.processes {
            self.take(share, offset_of!(ShareRecord, live));
        }
        if spilled {
            self.take(share, offset_of!(ShareRecord, spilled));
        }
    }

    /// Another process has the share. Whether it is its first.
    pub fn joined(&self, share: u32) -> bool {
        self.add(share, offset_of!(ShareRecord, processes)) == Some(0)
    }

    /// An event has been read that this share, plus one, paid for; 0 for none.
    pub fn event_was_read(&self, payer: u32) {
        if let Some(share) = payer.checked_sub(1) {
            self.add(share, offset_of!(ShareRecord, events_read));
        }
    }

    fn take(&self, share: u32, offset: usize) {
        if let Some(field) = self.field(share, offset) {
            field.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Adds one to the field at `offset`; what it was.
    fn add(&self, share: u32, offset: usize) -> Option<u32> {
        Some(self.field(share, offset)?.fetch_add(1, Ordering::Relaxed))
    }

    fn field(&self, share: u32, offset: usize) -> Option<&AtomicU32> {
        let record = self.records.pointer(share)?;
        // SAFETY: a field of u32 within the mapping, aligned; the BPF side only reads it, or adds to it and subtracts.
        Some(unsafe { AtomicU32::from_ptr(record.byte_add(offset).cast()) })
    }
}
