//! The code of traced processes is looked at again now and then: a program that patches itself while it is traced, or
//! drops its probes with the pages that they are in, is let go of, and the report says so.

use std::collections::HashMap;

/// How long a process is left alone after its code was looked at.
const EVERY_NS: u64 = 10_000_000_000;

/// How many are looked at in a second: each takes as long as reading its mappings and some 100 KB, and with thousands of
/// processes a round takes minutes.
const AT_ONCE: usize = 8;

/// See the module.
#[derive(Default)]
pub struct CodeRounds {
    /// When each process was looked at last, or was first seen, by PID.
    looked_ns: HashMap<u32, u64>,
}

impl CodeRounds {
    /// Which of the processes that run are to be looked at now.
    pub(super) fn due(&mut self, running: &[u32], now_ns: u64) -> Vec<u32> {
        let looked: HashMap<u32, u64> =
            running.iter().map(|pid| (*pid, self.looked_ns.get(pid).copied().unwrap_or(now_ns))).collect();
        self.looked_ns = looked;
        let mut due: Vec<(u64, u32)> = self.looked_ns.iter().map(|(pid, at)| (*at, *pid)).collect();
        due.retain(|(at, _)| now_ns.saturating_sub(*at) >= EVERY_NS);
        due.sort_unstable();
        due.truncate(AT_ONCE);
        self.looked_ns.extend(due.iter().map(|(_, pid)| (*pid, now_ns)));
        due.into_iter().map(|(_, pid)| pid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_its_turn_and_none_comes_twice_in_a_round() {
        let running: Vec<u32> = (1..=20).collect();
        let mut rounds = CodeRounds::default();
        assert_eq!(rounds.due(&running, 5).len(), 0);
        assert_eq!(rounds.due(&running, 5 + EVERY_NS - 1).len(), 0);
        let mut seen: Vec<u32> = Vec::new();
        for _ in 0..3 {
            let due = rounds.due(&running, 5 + EVERY_NS);
            assert!(due.len() <= AT_ONCE);
            seen.extend(due);
        }
        seen.sort_unstable();
        assert_eq!(seen, running);
        assert_eq!(rounds.due(&running, 5 + EVERY_NS).len(), 0);
        // Those that ended are forgotten.
        rounds.due(&[3], 6 + EVERY_NS);
        assert_eq!(rounds.looked_ns.len(), 1);
    }
}
