//! Changes of processes' code that wait for the records of these.

use crate::process::mapped::CodeChange;
use std::collections::{BTreeMap, HashMap};

/// Changes that have found no record yet, and where each process's last exec began.
#[derive(Default)]
pub struct PendingCode {
    pub(super) by_pid: HashMap<u32, PidCode>,
    /// Records that got code of a file, and when first, where no event tells of that: calls that map memory are not traced.
    pub(super) to_be_looked_at: BTreeMap<u32, u64>,
}

#[derive(Default)]
pub(super) struct PidCode {
    pub exec_began: Option<u64>,
    pub waiting: Vec<CodeChange>,
    pub last_ns: u64,
}

impl PendingCode {
    /// Whether an exec of `pid` began at `since_ns` or later, as far as was told and not long ago.
    pub(super) fn has_begun_exec(&self, pid: u32, since_ns: u64) -> bool {
        let began = self.by_pid.get(&pid).and_then(|code| code.exec_began);
        began.is_some_and(|began_ns| began_ns >= since_ns)
    }
}
