//! Which processes are asked for: PIDs, names, everything, or a command to start.

mod cgroup;
mod ended;
mod spawn;
mod tree;
mod user;

pub use cgroup::{Cgroup, CgroupError};
pub use ended::{CommandEnd, reap};
pub use spawn::{HeldChild, ResolvedCommand, SpawnError};
pub use tree::descendants;
pub use user::{Account, account, pids_of_user, user_id, user_name};

use crate::process::procfs::{self, ProcError};

/// What is to be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These processes.
    Pids(Vec<u32>),
    /// These processes, and what runs below them.
    Tree(Vec<u32>),
    /// Every process with this name.
    Comm(String),
    /// Every process of this effective user, running or new.
    User { name: String, id: u32 },
    /// Every process in this cgroup or below, running or new.
    Cgroup(Cgroup),
    /// Every process of the machine.
    All,
    /// A command, from its first instruction.
    Command(Vec<std::ffi::OsString>),
}

/// The PIDs of the running processes named `comm`, without our own.
pub fn pids_named(comm: &str) -> Result<Vec<u32>, ProcError> {
    let own = std::process::id();
    let pids = procfs::all_pids()?.into_iter();
    // A process that ended meanwhile has no name any more.
    Ok(pids.filter(|pid| *pid != own && procfs::comm(*pid).is_ok_and(|name| name == comm)).collect())
}
