//! Who was started by whom: the processes below others.

use crate::process::procfs::{self, ProcError};
use std::collections::HashSet;

/// The running processes below `pids`, however far, in ascending order: without `pids`, ourselves and what we have started.
pub fn descendants(pids: &[u32]) -> Result<Vec<u32>, ProcError> {
    let parent = |pid: u32| {
        let stat = procfs::read_stat(pid).ok()?;
        (!matches!(stat.state, 'Z' | 'X')).then_some((pid, stat.parent_pid))
    };
    let parents: Vec<(u32, u32)> = procfs::all_pids()?.into_iter().filter_map(parent).collect();
    Ok(below(pids, std::process::id(), &parents))
}

/// `parents`: of each process, it and its parent. `own` is looked over, with all below it.
fn below(pids: &[u32], own: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found: HashSet<u32> = pids.iter().copied().collect();
    let mut below = Vec::new();
    // A child can have a smaller PID than its parent.
    loop {
        let is_new = |(pid, parent): &&(u32, u32)| {
            found.contains(parent) && !found.contains(pid) && ![*pid, *parent].contains(&own)
        };
        let new: Vec<u32> = parents.iter().filter(is_new).map(|(pid, _)| *pid).collect();
        if new.is_empty() {
            below.sort_unstable();
            return below;
        }
        found.extend(&new);
        below.extend(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_below_is_found_at_any_depth_and_by_any_number() {
        // 1 - 10 - 5 - 7, 1 - 11, 1 - 20 (we) - 21.
        let parents = [(1, 0), (5, 10), (7, 5), (10, 1), (11, 1), (20, 1), (21, 20)];
        assert_eq!(below(&[10], 20, &parents), [5, 7]);
        assert_eq!(below(&[1], 20, &parents), [5, 7, 10, 11]);
        assert_eq!(below(&[10, 5], 20, &parents), [7]);
        assert_eq!(below(&[7, 99], 20, &parents), [0; 0]);
        assert_eq!(below(&[20], 20, &parents), [0; 0]);
    }

    #[test]
    fn our_own_children_are_no_descendants() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        let own = std::process::id();
        let parent = procfs::read_stat(own).expect("ourselves").parent_pid;
        let found = descendants(&[parent]).expect("/proc");
        assert!(!found.contains(&own) && !found.contains(&child.id()), "{found:?}");
        child.kill().expect("a signal");
        child.wait().expect("its end");
    }
}
