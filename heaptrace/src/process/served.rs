//! Whose server gives what a file holds, where that is on FUSE. To place or take away a probe the kernel reads the file that it
//! is in, with the lock of the machine's forks held (`register_for_each_vma` and `copy_insn`, kernel/events/uprobes.c): a
//! server that does not answer then stops every tracer, and every fork.

use super::{device::Device, privileges, system};
use rustix::fs::fstatfs;
use std::{fmt, fs::File, io, os::unix::fs::MetadataExt as _};

/// include/uapi/linux/magic.h
const FUSE: u64 = 0x6573_5546;

/// Where fusectl is mounted, with a folder for each server that belongs to its user (fs/fuse/control.c).
const CONTROL: &str = "/sys/fs/fuse/connections";

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    User(u32),
    /// It is mounted where we do not see it.
    Unknown,
}

impl Server {
    /// Of the file system that an open file is on, if that has a server.
    pub fn of(file: &File) -> Option<Self> {
        // Of disks only root mounts any (fuseblk).
        let device = Device::of(file).filter(|device| device.major == 0)?;
        let mounts = system::read("/proc/self/mountinfo").unwrap_or_default();
        let owner = |number: u32| system::metadata(format!("{CONTROL}/{number}")).map(|of| of.uid());
        // Asks a server that we do not know, as reading the file does; one that fails to answer is one.
        let is_fuse = || fstatfs(file).map_or(true, |of| of.f_type as u64 == FUSE);
        known(&mounts, device, &owner, &is_fuse)
    }

    /// Whether it is root's, or of who runs heaptrace.
    pub fn is_trusted(self) -> bool {
        match self {
            Self::User(user) => privileges::is_trusted(user),
            Self::Unknown => false,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(to, "user {user}"),
            Self::Unknown => write!(to, "an unknown user"),
        }
    }
}

/// By what is mounted here. Mounts say a user by its number in the user namespace that they were made in, fusectl in ours.
fn known(
    mounts: &[u8],
    device: Device,
    owner: &dyn Fn(u32) -> io::Result<u32>,
    is_fuse: &dyn Fn() -> bool,
) -> Option<Server> {
    let mounts = || mounts.split(|byte| *byte == b'\n').filter_map(Mount::parse);
    if mounts().any(|mount| mount.kind == "fusectl" && mount.point == CONTROL) {
        return match owner(device.minor) {
            Ok(user) => Some(Server::User(user)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(Server::Unknown),
        };
    }
    match mounts().find(|mount| mount.device == device) {
        Some(mount) if mount.kind.split('.').next() == Some("fuse") => {
            let user = mount.options.split(',').find_map(|option| option.strip_prefix("user_id="));
            let user = user.and_then(|user| user.parse().ok());
            Some(user.map_or(Server::Unknown, Server::User))
        }
        Some(_) => None,
        // Of files without a mount (memfd), of subvolumes, or in a namespace of its own.
        None => is_fuse().then_some(Server::Unknown),
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    device: Device,
    point: &'a str,
    kind: &'a str,
    /// Of the file system.
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(line).ok()?.split(' ');
        let (major, minor) = fields.nth(2)?.split_once(':')?;
        let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
        let point = fields.nth(1)?;
        let mut behind = fields.skip_while(|field| *field != "-").skip(1);
        Some(Self { device, point, kind: behind.next()?, options: behind.nth(1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
31 22 0:41 / /mnt/a rw,nosuid shared:2 master:1 - fuse.sshfs host:/ rw,user_id=1000,group_id=1000,allow_other
32 22 0:42 / /mnt/b rw - fuse x rw,user_id=0,group_id=0
33 22 0:43 / /mnt/c ro - virtiofs share rw
35 22 0:44 / /mnt/e rw - fuse x rw
36 22 0:45 / /mnt/f rw - tmpfs tmpfs rw
no mount\n";

    fn of(mounts: &str, minor: u32, is_fuse: bool) -> Option<Server> {
        let owner = |number: u32| match number {
            41 => Ok(1000),
            42 => Ok(165_536),
            99 => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        known(mounts.as_bytes(), Device { major: 0, minor }, &owner, &|| is_fuse)
    }

    #[test]
    fn mounts_say_whose_server_it_is() {
        let of = |minor| of(MOUNTS, minor, false);
        assert_eq!((of(41), of(42)), (Some(Server::User(1000)), Some(Server::User(0))));
        assert_eq!((of(43), of(45)), (None, None));
        assert_eq!(of(44), Some(Server::Unknown));
    }

    #[test]
    fn what_is_mounted_elsewhere_is_known_by_its_kind() {
        assert_eq!(of(MOUNTS, 77, true), Some(Server::Unknown));
        assert_eq!(of(MOUNTS, 77, false), None);
    }

    #[test]
    fn fusectl_goes_before_as_it_knows_users_by_their_numbers_here() {
        let mounts = format!("{MOUNTS}40 22 0:50 / {CONTROL} rw - fusectl none rw\n");
        let of = |minor| of(&mounts, minor, true);
        // Mounted by the root of a user namespace.
        assert_eq!(of(42), Some(Server::User(165_536)));
        assert_eq!(of(41), Some(Server::User(1000)));
        assert_eq!((of(45), of(77), of(99)), (None, None, Some(Server::Unknown)));
    }

    #[test]
    fn root_and_who_runs_heaptrace_are_trusted() {
        assert!(Server::User(0).is_trusted() && Server::User(privileges::own_user()).is_trusted());
        assert!(!Server::User(privileges::own_user() + 1).is_trusted() && !Server::Unknown.is_trusted());
    }

    #[test]
    fn our_own_file_has_no_server() {
        let own = File::open("/proc/self/exe").expect("ourselves");
        let served = Server::of(&own);
        let is_fuse = fstatfs(&own).is_ok_and(|of| of.f_type as u64 == FUSE);
        assert_eq!(served.is_some(), is_fuse);
    }
}
