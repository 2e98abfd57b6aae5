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
            self.subtract(share, offset_of!(ShareRecord, live), 1);
        }
        if spilled {
            self.subtract(share, offset_of!(ShareRecord, spilled), 1);
        }
    }

    /// Another process has the share. Whether it is its first.
    pub fn joined(&self, share: u32) -> bool {
        self.add(share, offset_of!(ShareRecord, processes)) == Some(0)
    }

    /// A process's record is retired, and with it so many sites; it had so many calls that were never ended. Whether its
    /// share has no other.
    pub fn left(&self, share: u32, sites: u32, calls: u32) -> bool {
        let is_users = share >= self.processes;
        if is_users {
            self.subtract(share, offset_of!(ShareRecord, sites), sites);
            self.subtract(share, offset_of!(ShareRecord, calls), calls);
        }
        let was_last = self.subtract(share, offset_of!(ShareRecord, processes), 1) == Some(1);
        if was_last && !is_users {
            // What of it is still referred to, events, is counted on.
            for at in [offset_of!(ShareRecord, sites), offset_of!(ShareRecord, frames)] {
                if let Some(field) = self.field(share, at) {
                    field.store(0, Ordering::Relaxed);
                }
            }
        }
        was_last
    }

    /// So many nodes of stacks that a share paid for are gone.
    pub fn frames_gone(&self, share: u32, count: u32) {
        if share >= self.processes {
            self.subtract(share, offset_of!(ShareRecord, frames), count);
        }
    }

    /// An event has been read that this share, plus one, paid for; 0 for none.
    pub fn event_was_read(&self, payer: u32) {
        if let Some(share) = payer.checked_sub(1) {
            self.add(share, offset_of!(ShareRecord, events_read));
        }
    }

    /// Subtracts from the field at `offset`; what it was.
    fn subtract(&self, share: u32, offset: usize, count: u32) -> Option<u32> {
        Some(self.field(share, offset)?.fetch_sub(count, Ordering::Relaxed))
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
