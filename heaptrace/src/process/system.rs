//! What the kernel says of the machine and of this process, and what only root writes: /sys, /proc/sys, /proc/self,
//! /etc/passwd. Nobody else has a say in where such a path leads, nor in how long what is there is.

#![expect(clippy::disallowed_methods, reason = "nobody but root and the kernel has a say in these")]

use std::{
    fs::{self, File, Metadata, ReadDir},
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    fs::read(path)
}

pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    fs::read_to_string(path)
}

/// Opens it for reading.
pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
    File::open(path)
}

pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    fs::metadata(path)
}

pub fn folder(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    fs::read_dir(path)
}

/// Now, in nanoseconds since the Unix epoch.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64
}

/// The running kernel's release, as `uname -r`; empty if it cannot be read.
pub fn kernel_release() -> String {
    let release = read_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_end().to_owned()
}

/// Whether we know processes by the PIDs that the kernel knows them by. `true` if that cannot be found out.
pub fn in_first_pid_namespace() -> bool {
    // PROC_PID_INIT_INO, include/linux/proc_ns.h, since Linux 3.8.
    fs::read_link("/proc/self/ns/pid").map_or(true, |link| link.as_os_str() == "pid:[4026531836]")
}

/// /proc/meminfo.
pub struct MemoryInfo(String);

impl MemoryInfo {
    /// `None` if it cannot be read.
    pub fn read() -> Option<Self> {
        read_text("/proc/meminfo").ok().map(Self)
    }

    /// The bytes that the field `name` is of, if it is there.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        let rest = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1 << 10)
    }
}

/// The size of huge pages where a call does not say it.
pub fn huge_page_size() -> u64 {
    MemoryInfo::read().and_then(|info| info.bytes("Hugepagesize")).unwrap_or(2 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_memory_are_found_by_their_whole_name() {
        let info = MemoryInfo("MemTotal:  16 kB\nSwapTotal:       3 kB\nHugePages_Total:  4\n".to_owned());
        assert_eq!(info.bytes("MemTotal"), Some(16 << 10));
        assert_eq!(info.bytes("SwapTotal"), Some(3 << 10));
        assert_eq!([info.bytes("Mem"), info.bytes("Total"), info.bytes("HugePages_Total")], [None; 3]);
    }
}
