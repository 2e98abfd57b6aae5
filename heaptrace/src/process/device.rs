//! Which file system a file is on, without asking that file system: it may not answer.

use super::system;
use rustix::fs::{AtFlags, StatxFlags, statx};
use std::{
    ffi::OsString,
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

/// A device number, as mountinfo and the mappings of processes have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl Device {
    /// Of an open file, as the kernel knows it by itself.
    pub fn of(file: impl AsFd) -> Option<Self> {
        // `fuse_update_get_attr`, fs/fuse/dir.c, sends nothing then.
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let of = statx(file, c"", how, StatxFlags::TYPE).ok()?;
        Some(Self { major: of.stx_dev_major, minor: of.stx_dev_minor })
    }

    /// Of what is at an absolute path here, by what is mounted where. Links on the way may lead to another.
    pub fn at(path: &Path) -> Option<Self> {
        at_in(&system::read("/proc/self/mountinfo").ok()?, path)
    }

    /// Whether its file system asks a server, which may be gone: not that of a disk, nor one that we have mounted and that is
    /// the kernel's own (overlayfs, tmpfs). What others have mounted for themselves may be any.
    pub fn may_be_deaf(&self) -> bool {
        self.major == 0 && may_be_deaf_in(&system::read("/proc/self/mountinfo").unwrap_or_default(), *self)
    }
}

/// Beginnings of the names of file systems that ask a server.
const REMOTE: [&[u8]; 10] =
    [b"fuse", b"nfs", b"cifs", b"smb", b"9p", b"ceph", b"afs", b"virtiofs", b"lustre", b"orangefs"];

fn may_be_deaf_in(mountinfo: &[u8], device: Device) -> bool {
    let mounts = mountinfo.split(|byte| *byte == b'\n');
    let mut of_device = mounts.filter(|line| device_in(line).is_some_and(|(of, _)| of == device));
    of_device.next().is_none_or(|line| {
        // Behind a single hyphen, as before it there is any number of fields.
        let mut fields = line.split(|byte| *byte == b' ').skip_while(|field| *field != b"-");
        let kind = fields.nth(1).unwrap_or_default();
        REMOTE.iter().any(|name| kind.starts_with(name))
    })
}

/// The device of a line of mountinfo (proc_pid_mountinfo(5)), and where it is mounted.
fn device_in(line: &[u8]) -> Option<(Device, OsString)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (device, point) = (fields.nth(2)?, fields.nth(1)?);
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    Some((Device { major: major.parse().ok()?, minor: minor.parse().ok()? }, spelled_out(point)))
}

fn at_in(mountinfo: &[u8], path: &Path) -> Option<Device> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(device_in);
    let above = mounts.filter(|(_, point)| path.starts_with(point));
    // Of two at one place the later one covers the other.
    above.max_by_key(|(_, point)| point.as_bytes().len()).map(|(device, _)| device)
}

/// Without the octal escapes of blanks and the like.
fn spelled_out(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..3).filter(|_| *first == b'\\').and_then(|it| std::str::from_utf8(it).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &behind[3..] } else { behind };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::unix::fs::MetadataExt as _};

    const MOUNTS: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt rw - tmpfs tmpfs rw
31 30 0:41 / /mnt/a\\040b rw,nosuid shared:2 master:1 - fuse.sshfs host:/ rw
32 22 0:42 / /mnt rw - fuse x rw
no mount\n";

    #[test]
    fn the_deepest_mount_that_was_made_last_has_the_file() {
        let at = |path: &str| at_in(MOUNTS, Path::new(path)).map(|device| (device.major, device.minor));
        assert_eq!(at("/usr/lib/x"), Some((8, 1)));
        assert_eq!(at("/mnt/file"), Some((0, 42)));
        assert_eq!(at("/mnt/a b/file"), Some((0, 41)));
        assert_eq!(at("/mntx"), Some((8, 1)));
        assert_eq!(at("relative"), None);
    }

    #[test]
    fn file_systems_that_ask_a_server_may_be_deaf_and_those_that_nobody_here_knows() {
        let deaf = |major, minor| may_be_deaf_in(MOUNTS, Device { major, minor });
        assert_eq!([deaf(0, 40), deaf(0, 41), deaf(0, 42), deaf(0, 99)], [false, true, true, true]);
        assert!(!Device { major: 8, minor: 99 }.may_be_deaf());
    }

    #[test]
    fn an_open_files_device_is_the_one_of_stat() {
        let file = File::open("/proc/self/exe").expect("ourselves");
        let device = Device::of(&file).expect("a device");
        let number = file.metadata().expect("metadata").dev();
        assert_eq!((device.major, device.minor), (libc::major(number), libc::minor(number)));
    }
}
