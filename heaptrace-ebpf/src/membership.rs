//! Whether the current process is one of those that were asked for without being named.

use heaptrace_common::settings::scope;

use crate::{
    helpers::{cgroup_at, read_kernel, task},
    maps::setting,
};

/// Cgroups nest no deeper than this, or are not recognized: deeper than systemd and containers in each other go.
const DEEPEST: i32 = 32;

/// Looked at when a process execs: not hot.
#[inline(always)]
pub fn is_member() -> bool {
    match setting!(scope) {
        scope::USER => effective_user() == Some(setting!(user)),
        scope::CGROUP => is_below(setting!(cgroup_id)),
        scope::MACHINE => true,
        _ => false,
    }
}

#[inline(always)]
fn effective_user() -> Option<u32> {
    let (cred_at, euid_at) = (u64::from(setting!(task_cred)), u64::from(setting!(cred_euid)));
    let cred = read_kernel::<u64>(task() + cred_at)?;
    read_kernel(cred + euid_at)
}

/// Whether cgroup `id` is the current task's or an ancestor of it. All levels are asked for: in a cgroup namespace
/// nobody can tell how deep its root is.
#[inline(always)]
fn is_below(id: u64) -> bool {
    let mut level = 0;
    while level < DEEPEST {
        match cgroup_at(level) {
            // Deeper than the task's own.
            0 => return false,
            ancestor if ancestor == id => return true,
            _ => level += 1,
        }
    }
    false
}
