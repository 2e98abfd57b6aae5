//! Users as targets: names, and who runs as whom.

use crate::process::{
    procfs::{self, ProcError},
    system,
};

/// The id of the user `name`, or `name` itself if it is a number. `None` if there is no such user.
pub fn user_id(name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    accounts(&local_accounts())
        .find(|account| account.0 == name)
        .map(|account| account.1)
        .or_else(|| id_of(name))
}

/// What the user with this id is called, if anything.
pub fn user_name(id: u32) -> Option<String> {
    let text = local_accounts();
    let local = accounts(&text).find(|account| account.1 == id).map(|account| account.0.to_owned());
    local.or_else(|| name_of(id))
}

/// What a local user's programs go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub group: u32,
    pub home: String,
}

/// The local account with this id.
pub fn account(id: u32) -> Option<Account> {
    account_of(&local_accounts(), id)
}

fn account_of(text: &str, id: u32) -> Option<Account> {
    text.lines().find_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
        [name, _, user, group, _, home, ..] if user.parse() == Ok(id) && !name.is_empty() => {
            Some(Account { name: name.to_owned(), group: group.parse().ok()?, home: home.to_owned() })
        }
        _ => None,
    })
}

fn local_accounts() -> String {
    system::read("/etc/passwd").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Name and id of each account of a passwd(5) file.
fn accounts(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((name, fields.nth(1)?.parse().ok()?))
    })
}

/// Users that are known elsewhere (LDAP, systemd): by the C library. One that is linked statically would load the
/// system's modules for that, with a second C library in them: it crashes.
#[cfg(not(target_feature = "crt-static"))]
fn id_of(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a NUL-terminated name; nobody else in this process asks for users, so the result stays as it is until
    // it is read.
    unsafe { libc::getpwnam(name.as_ptr()).as_ref().map(|entry| entry.pw_uid) }
}

#[cfg(not(target_feature = "crt-static"))]
fn name_of(id: u32) -> Option<String> {
    // SAFETY: as above; the name is copied before anybody else can ask.
    unsafe { libc::getpwuid(id).as_ref().map(|entry| std::ffi::CStr::from_ptr(entry.pw_name)) }
        .map(|name| name.to_string_lossy().into_owned())
}

#[cfg(target_feature = "crt-static")]
fn id_of(_: &str) -> Option<u32> {
    None
}

#[cfg(target_feature = "crt-static")]
fn name_of(_: u32) -> Option<String> {
    None
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
    fn accounts_are_read_and_what_is_none_is_left_out() {
        let text = "root:x:0:0:root:/root:/bin/sh\n+::::::\nbad\n:x:7:\nwww-data:x:33:33::/:\n";
        assert_eq!(accounts(text).collect::<Vec<_>>(), [("root", 0), ("www-data", 33)]);
    }

    #[test]
    fn an_account_has_a_group_and_a_home() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbad:7\nann:x:7:8:Ann,,,:/home/ann:/bin/sh\n";
        let ann = Account { name: "ann".into(), group: 8, home: "/home/ann".into() };
        assert_eq!((account_of(text, 7), account_of(text, 9)), (Some(ann), None));
    }

    #[test]
    fn our_child_runs_as_our_user() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let pids = pids_of_user(rustix::process::geteuid().as_raw()).expect("pids");
        assert!(pids.contains(&child.id()) && !pids.contains(&std::process::id()));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}
