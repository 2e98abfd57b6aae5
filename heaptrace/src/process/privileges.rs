//! What this process may do: the capabilities that tracing uses, which of them are there, and how to get the others.
//! Also gives them up where a command needs none.

use super::system;
use caps::{CapSet, Capability, CapsHashSet};
use rustix::process::{getegid, geteuid, getgid, getuid};
use std::fmt;

/// A capability, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub capability: Capability,
    /// Whether nothing can be traced without it.
    pub required: bool,
    /// Whether it belongs to the set that heaptrace is to be given.
    pub granted: bool,
    pub used_for: &'static str,
    pub otherwise: &'static str,
}

/// What tracing uses, by weight. Found by leaving out one after the other (`tests/suites/privileges.rs`).
pub const NEEDS: [Need; 6] = [
    Need {
        capability: Capability::CAP_BPF,
        required: true,
        granted: true,
        used_for: "loading BPF programs and making their maps",
        otherwise: "nothing can be traced",
    },
    Need {
        capability: Capability::CAP_PERFMON,
        required: true,
        granted: true,
        used_for: "placing probes, reading stacks in them, and news of code mappings",
        otherwise: "nothing can be traced",
    },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        required: false,
        granted: true,
        used_for: "looking at processes of other users, and at setuid programs, in /proc",
        otherwise: "only your own processes can be traced",
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        required: false,
        granted: true,
        used_for: "reading programs and libraries that only their owner may read, and tracefs",
        otherwise: "allocators in such files are not traced, stacks through them end early, and brk and mmap are not traced",
    },
    Need {
        capability: Capability::CAP_CHECKPOINT_RESTORE,
        required: false,
        granted: false,
        used_for: "reading libraries that were deleted or replaced on disk while a process maps them",
        otherwise: "allocators in such libraries are not traced; a deleted program itself is",
    },
    Need {
        capability: Capability::CAP_SYS_NICE,
        required: false,
        granted: false,
        used_for: "reaching forked children at once on a busy machine",
        otherwise: "the first calls of more children may be missed; the report says for how long",
    },
];

/// Who is trusted beside root: who runs heaptrace, by sudo if so.
pub fn own_user() -> u32 {
    match geteuid().as_raw() {
        // Nobody but root says so to root.
        0 => std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok()).unwrap_or(0),
        user => user,
    }
}

/// Whether user `uid` is root, or who runs heaptrace.
pub fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == own_user()
}

/// What this process may do, as it was when read.
#[derive(Clone, Debug)]
pub struct Privileges {
    pub uid: u32,
    pub effective_uid: u32,
    /// Whether we are in a user namespace other than the machine's, where capabilities do not count for BPF.
    pub in_user_namespace: bool,
    effective: CapsHashSet,
}

impl Privileges {
    /// Reads them. What cannot be read counts as not there.
    pub fn read() -> Self {
        let map = system::read_text("/proc/self/uid_map").unwrap_or_default();
        Self {
            uid: getuid().as_raw(),
            effective_uid: geteuid().as_raw(),
            in_user_namespace: !map.is_empty() && !is_initial_map(&map),
            effective: caps::read(None, CapSet::Effective).unwrap_or_default(),
        }
    }

    /// Whether `capability` is there, by itself or through CAP_SYS_ADMIN, which counts for some of them
    /// (`bpf_capable` and its kin, include/linux/capability.h).
    pub fn holds(&self, capability: Capability) -> bool {
        use Capability::{CAP_BPF, CAP_CHECKPOINT_RESTORE, CAP_PERFMON, CAP_SYS_ADMIN};
        let through_admin = matches!(capability, CAP_BPF | CAP_PERFMON | CAP_CHECKPOINT_RESTORE);
        self.effective.contains(&capability) || through_admin && self.effective.contains(&CAP_SYS_ADMIN)
    }

