//! Time that the kernel spends in BPF programs, by its own count.

use anyhow::{Context as _, Result};
use std::{
    fs, io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// include/uapi/linux/bpf.h
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_STATS_RUN_TIME: u32 = 0;
const BPF_PROG_TYPE_KPROBE: &str = "2";

/// Makes the kernel count while it is held. That slows every program by two clock readings.
pub struct Counting {
    _counting: OwnedFd,
    before_ns: f64,
}

impl Counting {
    pub fn start() -> Result<Self> {
        let mut kind = BPF_STATS_RUN_TIME;
        // SAFETY: the attribute of this command is one u32.
        let fd = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw mut kind, size_of::<u32>() as libc::c_long)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("failed to have BPF run time counted");
        }
        // SAFETY: a new descriptor that nobody else owns.
        let counting = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Self { _counting: counting, before_ns: uprobe_time_ns()? })
    }

    /// Nanoseconds that this process's uprobe programs ran since the start, all together.
    pub fn stop(self) -> Result<f64> {
        Ok(uprobe_time_ns()? - self.before_ns)
    }
}

fn uprobe_time_ns() -> Result<f64> {
    let mut time_ns = 0.0;
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // The directory's own descriptor is gone by now.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        if field("prog_type") == Some(BPF_PROG_TYPE_KPROBE) {
            let time: f64 =
                field("run_time_ns").unwrap_or_default().parse().context("no run time in fdinfo")?;
            time_ns += time;
        }
    }
    Ok(time_ns)
}
