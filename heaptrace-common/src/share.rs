//! Who may have how much of the tables, where several want them. All processes of a user who is not trusted have one share
//! together, however many they are. It may grow to twice what is free then: one that takes all it gets leaves a third to
//! the others, two at one time leave a fifth, and whoever comes later leaves a third of what it finds (dynamic thresholds,
//! Choudhury and Hahne, 1998). Where there is one share only, it has everything. Each process of root's and ours has a
//! share, too, in which is kept what it has; it is not held to any bound.

/// Users' shares. Users with the same number among these have one together; which do is not known outside.
pub const USER_SHARES: u32 = 256;

/// An element of `SHARES`: first those of processes, by their records, then those of users.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareRecord {
    /// Process records.
    pub processes: u32,
    pub sites: u32,
    pub frames: u32,
    /// Blocks in the map beside the table of live blocks.
    pub spilled: u32,
    /// Of a user's share only, as a process's record has its own: live blocks, and calls under way.
    pub live: u32,
    pub calls: u32,
    /// Events, and those of them that userspace has read, both modulo 2^32.
    pub events_sent: u32,
    pub events_read: u32,
}

/// The share of a user's processes.
#[inline(always)]
pub const fn of_user(uid: u32, secret: u64, max_processes: u32) -> u32 {
    let mixed = (uid as u64 ^ secret).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    max_processes.wrapping_add((mixed >> 32) as u32 % USER_SHARES)
}

/// Whether a share that has `used` may take one more, where `free` are left.
#[inline(always)]
pub const fn may_take(used: u64, free: u64) -> bool {
    used >> 1 <= free
}

/// Having fewer than this of a table of `entries` is never too much: what is left in its lines is for such.
#[inline(always)]
pub const fn few(entries: u32) -> u32 {
    let few = entries / 16;
    if few == 0 { 1 } else { few }
}

const _: () = assert!(size_of::<ShareRecord>() == 32);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn however_many_take_all_they_get_something_is_left() {
        for greedy in [1_u64, 2, 10, 50] {
            let entries = 65_536;
            let mut used = std::vec![0_u64; greedy as usize];
            let free = |used: &[u64]| entries - used.iter().sum::<u64>();
            // At one time, in turns.
            let mut took = true;
            while took {
                took = false;
                for n in 0..used.len() {
                    if may_take(used[n], free(&used)) {
                        used[n] += 1;
                        took = true;
                    }
                }
            }
            let left = free(&used);
            let fair = entries / (2 * greedy + 1);
            assert!(left + greedy >= fair && left <= fair + greedy, "{greedy}: {left} of {fair}");
            assert!(may_take(0, left));
        }
    }

    #[test]
    fn each_leaves_a_third_of_what_it_finds() {
        let mut free = 65_536_u64;
        for _ in 0..4 {
            let (found, mut used) = (free, 0);
            while may_take(used, free) {
                used += 1;
                free -= 1;
            }
            assert!(free.abs_diff(found / 3) <= 2, "{free} of {found}");
        }
    }

    #[test]
    fn users_shares_lie_behind_those_of_processes() {
        for uid in [1, 1000, 65_534, u32::MAX] {
            for secret in [0, u64::MAX, 0x1234_5678_9abc_def0] {
                assert!((100..100 + USER_SHARES).contains(&of_user(uid, secret, 100)));
            }
        }
    }
}
