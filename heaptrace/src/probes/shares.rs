//! How many descriptors the files of one user's processes may take. A process can map as many files as it likes, and each
//! that is remembered is held open: without shares one process would leave none for the others.

use crate::process::{object::FileStamp, privileges::is_trusted, procfs};
use std::collections::HashMap;

/// Of four parts of all descriptors, those for the files of users other than root and ourselves, each. What is left when
/// all shares are used is for everything else that is opened.
const PARTS: u64 = 1;

/// The same for root's and for our own.
const TRUSTED_PARTS: u64 = 2;

/// What has been taken: by which user, and how much.
#[derive(Debug, Default)]
pub(super) struct Shares {
    taken: HashMap<FileStamp, (u32, u64)>,
    by_user: HashMap<u32, u64>,
}

impl Shares {
    /// Whether user `uid` may make us hold another file open.
    pub fn has_room(&self, uid: u32) -> bool {
        self.has_room_of(uid, most())
    }

    fn has_room_of(&self, uid: u32, most: u64) -> bool {
        let parts = if is_trusted(uid) { TRUSTED_PARTS } else { PARTS };
        self.by_user.get(&uid).is_none_or(|taken| *taken < most.saturating_mul(parts) / 4)
    }

    /// A file is held open for `uid` from here on, with `probes` that may be placed in it, each by a descriptor.
    pub fn take(&mut self, file: FileStamp, uid: u32, probes: usize) {
        let cost = 1 + probes as u64;
        if let Some((uid, cost)) = self.taken.insert(file, (uid, cost)) {
            self.give_back(uid, cost);
        }
        *self.by_user.entry(uid).or_default() += cost;
    }

    /// Those files that `is_held` does not hold for are closed.
    pub fn retain(&mut self, is_held: impl Fn(&FileStamp) -> bool) {
        let closed: Vec<(u32, u64)> =
            self.taken.extract_if(|file, _| !is_held(file)).map(|(_, taken)| taken).collect();
        for (uid, cost) in closed {
            self.give_back(uid, cost);
        }
    }

    fn give_back(&mut self, uid: u32, cost: u64) {
        if let Some(taken) = self.by_user.get_mut(&uid) {
            *taken = taken.saturating_sub(cost);
        }
    }
}

/// Whose process `pid` is; -1, as whom nobody can run, where it is gone. (Not the owner of its folder in /proc: that is root
/// for who cannot be dumped, proc_pid(5).)
pub(super) fn user_of(pid: u32) -> u32 {
    procfs::read_status(pid).map_or(u32::MAX, |status| status.effective_uid)
}

/// Descriptors that we may have.
fn most() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::object::FileId;

    fn file(inode: u64) -> FileStamp {
        FileStamp { id: FileId { dev: 1, inode }, size: 0, modified: (0, 0) }
    }

    #[test]
    fn what_one_user_takes_is_not_taken_from_others_and_comes_back() {
        let (one, other) = (u32::MAX - 1, u32::MAX - 2);
        let mut shares = Shares::default();
        for inode in 0..5 {
            assert!(shares.has_room_of(one, 80));
            shares.take(file(inode), one, 3);
        }
        assert!(!shares.has_room_of(one, 80));
        assert!(shares.has_room_of(other, 80));
        shares.retain(|file| file.id.inode != 0);
        assert!(shares.has_room_of(one, 80));
        // Opened again by another.
        shares.take(file(1), other, 3);
        assert!(shares.has_room_of(one, 64) && shares.has_room_of(other, 80));
        assert!(!shares.has_room_of(one, 48));
    }
}
