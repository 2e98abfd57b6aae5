//! How long BPF programs run, as the kernel measures it where somebody asks for that.

use super::syscall::{BPF_ENABLE_STATS, bpf_fd};
use crate::process::system;
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

/// Of a program, since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTime {
    pub ns: u64,
    pub count: u64,
}

impl RunTime {
    /// `None` where the kernel does not say.
    pub(super) fn of(program: BorrowedFd<'_>) -> Option<Self> {
        let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
        parse(&system::read_text(path).ok()?)
    }

    /// With another program's.
    pub(super) fn with(self, other: Self) -> Self {
        Self { ns: self.ns.saturating_add(other.ns), count: self.count.saturating_add(other.count) }
    }

    /// What came since `before`.
    pub fn since(self, before: Self) -> Self {
        Self { ns: self.ns.saturating_sub(before.ns), count: self.count.saturating_sub(before.count) }
    }
}

/// Out of what `bpf_prog_show_fdinfo` (kernel/bpf/syscall.c) writes.
fn parse(text: &str) -> Option<RunTime> {
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().parse().ok()
    };
    Some(RunTime { ns: of("run_time_ns")?, count: of("run_cnt")? })
}

/// The kernel measures all programs until this is dropped, which costs each run some 20 ns.
pub struct Statistics(#[expect(dead_code, reason = "held")] OwnedFd);

impl Statistics {
    /// # Errors
    /// As bpf(2).
    pub fn on() -> io::Result<Self> {
        /// `union bpf_attr`'s part `enable_stats`; 0 is `BPF_STATS_RUN_TIME`.
        #[repr(C)]
        struct StatsAttr {
            kind: u32,
        }
        // SAFETY: the attribute is a number.
        unsafe { bpf_fd(BPF_ENABLE_STATS, &mut StatsAttr { kind: 0 }) }.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "pos:\t0\nprog_type:\t2\nrun_time_ns:\t123456\nrun_cnt:\t789\nrecursion_misses:\t0\n";
        assert_eq!(parse(text), Some(RunTime { ns: 123_456, count: 789 }));
        assert_eq!(parse("prog_type:\t2\n"), None);
    }
}
