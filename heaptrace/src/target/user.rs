//! Users as targets: names, and who runs as whom.

use crate::process::procfs::{self, ProcError};
use std::ffi::CString;

/// The id of the user `name`, or `name` itself if it is a number. `None` if there is no such user.
pub fn user_id(name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    let name = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated name; nobody else in this process asks for users, so the result stays as it is until
    // it is read.
    unsafe { libc::getpwnam(name.as_ptr()).as_ref().map(|entry| entry.pw_uid) }
}

/// What the user with this id is called, if anything.
pub fn user_name(id: u32) -> Option<String> {
    // SAFETY: as above; the name is copied before anybody else can ask.
    unsafe { libc::getpwuid(id).as_ref().map(|entry| std::ffi::CStr::from_ptr(entry.pw_name)) }
        .map(|name| name.to_string_lossy().into_owned())
}

/// The PIDs of the running processes whose effective user is `id`, without our own.
pub fn pids_of_user(id: u32) -> Result<Vec<u32>, ProcError> {
    let own = std::process::id();
    let is_theirs = |pid: &u32| procfs::read_status(*pid).is_ok_and(|status| status.effective_uid == id);
    Ok(procfs::all_pids()?.into_iter().filter(|pid| *pid != own && is_theirs(pid)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_name_and_by_number() {
        assert_eq!((user_id("root"), user_id("4711"), user_id("no such user")), (Some(0), Some(4711), None));
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_id("a\0b"), None);
    }

    #[test]
    fn our_child_runs_as_our_user() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        // SAFETY: no arguments, cannot fail.
        let pids = pids_of_user(unsafe { libc::geteuid() }).expect("pids");
        assert!(pids.contains(&child.id()) && !pids.contains(&std::process::id()));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}
