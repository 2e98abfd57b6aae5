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
    before: Vec<Program>,
}

/// Runs of one program of this process.
#[derive(Clone, Debug)]
struct Program {
    descriptor: String,
    runs: f64,
    time_ns: f64,
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
        Ok(Self { _counting: counting, before: uprobe_programs()? })
    }

    /// Runs and mean nanoseconds a run since the start, of each program that ran; the busiest first.
    pub fn stop(self) -> Result<Vec<(f64, f64)>> {
        let mut runs: Vec<(f64, f64)> = Vec::new();
        for now in uprobe_programs()? {
            let before = self.before.iter().find(|before| before.descriptor == now.descriptor);
            let (runs_before, time_before) =
                before.map_or((0.0, 0.0), |before| (before.runs, before.time_ns));
            if now.runs > runs_before {
                let new = now.runs - runs_before;
                runs.push((new, (now.time_ns - time_before) / new));
            }
        }
        runs.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(runs)
    }
}

fn uprobe_programs() -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        // The directory's own descriptor is gone by now.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        if field("prog_type") == Some(BPF_PROG_TYPE_KPROBE) {
            let number = |name| field(name).unwrap_or_default().parse().context("no count in fdinfo");
            programs.push(Program {
                descriptor: entry.file_name().to_string_lossy().into_owned(),
                runs: number("run_cnt")?,
                time_ns: number("run_time_ns")?,
            });
        }
    }
    Ok(programs)
}
