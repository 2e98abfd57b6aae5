//! A small machine, for tests.

use super::{
    arm::ProbeCost,
    history::History,
    row::{self, Row},
    sample::{About, Header, Mapped, Memory, Sample, Seen, Sources, Traced},
};
use crate::process::procfs::Identity;
use std::sync::Arc;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

struct Process {
    pid: u32,
    parent: u32,
    user: &'static str,
    comm: &'static str,
    command: &'static str,
    cgroup: &'static str,
    virt: u64,
    res: u64,
    heap: u64,
    grows: u64,
}

const PROCESSES: [Process; 5] = [
    Process {
        pid: 1,
        parent: 0,
        user: "root",
        comm: "init",
        command: "/sbin/init",
        cgroup: "/init.scope",
        virt: 22 * MIB,
        res: 5 * MIB,
        heap: MIB,
        grows: 0,
    },
    Process {
        pid: 812,
        parent: 1,
        user: "redis",
        comm: "redis-server",
        command: "/usr/bin/redis-server 127.0.0.1:6379",
        cgroup: "/system.slice/redis.service",
        virt: 66 * MIB,
        res: 14 * MIB,
        heap: 7 * MIB,
        grows: 4096,
    },
    Process {
        pid: 900,
        parent: 1,
        user: "postgres",
        comm: "postgres",
        command: "/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql",
        cgroup: "/system.slice/postgresql.service",
        virt: 213 * MIB,
        res: 29 * MIB,
        heap: 2 * MIB,
        grows: 0,
    },
    Process {
        pid: 901,
        parent: 900,
        user: "postgres",
        comm: "postgres",
        command: "postgres: checkpointer ",
        cgroup: "/system.slice/postgresql.service",
        virt: 213 * MIB,
        res: 7 * MIB,
        heap: MIB,
        grows: 0,
    },
    Process {
        pid: 1200,
        parent: 1,
        user: "root",
        comm: "python3",
        command: "python3 /srv/app/worker.py --queue high --verbose",
        cgroup: "/user.slice/user-0.slice/session-1.scope",
        virt: 700 * MIB,
        res: 300 * MIB,
        heap: 280 * MIB,
        grows: 50_000,
    },
];

pub fn memory() -> Memory {
    Memory { total: 16 * GIB, available: 12 * GIB, swap_total: 0, swap_free: 0 }
}

/// The refresh at this second; `traced`: redis has probes.
pub fn sample(second: u64, traced: bool) -> Sample {
    let seen = |process: &Process| {
        let grown = process.grows * second;
        let uid = if process.user == "root" { 0 } else { 100 };
        Seen {
            identity: Identity { pid: process.pid, start_time: u64::from(process.pid) },
            parent: process.parent,
            about: Arc::new(About {
                uid,
                user: process.user.into(),
                comm: process.comm.into(),
                command: process.command.into(),
                cgroup: process.cgroup.into(),
            }),
            virt: process.virt,
            res: process.res + grown,
            heap: process.heap + grown,
            faults: 1000 + grown / 4096,
            cpu_ns: second * 10_000_000,
        }
    };
    let redis = Traced {
        live_bytes: 1_234_567 + 1000 * second,
        live_blocks: 12_345,
        allocs: 30_000 * second,
        frees: 29_000 * second,
        unknown_frees: 17,
        cost: Some(ProbeCost { alloc_ns: 1_000.0, free_ns: 500.0 }),
        top_site: Some("sdsnewlen sds.c:111".into()),
    };
    Sample {
        at_ns: (second + 1) * 1_000_000_000,
        memory: memory(),
        seen: PROCESSES.iter().map(seen).collect(),
        mapped: [(1200, Mapped { brk: 0, mmap: 65_536 * second, munmap: 0 })].into(),
        traced: if traced { [(812, redis)].into() } else { Default::default() },
    }
}

/// A minute's refreshes.
pub fn history(traced: bool) -> (History, Sample) {
    let mut history = History::default();
    for second in 0..=60 {
        history.add(&sample(second, traced));
    }
    (history, sample(60, traced))
}

/// The rows after a minute; redis is traced.
pub fn rows() -> Vec<Row> {
    let (history, sample) = history(true);
    row::rows(&sample, &history)
}

pub fn header(traced: bool) -> Header {
    Header {
        clock: "12:34:56".into(),
        memory: memory(),
        processes: PROCESSES.len(),
        kernel_threads: 61,
        chosen: None,
        interval_s: 1.0,
        sources: Sources {
            no_growth: None,
            syscall_ns: Some(87.4),
            growth_bytes: 72 * MIB,
            traced: usize::from(traced),
            traced_shown: usize::from(traced),
            all: false,
            events_per_s: if traced { 59_000.0 } else { 0.0 },
            processors: traced.then_some(0.0445),
            table_bytes: if traced { 201 * MIB } else { 0 },
        },
        notes: if traced {
            vec!["lost 3 (ring_full: events of processes and mappings)".into()]
        } else {
            vec![]
        },
    }
}
