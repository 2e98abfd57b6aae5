//! Changes of processes' code that wait for the records of these.

use crate::process::mapped::{Change, CodeChange};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
};

/// How long a change waits for the record of its process: the kernel reports an exec's mappings before the exec.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Changes that have found no record yet, and where each process's last exec before these began.
#[derive(Default)]
pub struct PendingCode {
    by_pid: HashMap<u32, PidCode>,
    /// PIDs with changes.
    waiting: BTreeSet<u32>,
    /// When PIDs had changes, in order of time.
    when: VecDeque<(u64, u32)>,
    /// Records that got code of a file, and when first, where no event tells of that: calls that map memory are not traced.
    pub(super) to_be_looked_at: BTreeMap<u32, u64>,
}

#[derive(Default)]
struct PidCode {
    exec_began: Option<u64>,
    waiting: Vec<CodeChange>,
    last_ns: u64,
}

/// What one PID has waiting.
pub(super) struct Waiting {
    pub pid: u32,
    pub exec_began: Option<u64>,
    pub changes: Vec<CodeChange>,
}

impl PendingCode {
    /// Adds changes, which come in order of time.
    pub(super) fn add(&mut self, changes: Vec<CodeChange>) {
        for change in changes {
            let code = self.by_pid.entry(change.pid).or_default();
            if self.waiting.insert(change.pid) || code.last_ns != change.time_ns {
                self.when.push_back((change.time_ns, change.pid));
            }
            code.last_ns = change.time_ns;
            code.waiting.push(change);
        }
    }

    /// Hands out what waits, by PID.
    pub(super) fn take(&mut self) -> Vec<Waiting> {
        let pids = mem::take(&mut self.waiting).into_iter();
        pids.filter_map(|pid| {
            let code = self.by_pid.get_mut(&pid)?;
            Some(Waiting { pid, exec_began: code.exec_began, changes: mem::take(&mut code.waiting) })
        })
        .collect()
    }

    /// Takes back what found no record, and when the last exec began.
    pub(super) fn put_back(&mut self, left: Waiting) {
        let Waiting { pid, exec_began, changes } = left;
        let Some(code) = self.by_pid.get_mut(&pid) else { return };
        code.exec_began = exec_began;
        if !changes.is_empty() {
            code.waiting = changes;
            self.waiting.insert(pid);
        }
    }

    /// Forgets PIDs that had no change for long.
    pub(super) fn forget_old(&mut self, now_ns: u64) {
        while let Some((last_ns, pid)) = self.when.front().copied()
            && now_ns.saturating_sub(last_ns) >= PATIENCE_NS
        {
            self.when.pop_front();
            if self.by_pid.get(&pid).is_some_and(|code| code.last_ns <= last_ns) {
                self.by_pid.remove(&pid);
                self.waiting.remove(&pid);
            }
        }
    }

    /// Whether an exec of `pid` began at `since_ns` or later, as far as was told and not long ago.
    pub(super) fn has_begun_exec(&self, pid: u32, since_ns: u64) -> bool {
        self.by_pid.get(&pid).is_some_and(|code| {
            let waiting = code.waiting.iter().filter(|change| change.change == Change::Exec);
            waiting.map(|change| change.time_ns).chain(code.exec_began).any(|began_ns| began_ns >= since_ns)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(pid: u32, time_ns: u64) -> CodeChange {
        CodeChange { pid, time_ns, change: Change::Exec }
    }

    #[test]
    fn what_waits_is_handed_out_until_it_is_old() {
        let mut pending = PendingCode::default();
        pending.add(vec![exec(7, 100), exec(8, 200), exec(7, 300)]);
        let taken = pending.take();
        assert_eq!(taken.iter().map(|of| (of.pid, of.changes.len())).collect::<Vec<_>>(), [(7, 2), (8, 1)]);
        for of in taken {
            let changes = if of.pid == 8 { of.changes } else { Vec::new() };
            pending.put_back(Waiting { exec_began: Some(100), changes, ..of });
        }
        assert!(pending.has_begun_exec(7, 100) && !pending.has_begun_exec(7, 101));
        assert_eq!(pending.take().iter().map(|of| of.pid).collect::<Vec<_>>(), [8]);
        pending.forget_old(200 + PATIENCE_NS);
        assert!(pending.has_begun_exec(7, 100) && !pending.has_begun_exec(8, 0));
        pending.forget_old(300 + PATIENCE_NS);
        assert!(!pending.has_begun_exec(7, 0));
        assert!(pending.by_pid.is_empty() && pending.when.is_empty());
    }
}