    /// What is not there.
    pub fn missing(&self) -> impl Iterator<Item = Need> + '_ {
        NEEDS.into_iter().filter(|need| !self.holds(need.capability))
    }

    /// Why the kernel refuses, as far as it can be told.
    pub fn lack(&self) -> String {
        let missing: Vec<String> =
            self.missing().filter(|need| need.required).map(|need| need.capability.to_string()).collect();
        match missing.as_slice() {
            [] if self.in_user_namespace => {
                "the capabilities that this process has are those of a user namespace (a rootless container), and do \
                 not count for BPF; run heaptrace outside of it"
                    .to_owned()
            }
            [] => "no capability is missing, so something else forbids it: kernel lockdown, a security module, or a \
                   seccomp filter of the container"
                .to_owned(),
            [one] => format!("{one} is missing"),
            more => format!("{} are missing", more.join(" and ")),
        }
    }

    /// The same, and what to do about it.
    pub fn advice(&self) -> String {
        let lack = self.lack();
        if self.missing().any(|need| need.required) {
            format!("{lack}; run heaptrace with sudo, or give it {Granted} (`heaptrace doctor` says how)")
        } else {
            lack
        }
    }
}

/// The capabilities to give heaptrace, as a list for people.
struct Granted;

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = granted().map(|capability| capability.to_string()).collect();
        match names.split_last() {
            Some((last, rest)) => write!(f, "{} and {last}", rest.join(", ")),
            None => Ok(()),
        }
    }
}

/// The capabilities to give heaptrace.
pub fn granted() -> impl Iterator<Item = Capability> {
    NEEDS.into_iter().filter(|need| need.granted).map(|need| need.capability)
}

/// Whether a `uid_map` is that of the machine's own user namespace: everything, as it is.
fn is_initial_map(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// heaptrace runs as another user than the one who called it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "heaptrace is installed setuid or setgid and would write files in another's name: take that off (chmod ug-s), \
     and use sudo or file capabilities (`heaptrace doctor` says how)"
)]
pub struct Setuid;

/// Fails where files would not be written with the caller's own rights.
pub fn refuse_setuid() -> Result<(), Setuid> {
    if getuid() == geteuid() && getgid() == getegid() { Ok(()) } else { Err(Setuid) }
}

/// Gives up all capabilities of a caller who is not root: what only reads and writes files does that with the
/// caller's own rights, also where the program file was given more. Call it before there are threads.
pub fn drop_all() -> Result<(), caps::errors::CapsError> {
    if geteuid().is_root() {
        return Ok(());
    }
    // The ambient set follows the permitted one.
    [CapSet::Effective, CapSet::Inheritable, CapSet::Permitted]
        .into_iter()
        .try_for_each(|set| caps::clear(None, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(capabilities: &[Capability]) -> Privileges {
        Privileges {
            uid: 1000,
            effective_uid: 1000,
            in_user_namespace: false,
            effective: capabilities.iter().copied().collect(),
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let advice = with(&[Capability::CAP_BPF]).advice();
        assert!(advice.starts_with("CAP_PERFMON is missing; run heaptrace with sudo"), "{advice}");
        assert!(advice.contains("CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"), "{advice}");
        let advice = with(&[]).advice();
        assert!(advice.starts_with("CAP_BPF and CAP_PERFMON are missing"), "{advice}");
    }

    #[test]
    fn cap_sys_admin_counts_as_some_and_not_as_others() {
        let admin = with(&[Capability::CAP_SYS_ADMIN]);
        let missing: Vec<_> = admin.missing().map(|need| need.capability).collect();
        let expected =
            [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_NICE];
        assert_eq!(missing, expected);
    }

    #[test]
    fn with_everything_there_something_else_is_to_blame() {
        let all: Vec<_> = granted().collect();
        assert!(with(&all).advice().contains("lockdown"));
        let contained = Privileges { in_user_namespace: true, ..with(&all) };
        assert!(contained.advice().contains("user namespace"));
    }

    #[test]
    fn the_machines_own_user_namespace_is_told_from_others() {
        assert!(is_initial_map("         0          0 4294967295\n"));
        assert!(!is_initial_map("         0       1000          1\n"));
        assert!(!is_initial_map("0 0 65536\n1000 100000 65536\n"));
    }
}
